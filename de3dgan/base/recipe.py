"""Recipes: what a stage script is told, how that is checked, and the command that repeats it.

A stage script has a frozen dataclass `Config`, made from `Recipe`, and a `Published` made from
that: every value of a stage, for our method and for the paper's. This module is the one that knows
how to find these scripts, to read their values and to write them down as a command line.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import json
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_type_hints

from de3dgan.base.errors import UserError
from de3dgan.base.files import read_csv
from de3dgan.base.paths import CODE, ROOT, from_root
from de3dgan.base.programs import SCRIPTS, program

N_FOLDS = 5
#: What a split keeps on one side, see `de3dgan.data.splits`.
Protocol = Literal["trial", "video", "subject", "session", "within", "random-frame"]
#: What parts low from high: the middle of the rating's scale, the person's median over trials that
#: are trained on, or a number; "classes" for a column of class numbers.
Threshold = float | Literal["middle", "median", "classes"]

#: Fields that the three stages of a fold must agree on.
SHARED_BY_FOLD = ("fold", "protocol", "person", "fold_seed", "train_groups", "seed")
SHARED_BY_FOLD += ("task", "ratings", "threshold", "class_names", "method")
#: Fields that say where a run happens, not what it computes; of a split's file, the split's
#: fingerprint says that.
_PLACES = ("data_dir", "split_file", "runs_dir", "device", "restart")
#: Numbers that must be 1 or more; all others but `threshold` must be 0 or more.
_COUNTS = {
    *("epochs", "batch_size", "critic_every"),
    *("widths", "critic_widths", "critic_hidden", "n_features", "virtual_people"),
}
#: Numbers that must be below 1.
_SHARES = {"dropout", "ema_decay"}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The values that all stages have; a stage's script adds its own. Each is a flag."""

    # --- the task (the generator and the folds know nothing of it)
    task: str  # name of the task: the folder below runs/
    ratings: tuple[str, ...]  # columns of trials.csv; n make 2^n classes
    threshold: Threshold = "middle"  # above it a rating is high, see Threshold in base/recipe.py
    class_names: tuple[str, ...]  # as figures call them

    # --- where and on whom
    data_dir: Path  # store that preprocess_de.py made
    runs_dir: Path = Path("runs")  # where results go, and where earlier stages left theirs
    protocol: Protocol = "trial"  # what is never on both sides of the split, see README
    person: str | None = None  # of protocol within: whose trials; default: one after the other's
    fold: int = 0  # which fifth is tested on, 0 to 4
    fold_seed: int = 520  # draws the folds; published: 520
    split_file: Path | None = None  # or a file that says who is trained, validated and tested on
    train_groups: int = 0  # train on so many groups of the training split only; 0: on all
    seed: int = 520  # draws the initial weights and the batches
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one
    precision: Literal["auto", "fp32", "bf16"] = "auto"  # auto: bf16 if measured to be faster here
    compile: Literal["auto", "on", "off"] = "auto"  # with torch.compile or without; auto: off
    restart: bool = False  # begin anew instead of going on

    # --- the method
    method: Literal["spectral", "published"] = "spectral"  # ours, or the paper's

    # --- the training
    epochs: int  # passes over the training data, or parts of `epoch_steps` steps
    epoch_steps: int = 0  # steps of an epoch; 0: what one pass over the training data takes
    batch_size: int  # items per step
    ema_decay: float  # the weights handed over are an EMA of those of all steps; 0: the last

    @property
    def n_classes(self) -> int:
        """Number of classes: high and low of each rating, in all combinations, or of a column."""
        return len(self.class_names)

    def check(self) -> None:
        """Refuse values that cannot be meant.

        Raises
        ------
        UserError
            Naming the flag.
        """
        if not 0 <= self.fold < N_FOLDS:
            raise UserError(f"There is no fold {self.fold}: choose one from 0 to {N_FOLDS - 1}.")
        if not self.ratings:
            raise UserError("--ratings needs at least one column of trials.csv.")
        if self.threshold == "classes":
            if len(self.ratings) > 1 or self.n_classes < 2:
                raise UserError(
                    "--threshold classes takes one column of class numbers as --ratings, and "
                    "--class-names two names or more."
                )
        elif self.n_classes != 2 ** len(self.ratings):
            raise UserError(
                f"--class-names needs a name for each of the {2 ** len(self.ratings)} classes, and "
                f"has {self.n_classes}."
            )
        if self.person and self.protocol != "within":
            raise UserError("--person is for --protocol within, and the protocol is another.")
        if getattr(self, "augmentation", None) == "people" and not self.train_groups:
            raise UserError(
                "--augmentation people takes groups that are not trained on, and there are none "
                "without --train-groups: give it the number of groups to train on."
            )
        if not re.fullmatch(r"\w[\w-]*", self.task):
            raise UserError(f"--task names a folder, and {self.task!r} is not letters and digits.")
        for name in ("seed", "fold_seed"):
            if getattr(self, name) >= 2**32:
                raise UserError(
                    f"{_flag(name)} must be below 2^32, and {getattr(self, name)} is not."
                )
        if self.split_file is not None and self.protocol == "within":
            raise UserError("--split-file names who is trained on, and protocol within is of one.")
        if self.split_file is not None and self.fold:
            raise UserError(f"--split-file is one split, fold 0: there is no fold {self.fold}.")
        for name, value in vars(self).items():
            values = value if isinstance(value, tuple) else (value,)
            if name == "threshold" or not all(type(v) in (int, float) for v in values):
                continue
            lowest = 1 if name in _COUNTS else 0
            if not min(values) >= lowest:  # NaN is not, either
                raise UserError(f"{_flag(name)} must be at least {lowest}, and {value} is not.")
            if name in _SHARES and not value < 1:
                raise UserError(f"{_flag(name)} must be below 1, and {value} is not.")

    def each(self) -> list[Recipe]:
        """Return the runs it stands for: of protocol ``within`` one for each person, else itself.

        Raises
        ------
        UserError
            If the store's table of trials cannot be read.
        """
        path = from_root(self.data_dir) / "trials.csv"
        if self.protocol != "within" or self.person or not path.is_file():
            return [self]
        subjects = read_csv(path, "make it anew with preprocess_de.py.").get("subject", [""])
        return [dataclasses.replace(self, person=person) for person in dict.fromkeys(subjects)]

    def settings(self) -> dict[str, Any]:
        """Return the values that shape a result, as JSON would hold them."""
        values = {k: v for k, v in dataclasses.asdict(self).items() if k not in _PLACES}
        return json.loads(json.dumps(values))

    def command(self, stage: str | None = None) -> str:
        """Return the command that makes this run again, or that runs another stage of its fold.

        Parameters
        ----------
        stage : str, optional
            A stage whose script lies beside this recipe's, and that is to have the same fold, data
            and method; by default this recipe's own, with all its values.
        """
        script = Path(inspect.getfile(type(self)))
        values = {name: value for name, value in vars(self).items() if name != "restart"}
        if stage is not None:
            shared = (*SHARED_BY_FOLD, "data_dir", "split_file", "runs_dir")
            values = {name: value for name, value in values.items() if name in shared}
            own = next(name for name in SCRIPTS.values() if script.stem.startswith(f"{name}_"))
            script = script.with_name(script.name.replace(own, SCRIPTS[stage]))
        words = flag_words(values, type(self))
        return " ".join([program(script), *words])


