"""What models find of a truth that was planted in real EEG, and how that grows with people.

    .venv/bin/python benchmarks/planted.py --data-dir <folder with all of EEGMAT>

Trials are cut from rest, and the two classes of valence are made to differ by known amounts, see
`de3dgan.data.planted`. Stage 2 is trained by its own script, with all baselines beside it. Stores
and runs are kept, and go on where they stopped. Fills in the tables of benchmarks/PLANTED.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from benchmarks.documents import fill, interval, table
from benchmarks.worth_in_people import stages_alone
from de3dgan.base.cli import command_line
from de3dgan.base.files import make_folder, write_json
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS, load_script
from de3dgan.data import planted
from de3dgan.data.effects import Effect
from de3dgan.data.opening import open_store
from de3dgan.data.preprocessing import How, build_store
from de3dgan.data.splits import persons
from de3dgan.evaluation.metrics import Clusters
from de3dgan.evaluation.names import NAMES
from de3dgan.evaluation.statistics import Estimate, compare, estimate
from de3dgan.reporting.results import Predictions, read_fold

#: Kinds of effects, by what tables call them: switches of `de3dgan.data.effects.Effect`.
KINDS: dict[str, dict[str, Any]] = {
    "one sign": {"other_sign": 0.0},
    "30 % of people with the other sign": {"other_sign": 0.3},
}
STRENGTHS = (0.0, 0.05, 0.1, 0.2)
PROTOCOLS = ("subject", "trial")
#: Other effects of 0.2 nats (of correlation: in Fisher's z), one sign.
OTHERS: dict[str, dict[str, Any]] = {
    "as above": {},
    "conducted to other electrodes": {"conducted": True},
    "conducted, 30 % with the other sign": {"conducted": True, "other_sign": 0.3},
    "half of each pattern a person's own": {"own_pattern": 0.5},
    "asymmetry of left and right": {"effect": "asymmetry"},
    "correlation of left and right": {"effect": "correlation"},
    "a drift of 0.2 nats": {"drift": 0.2},
}
#: Of these, what power alone does not tell, and draws of effects and labels.
BETWEEN, N_DRAWS = ("asymmetry of left and right", "correlation of left and right"), 3
REFERENCES = ("baseline", "unlabelled", "none")
#: People trained on, tested and validated on, of the growth with people.
SIZES, N_TESTED = (4, 8, 16, 28), 4
MODELS = {"classifier": "SA-ST-Net", **NAMES}
UNITS = ("frame", "trial")
#: What `_growth_cells` are.
_GROWTH_COLUMNS = [
    f"{model}, {what}" for model in ("SA-ST-Net", "best baseline") for what in ("BA", "AUC")
]


#: The tables, in their order.
PARTS = ("nothing", "grid", "others", "between", "references", "growth", "stage3")


@dataclass(frozen=True)
class Config:
    """Where recordings are, and what is trained."""

    data_dir: Path = Path("eeg_dataset/EEGMAT-36")  # folder of all of EEGMAT
    work_dir: Path = Path("runs/planted")  # stores and runs, kept
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)  # which fifths are tested on
    seed: int = 0  # of what is planted
    parts: tuple[str, ...] = PARTS  # tables that are made
    out: Path = ROOT / "benchmarks" / "PLANTED.md"  # document that holds the tables; all of them

    def place(self, *names: str) -> Path:
        """Return the path of what is kept of this seed."""
        return from_root(self.work_dir).joinpath(f"seed{self.seed}", *names)


def main(config: Config) -> None:
    """Plant, train what is missing, and fill in the tables."""
    makers = {
        "nothing": nothing_table,
        "stage3": stage3_table,
        "grid": grid_tables,
        "others": others_table,
        "between": between_table,
        "references": references_table,
        "growth": growth_table,
    }
    lines: list[str] = []
    for part in config.parts:
        lines += [*makers[part](config), ""]
        fill(config.out, "planted.py", lines)
        print(f"{part} is done.", flush=True)


def store_of(config: Config, reference: str = "baseline", **switches: Any) -> Path:
    """Return the store of planted recordings, made if need be."""
    effect = Effect(seed=config.seed, **switches)
    name = "-".join(f"{key}_{value}" for key, value in switches.items())
    recordings = config.place("recordings", name)
    store = config.place("stores", f"{name}-{reference}")
    if not (store / "manifest.json").is_file():
        make_folder(recordings.parent)
        people, origin = planted.from_source("eegmat", from_root(config.data_dir), None, (0,))
        planted.write_planted(recordings, people, effect, origin)
        build_store("planted", recordings, store, 1, How(reference=reference))
    return store


def tested(
    config: Config, store: Path, protocol: str, fold: int = 0, **settings: Any
) -> dict[str, Predictions]:
    """Return the test predictions of a fold by model; stage 2 is trained if it has not been."""
    script = load_script(ROOT / "SA-ST_Net_Classifier_Valence.py")
    split = settings.get("split_file")
    place = f"{split.stem}-{settings['train_groups']}" if split else "all"
    runs_dir = config.place("runs", store.name, place)
    with patch("de3dgan.figures.stages.draw_classifier"):
        script.main(
            script.Config(
                data_dir=store, runs_dir=runs_dir, protocol=protocol, fold=fold, **settings
            )
        )
    return read_fold(runs_dir / "valence" / protocol / f"fold{fold}").predictions


def pooled(config: Config, store: Path, protocol: str) -> dict[str, Predictions]:
    """Return the test predictions of all folds by model."""
    folds = [tested(config, store, protocol, fold) for fold in config.folds]
    return {model: Predictions.pooled([fold[model] for fold in folds]) for model in folds[0]}


def clusters(of: Predictions | Sequence[Predictions], unit: str) -> Clusters:
    """Return predictions per person, whatever the protocol; also of several draws of labels."""
    several = [of] if isinstance(of, Predictions) else of
    parts = zip(*(one.in_unit(unit)[1:] for one in several), strict=True)
    labels, probabilities, people = map(np.concatenate, parts)
    return Clusters.of(people, labels, probabilities, people)


def figure(
    of: Predictions | Sequence[Predictions], metric: str = "auc", unit: str = "trial"
) -> Estimate:
    """Return a figure with its interval over people."""
    return estimate([clusters(of, unit)], pooled_folds=True)[metric]


def less_best(found: Mapping[str, Predictions | Sequence[Predictions]]) -> str:
    """Return the network's balanced accuracy per frame less the best baseline's, in points."""
    pair = ([clusters(found[model], "frame")] for model in ("classifier", "best"))
    return interval(
        compare(*pair, "balanced_accuracy", pooled_folds=True).difference, "+.1f", scale=100
    )


def ece(found: Mapping[str, Predictions]) -> str:
    """Return the network's expected calibration error per frame and per trial."""
    return " / ".join(f"{_ece(found, unit):.3f}" for unit in UNITS)


