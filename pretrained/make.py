"""A generator of everyone, for others to use: trained on all people of a store, with its prior.

python pretrained/make.py --data-dir DE_feature/eegmat-36

Writes  pretrained/<name>/model.pt    the generator and the prior over DE
        pretrained/<name>/CARD.md     its model card

The recipe is that of the task's stage 1, but nobody is left out: neither to choose the epoch,
which is the last, nor to test. So nothing of it can be measured on people it has not seen. The same
recipe was measured where people were left out; the card says where. `--measured` names directories
of such runs, whose figures are then in the card.

Weights of the U-Net, and what recordings have in common, are rounded to float16.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.files import make_folder, read_json, read_object, write_text
from de3dgan.base.paths import ROOT, display_path, from_root
from de3dgan.base.recipe import SCRIPTS, find_scripts, load_recipe
from de3dgan.data.splits import everyone
from de3dgan.eeg.de import trial_de
from de3dgan.models import SpectralGenerator
from de3dgan.stages import spectral_generator
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.pretrained import PRETRAINED, load
from de3dgan.stages.trials import Trials, spread
from de3dgan.stages.virtual import Population, sampler_of
from de3dgan.training import checkpoints, model_card
from de3dgan.training.run import Run

#: What has the names of weights that are rounded to float16.
_ROUNDED = ("unet.", "recordings.exponents", "recordings.levels")
#: Trials and virtual people that the error of DE is measured on.
_N_TRIALS, _N_PEOPLE = 8, 4
#: Sources whose licence allows to pass on what is made of them: who is to be named, and how.
CREDITS = {
    "eegmat": "The recordings are *EEG During Mental Arithmetic Tasks* 1.0.0, by I. Zyma, S. "
    "Tukaev, I. Seleznov, K. Kiyono, A. Popov, M. Chernykh and O. Shpenkov (Data 4(1):14, 2019, "
    "[doi 10.3390/data4010014](https://doi.org/10.3390/data4010014)), published on PhysioNet "
    "([doi 10.13026/C2JQ1P](https://doi.org/10.13026/C2JQ1P)) under the [Open Data Commons "
    "Attribution License 1.0](https://opendatacommons.org/licenses/by/1-0/), which asks whoever "
    "uses what is made of them to name this source.",
}
#: What they are, and are not.
ABOUT = {
    "eegmat": (
        "Rest and arithmetic are one recording each of a person, cleaned apart by those who "
        "published them: what tells them apart may be the cleaning, in generated EEG as well.",
        "Both come from healthy young adults, in one laboratory, with one device.",
    ),
}


@dataclass(frozen=True)
class Config:
    """Whom to train on, and where to."""

    data_dir: Path  # store of all people, made by preprocess_de.py
    name: str = "eegmat"  # what generate.py --pretrained calls it
    task: str = "workload"  # whose stage 1 and classes
    # passes over all trials: as many as were best on people who are left out (fold 0)
    epochs: int = 15
    measured: tuple[Path, ...] = ()  # directories gan/ of runs of the same recipe
    out_dir: Path = PRETRAINED  # a folder <name> is made there
    runs_dir: Path = Path("runs/pretrained")  # what a stopped training goes on from
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU if there is one
    restart: bool = False  # begin anew instead of going on


def main(config: Config) -> None:
    """Train, write the generator with its prior, measure its DE, write its card."""
    recipe = recipe_of(config)
    measured = [_read_measured(folder, recipe.settings()) for folder in config.measured]
    with Run.open(recipe, "gan", variant="everyone", split_of=everyone) as run:
        if run.store.manifest["source"] not in CREDITS:
            raise UserError(
                f"{display_path(run.store.path)} is of {run.store.manifest['source']}, and nothing "
                "made of recordings may be passed on unless their licence allows it: give a store "
                f"of {' or '.join(CREDITS)}."
            )
        data = Trials(run)
        generator = SpectralGenerator(
            run.store.ch_names, widths=recipe.widths, grid=run.store.grid
        ).to(run.device)
        optimiser = torch.optim.AdamW(
            generator.parameters(), recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )
        trained, _, last = spectral_generator.train(
            run, data, generator, optimiser, gain_sd=recipe.gain_sd
        )
        population = Population.of(
            run.store, run.split.trials("train"), run.labels, recipe.settings()
        )
        content = run.hand_over(
            last, {**_rounded(trained.content()), "population": population.content()}
        )
        folder = from_root(config.out_dir) / config.name
        make_folder(folder)
        checkpoints.save(folder / "model.pt", content)
        kept, population = load(config.name, folder.parent)
        errors = {
            "of training trials": _error_of_trials(kept, run),
            "of virtual people": _error_of_people(kept, population),
        }
        environment = read_json(run.dir / "config.json")["environment"]
        of_code = ("commit", "modified")  # the file is part of a commit itself
        environment = {name: value for name, value in environment.items() if name not in of_code}
        text = _card(config, run, content, environment, errors, measured)
        write_text(folder / model_card.NAME, text)
    size = (folder / "model.pt").stat().st_size
    print(f"{display_path(folder / 'model.pt')}: {size / 1e6:.1f} MB, and its model card.")


def recipe_of(config: Config) -> Any:
    """Return the recipe of the task's stage 1, for everyone."""
    scripts = find_scripts("gan")
    if config.task not in scripts:
        raise UserError(
            f"There is no task {config.task!r} with a {SCRIPTS['gan']} script: give as --task one "
            f"of {', '.join(sorted(scripts))}."
        )
    recipe = load_recipe(scripts[config.task], "spectral")
    names = ("data_dir", "runs_dir", "epochs", "device", "restart")
    # One precision, so that the file does not depend on what is faster where it is made.
    return recipe(
        protocol="subject", precision="fp32", **{name: getattr(config, name) for name in names}
    )