def flag_words(values: Mapping[str, Any], recipe: type[Recipe] | None) -> list[str]:
    """Return the flags of a command, each with its values as one word.

    Parameters
    ----------
    values : dict
        What the script is to be told: fields of a recipe, or settings out of a file.
    recipe : type of Recipe, optional
        Whose defaults need not be told; but the fold is, and the method if it is not the script's.
    """
    defaults = {} if recipe is None else _defaults(recipe)
    words = []
    for name, value in values.items():
        plain = _plain(value)
        usual = name in defaults and plain == defaults[name]
        told = name == "fold" or (name == "method" and value == "published")
        if told or not usual:
            several = value if isinstance(value, list | tuple) else [value]
            words.append(" ".join([_flag(name), *(shlex.quote(str(one)) for one in several)]))
    return words


def load_script(path: Path) -> ModuleType:
    """Import a stage's script, which runs nothing but its imports."""
    name = f"script {path.resolve()}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def load_recipe(path: Path, method: str = "spectral") -> type[Recipe]:
    """Return the recipe of a stage's script for a method."""
    script = load_script(path)
    return {"spectral": script.Config, "published": script.Published}[method]


def find_scripts(stage: str) -> dict[str, Path]:
    """Return every script of a stage, yours too, by the name that it gives its task."""
    name = SCRIPTS[stage]
    below = [f"{name}_*.py", f"*-main/{name}_*.py"]
    # Of an installed package yours are in the working directory, and come last, to be preferred.
    folders = [CODE] if CODE == ROOT else [CODE, ROOT]
    paths = [path for folder in folders for each in below for path in sorted(folder.glob(each))]
    return {_defaults(load_recipe(path))["task"]: path for path in paths}


def choices(recipe: type[Recipe], name: str) -> tuple[str, ...]:
    """Return the values that a field can have, one of which it is."""
    return get_args(get_type_hints(recipe)[name])


def _defaults(recipe: type[Recipe]) -> dict[str, Any]:
    return {f.name: _plain(f.default) for f in dataclasses.fields(recipe)}


def _plain(value: Any) -> Any:
    """Return a value such that those that mean the same are equal, out of a file or not."""
    if isinstance(value, Path):
        return str(ROOT / value)
    return list(value) if isinstance(value, tuple) else value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
