"""What the Snakefile asks about a study: its settings, checked, and the tasks that there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.base.recipe import N_FOLDS, SCRIPTS, choices, find_scripts, load_recipe
from de3dgan.data import sources

#: The settings that config.yaml explains.
SETTINGS = (
    *("tasks", "protocol", "fold_seeds", "seeds", "folds", "method", "augmentations"),
    *(f"{stage}_{kind}" for stage in SCRIPTS for kind in ("epochs", "flags")),
    *("source", "data_dir", "preprocess_flags", "features", "runs", "device", "at_once"),
)


class Study:
    """The settings of a study.

    Parameters
    ----------
    config : dict
        Those of config.yaml, which explains them. Several values are a list, or a text of words.

    Raises
    ------
    UserError
        If a setting cannot be meant, naming it.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        for name in set(config) - set(SETTINGS):
            raise UserError(f'There is no setting "{name}": choose from {", ".join(SETTINGS)}.')
        self._scripts = {stage: find_scripts(stage) for stage in SCRIPTS}
        self.tasks = [
            _one_of("task", name, self._scripts["gan"]) for name in _several(config, "tasks")
        ]
        # The scripts say what a flag can be; those of all tasks say the same.
        recipe = load_recipe(self.script("finetune", self.tasks[0]))
        for name in ("protocol", "method", "device"):
            setattr(self, name, _one_of(name, config[name], choices(recipe, name)))
        if self.protocol == "within":
            raise UserError(
                "A study does not go through protocol within: give it to the stages' scripts, "
                "which train one person after the other, and then report.py."
            )
        known = choices(recipe, "augmentation")
        self.augmentations = [
            _one_of("augmentation", name, known) for name in _several(config, "augmentations")
        ]
        self.fold_seeds, self.seeds = (
            [_whole(name, seed, 0, 2**32 - 1) for seed in _several(config, name)]
            for name in ("fold_seeds", "seeds")
        )
        self.folds = [_whole("folds", fold, 0, N_FOLDS - 1) for fold in _several(config, "folds")]
        self.at_once = _whole("at_once", config["at_once"], 1, 10)
        #: By stage: what its script is told beside the fold and the places.
        self.flags = {stage: self._flags(config, stage) for stage in SCRIPTS}

        if "people" in self.augmentations and "--train-groups" not in self.flags["finetune"]:
            raise UserError(
                "The augmentation people takes people who are not trained on: give --train-groups "
                "in gan_flags, classifier_flags and finetune_flags."
            )

        #: What preprocess_de.py is told beside the source and the places.
        self.preprocess_flags = str(config["preprocess_flags"] or "")
        self._source = config["source"]
        for source in self.sources:
            _one_of("source", source, sources.names())
        self._data_dir = config["data_dir"]
        if self._data_dir is not None and len(self.sources) > 1:
            raise UserError(
                f"data_dir is the folder of one source, and the tasks {', '.join(self.tasks)} have "
                f"{len(self.sources)}: leave it out, or make two studies of it."
            )
        self.features = ROOT / Path(str(config["features"])).expanduser()
        published = "-published" if self.method == "published" else ""
        self.runs = ROOT / Path(str(config["runs"] or f"runs/study{published}")).expanduser()

    def _flags(self, config: Mapping[str, Any], stage: str) -> str:
        flags = f"--method {self.method}"
        if config[f"{stage}_epochs"] is not None:
            flags += f" --epochs {_whole(f'{stage}_epochs', config[f'{stage}_epochs'], 1)}"
        return f"{flags} {config[f'{stage}_flags'] or ''}".rstrip()

    def script(self, stage: str, task: str) -> Path:
        """Return the script of a stage of a task."""
        if task not in self._scripts[stage]:
            raise UserError(f"The task {task} has no {SCRIPTS[stage]} script: copy one for it.")
        return self._scripts[stage][task]

    @property
    def sources(self) -> list[str]:
        """The sources of all tasks, each once."""
        return list(dict.fromkeys(self.source(task) for task in self.tasks))

    def source(self, task: str) -> str:
        """Return the source of a task's recordings."""
        return self._source or load_recipe(self.script("gan", task)).data_dir.name

    def trained_for(self, task: str) -> str:
        """Return the first task on the same store, whose generators the others take."""
        return next(name for name in self.tasks if self.source(name) == self.source(task))

    def data_dir(self, source: str) -> Path:
        """Return the folder of a source's recordings."""
        return ROOT / Path(self._data_dir or sources.load(source).DEFAULT_DIR).expanduser()

    def recordings(self, source: str) -> list[Path]:
        """Return the recordings of a source, none if something is wrong: preprocessing says so."""
        try:
            subjects = sources.load(source).find(self.data_dir(source))
        except UserError:
            return []
        return [path for files in subjects.values() for path in files]

    @property
    def stages(self) -> list[str]:
        """The folders of a fold: its stages, and stage 3 once for each augmentation."""
        tuned = [
            "finetune" if name == "generated" else f"finetune-{name}" for name in self.augmentations
        ]
        return ["gan", "classifier", *tuned]

    def store(self, source: str) -> Path:
        """Return the folder of a source's store."""
        return self.features / f"study-{source}"


def _several(config: Mapping[str, Any], name: str) -> list[Any]:
    """Return the values of a setting, each once."""
    value = config[name]
    values = value.split() if isinstance(value, str) else value
    values = values if isinstance(values, list) else [] if values is None else [values]
    if not values:
        raise UserError(f"A study needs at least one of its {name}, and there is none.")
    return list(dict.fromkeys(values))


def _one_of(kind: str, value: Any, known: Iterable[str]) -> str:
    if value not in known:
        raise UserError(f'There is no {kind} "{value}": choose from {", ".join(sorted(known))}.')
    return value


def _whole(name: str, value: Any, lowest: int, highest: int | None = None) -> int:
    """Return a whole number, which the command line may have left as text."""
    if not re.fullmatch(r"\d+", str(value)) or not lowest <= int(value) <= (highest or int(value)):
        upper = "or more" if highest is None else f"to {highest}"
        raise UserError(f"{name} must be a whole number, {lowest} {upper}, and {value!r} is not.")
    return int(value)