def _rounded(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a generator with the larger part of its weights as float16."""
    weights = {
        name: value.half() if name.startswith(_ROUNDED) and value.is_floating_point() else value
        for name, value in content["weights"].items()
    }
    return {**content, "weights": weights}


def _read_measured(folder: Path, settings: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the place and the result of a run of the same recipe, which had people left out."""
    remedy = "give directories gan/ of finished runs, or none."
    folder = from_root(folder)
    begun, result = (read_object(folder / f"{n}.json", remedy) for n in ("config", "result"))
    same = ("task", "method", "widths", "lr", "batch_size", "weight_decay", "ema_decay", "gain_sd")
    changed = [name for name in same if begun["settings"].get(name) != settings[name]]
    if changed or result.get("protocol") != "subject":
        raise UserError(
            f"{display_path(folder)} is of another recipe ({', '.join(changed) or 'protocol'}), "
            f"and says nothing of this generator: {remedy}"
        )
    return display_path(folder), result


def _error_of_trials(generator: TrainedGenerator, run: Run) -> float:
    """Return the mean error in nats of DE of EEG from the DE of trials."""
    trials = spread(run.split.trials("train"), _N_TRIALS)
    de = run.store.absolute_de(trials)
    return float(np.abs(trial_de(generator(de, trials)) - de).mean())


def _error_of_people(generator: TrainedGenerator, population: Population) -> float:
    """Return the mean error in nats of DE of EEG of virtual people, from the DE they are given."""
    errors, sample = [], sampler_of(generator)

    def measuring(de: np.ndarray, numbers: np.ndarray, people: np.ndarray) -> np.ndarray:
        eeg = sample(de, numbers, people)
        errors.append(float(np.abs(trial_de(eeg) - de).mean()))
        return eeg

    labels = list(range(len(population.about["class_names"])))
    for number in range(_N_PEOPLE):
        population.person(measuring, labels, population.about["n_frames"], 0, number)
    return float(np.mean(errors))


def _of_benchmark(source: str) -> list[str]:
    """Return what the benchmark of the recipe has of a data set: a table, and membership."""
    text = (ROOT / "benchmarks" / "GENERATOR.md").read_text(encoding="utf-8")
    found = re.search(rf"^(.+)\n\n(\| {source}, seed.*\n(?:.+\n)+)", text, re.M)
    if not found:
        return []
    privacy = re.search(r"^Membership inference.*?AUC \d\.\d+", text[found.end() :], re.M)
    about, table = (part.strip() for part in found.groups())
    return [
        f"From there (AUC of the strongest judge, 0.5: not told; {about.rstrip('.')}):",
        table,
        *([f"{privacy[0]}; 0.5 is privacy. It is of few people, and rough."] if privacy else []),
    ]


def _card(
    config: Config,
    run: Run,
    content: Mapping[str, Any],
    environment: Mapping[str, Any],
    errors: Mapping[str, float],
    measured: Sequence[tuple[str, dict[str, Any]]],
) -> str:
    """Return the model card."""
    store, source = run.store, run.store.manifest["source"]
    people, trials = len(set(store.columns["subject"])), store.n_trials
    classes = run.config.class_names
    counts = ", ".join(
        f"{int((run.labels == label).sum())} of {name}" for label, name in enumerate(classes)
    )
    n_parameters = sum(
        value.numel() for name, value in content["weights"].items() if "recordings" not in name
    )
    in_the_text = [
        f"DE of EEG generated with it differs from the DE that is asked for by "
        f"{errors['of training trials']:.3f} nats for training trials, and by "
        f"{errors['of virtual people']:.3f} nats for virtual people (mean over bands, windows and "
        "electrodes; measured when it was made). One nat is an amplitude 2.7 times as large.",
        "How well judges tell its EEG from real EEG, and whether those it was trained on can be "
        "told, takes people who were left out, and there are none. The recipe is measured, where "
        "some of these people were left out, in `benchmarks/GENERATOR.md` (`python "
        "benchmarks/generator.py`), which says how that differs from this generator; "
        "`benchmarks/JUDGES.md` has more on privacy, and says of which generators. What virtual "
        "people are worth to a classifier is in `benchmarks/VIRTUAL_PEOPLE.md`.",
        *_of_benchmark(source),
    ]
    for place, result in measured:
        in_the_text += [
            f"One such run (`{place}`, {result['n_train_trials']} trials to train, "
            f"{result['n_test_trials']} to test, fold {result['fold']}):",
            *model_card.measured(result),
        ]
    flags = [f"--data-dir <store of all {people} people>"]
    fields = {field.name: field.default for field in dataclasses.fields(Config)}
    flags += [
        f"--{name} {getattr(config, name)}"
        for name in ("name", "task", "epochs")
        if getattr(config, name) != fields[name]
    ]
    return model_card.card(
        f"pretrained generator and prior, {config.name}",
        f"**Trained on all {people} people: nothing of it was measured on people it has not seen, "
        "and no result about these people may be drawn from its EEG.**",
        {
            "What it is": [
                "A generator, which turns differential entropy (DE) into EEG in µV at 128 Hz, and "
                "a prior over DE, from which people are drawn who do not exist. "
                f"{n_parameters / 1e6:.1f} million parameters, and what {people} people's "
                "recordings show of spectra, coherency and lacking directions; no EEG is kept.",
                "```\npython generate.py --pretrained "
                f"{config.name} --class {classes[-1]} --people 3 --out x.fif\n```",
            ],
            "Data": [
                f"{people} people, {trials} trials of {store.n_frames} s ({counts}), "
                f"{len(store.ch_names)} electrodes: {', '.join(store.ch_names)}. DE is relative to "
                "a baseline of each person.",
                f"Store `{store.hash[:16]}` of the source {source}, made by `preprocess_de.py`.",
            ],
            "What was measured": in_the_text,
            "Privacy": [
                "The recordings are public. Nothing in this file is meant to hide who was "
                "recorded: each virtual person takes spectra, coherency and lacking directions "
                "from one training recording. Whether members of a training set are told was "
                "measured for generators that leave people out, see above."
            ],
            "Limits": model_card.bullets(
                [
                    *model_card.LIMITS,
                    *ABOUT.get(source, ()),
                    *model_card.LIMITS_OF_GENERATORS,
                    "Judges tell generated EEG from real EEG: do not take it for real EEG where "
                    "more than DE, spectra and correlations matter, such as event-related "
                    "potentials, of which it has none.",
                    "Do not test a classifier on these people that has seen its EEG: that leaks.",
                ]
            ),
            "Licence": ["The code is under the MIT licence.", CREDITS[source]],
            "How it was made": [
                f"```\npython pretrained/make.py {' '.join(flags)}\n```",
                *model_card.settings_and_versions(run.config.settings(), environment, content),
            ],
        },
    )


if __name__ == "__main__":
    command_line(main, Config)