def _ece(found: Mapping[str, Predictions], unit: str) -> float:
    return found["classifier"].scores()[unit]["ece"]


def nothing_table(config: Config) -> Iterator[str]:
    """Yield a table of all models where nothing is planted, and labels are coins."""
    yield from (
        "",
        "**Nothing planted, labels by coin**: AUC per trial, which is 0.5 by chance.",
        "",
    )
    store = store_of(config, strength=0.0, imbalance=0.0, consensus=0.0, label_noise=0.0)
    columns = [pooled(config, store, protocol) for protocol in PROTOCOLS]
    rows = [
        [title, *(interval(figure(column[model])) for column in columns)]
        for model, title in MODELS.items()
    ]
    yield from table(["model", *(f"`{protocol}`" for protocol in PROTOCOLS)], rows)


def stage3_table(config: Config) -> Iterator[str]:
    """Yield a table of what stage 3 gives, with generated EEG and without."""
    yield from ("", "**Stage 3**, 0.2 nats, protocol `subject`: balanced accuracy per frame.", "")
    rows = []
    for kind, switches in KINDS.items():
        store = store_of(config, strength=0.2, **switches)
        found: dict[str, list[tuple[np.ndarray, ...]]] = {}
        for fold in config.folds:
            for stage, path in stages(config, store, fold).items():
                with np.load(path) as saved:
                    people = np.array(open_store(store).columns["subject"])[saved["trials"]]
                    parts = people, saved["labels"], saved["probabilities"]
                found.setdefault(stage, []).append(parts)
        sets = {
            stage: [Clusters.of(*map(np.concatenate, zip(*parts, strict=True)))]
            for stage, parts in found.items()
        }
        estimates = [
            interval(estimate(one, pooled_folds=True)["balanced_accuracy"]) for one in sets.values()
        ]
        pair = sets["finetune"], sets["finetune-none"]
        less = compare(*pair, "balanced_accuracy", pooled_folds=True).difference
        rows.append([kind, *estimates, interval(less, "+.1f", scale=100)])
    columns = ["effect", "stage 2", "stage 3 with generated EEG", "stage 3 without"]
    yield from table([*columns, "with less without, points"], rows)


def stages(config: Config, store: Path, fold: int) -> dict[str, Path]:
    """Return the predictions of stage 2 and of stage 3, trained if they have not been."""
    runs_dir = config.place("stages", store.name)
    common = {"data_dir": store, "runs_dir": runs_dir, "protocol": "subject", "fold": fold}
    with stages_alone():
        for stage, settings in (
            ("classifier", {}),
            ("gan", {}),
            ("finetune", {}),
            ("finetune", {"augmentation": "none"}),
        ):
            script = load_script(ROOT / f"{SCRIPTS[stage]}_Valence.py")
            script.main(script.Config(**common, **settings))
    folder = runs_dir / "valence" / "subject" / f"fold{fold}"
    names = ("classifier", "finetune", "finetune-none")
    return {name: folder / name / "predictions.npz" for name in names}


def grid_tables(config: Config) -> Iterator[str]:
    """Yield, per kind of effect and protocol, a table of models by strength."""
    for kind, switches in KINDS.items():
        for protocol in PROTOCOLS:
            columns = []
            for strength in STRENGTHS:
                # Without an effect there is no sign, and one table serves both kinds.
                some = switches if strength else KINDS["one sign"]
                store = store_of(config, strength=strength, **some)
                columns.append(pooled(config, store, protocol))
            yield from ("", f"**{kind.capitalize()}, protocol `{protocol}`**: AUC per trial.", "")
            rows = [
                [title, *(_cell(model, column) for column in columns)]
                for model, title in MODELS.items()
                if model in columns[0]
            ]
            rows.append(["*SA-ST-Net less best baseline, points*", *map(less_best, columns)])
            rows.append(["*SA-ST-Net, calibration error per frame / trial*", *map(ece, columns)])
            yield from table(["model", *(f"{strength:g} nats" for strength in STRENGTHS)], rows)


def _cell(model: str, column: Mapping[str, Predictions]) -> str:
    found = figure(column[model])
    return interval(found) if model in ("classifier", "best") else f"{found.value:.3f}"


def others_table(config: Config) -> Iterator[str]:
    """Yield a table of other effects, new people."""
    yield from ("", "**Other effects of 0.2 nats, one sign, protocol `subject`**: AUC per trial.")
    yield ""
    columns = {
        name: pooled(
            config, store_of(config, strength=0.2, **{**KINDS["one sign"], **switches}), "subject"
        )
        for name, switches in OTHERS.items()
    }
    yield from _by_effect(columns)


def between_table(config: Config) -> Iterator[str]:
    """Yield a table of what is between electrodes, for several draws of effects and labels."""
    title = f"**Between electrodes**, {N_DRAWS} draws of effects and labels, new people"
    yield from ("", f"{title}: balanced accuracy per frame, and AUC per trial.", "")
    rows = []
    for name in BETWEEN:
        draws = []
        for draw in range(N_DRAWS):
            drawn = replace(config, seed=config.seed + draw)
            store = store_of(drawn, strength=0.2, **{**KINDS["one sign"], **OTHERS[name]})
            draws.append(pooled(drawn, store, "subject"))
        found = {model: [of[model] for of in draws] for model in ("classifier", "best")}
        errors = (f"{np.mean([_ece(of, unit) for of in draws]):.3f}" for unit in UNITS)
        each = ", ".join(less_best(of).partition(" ")[0] for of in draws)
        rows.append([name, *_growth_cells(found), less_best(found), each, " / ".join(errors)])
    columns = [*_GROWTH_COLUMNS, "difference of BA, points", "of each draw"]
    yield from table(["effect", *columns, "SA-ST-Net's calibration error, frame / trial"], rows)


def references_table(config: Config) -> Iterator[str]:
    """Yield a table of what DE and the network's maps are relative to."""
    yield from ("", "**What DE is relative to**, 0.2 nats: AUC per trial.", "")
    columns = {}
    for reference in REFERENCES:
        for protocol in ("subject", "trial"):
            store = store_of(config, reference, strength=0.2, **KINDS["one sign"])
            columns[f"{reference}, `{protocol}`"] = pooled(config, store, protocol)
    yield from _by_effect(columns)


def _by_effect(columns: Mapping[str, Mapping[str, Predictions]]) -> list[str]:
    """Return a table with a row per effect and a column per model."""
    shown = ("classifier", "best", "linear", "svm", "linear_maps", "svm_maps", "tangent")
    rows = [
        [name, *(_cell(model, column) for model in shown), less_best(column), ece(column)]
        for name, column in columns.items()
    ]
    last = "network less best, points", "its calibration error, frame / trial"
    return table(["", *(MODELS[model] for model in shown), *last], rows)


def growth_table(config: Config) -> Iterator[str]:
    """Yield a table of figures by the number of people trained on."""
    title = "**Growth with people**, 0.2 nats, new people"
    yield from ("", f"{title}: balanced accuracy per frame, and AUC per trial.", "")
    rows = []
    for kind, switches in KINDS.items():
        store = store_of(config, strength=0.2, **switches)
        for size in SIZES:
            folds = [
                tested(config, store, "subject", split_file=split, train_groups=size)
                for split in _splits(config, persons(open_store(store)))
            ]
            found = {
                model: Predictions.pooled([fold[model] for fold in folds]) for model in folds[0]
            }
            rows.append([kind, size, *_growth_cells(found), less_best(found), ece(found)])
    columns = [*_GROWTH_COLUMNS, "difference of BA, points"]
    columns.append("SA-ST-Net's calibration error, frame / trial")
    yield from table(["effect", "people", *columns], rows)


def _growth_cells(found: Mapping[str, Predictions | Sequence[Predictions]]) -> list[str]:
    return [
        interval(figure(found[model], metric, unit))
        for model in ("classifier", "best")
        for metric, unit in (("balanced_accuracy", "frame"), ("auc", "trial"))
    ]


def _splits(config: Config, people: Sequence[str]) -> list[Path]:
    """Return files of splits that test a few people each, and validate on the next few."""
    order = np.random.default_rng(config.seed).permutation(people).tolist()
    parts = [order[i : i + N_TESTED] for i in range(0, len(order), N_TESTED)]
    paths = []
    for number, part in enumerate(parts):
        val = parts[(number + 1) % len(parts)]
        train = [person for person in order if person not in (*part, *val)]
        path = config.place(f"split{number}.json")
        write_json(path, {"train": train, "val": val, "test": part})
        paths.append(path)
    return paths


if __name__ == "__main__":
    command_line(main, Config)
