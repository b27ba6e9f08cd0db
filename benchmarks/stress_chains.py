"""Try to make stages work with what is not theirs: foreign checkpoints, runs, stores and splices.

    .venv/bin/python benchmarks/stress_chains.py --seed 0

A home fold is made by each method, and foreign ones that differ from it in one thing, or in two.
What they left is brought into the home fold in every way, and the next command is run. It must
end with exit code 2 and one sentence that names both sides of a difference, and change no file.
What a user may well want is allowed, and listed with the reason. Prints a table; exits with 1 if
anything foreign was accepted, or badly refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import json
import re
import runpy
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from de3dgan.figures import stages as figures_of_stages

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np

from de3dgan.base.cli import command_line

METHODS = ("spectral", "published")
SCRIPTS = {
    "gan": "3D-UNet_GAN_Valence.py",
    "classifier": "SA-ST_Net_Classifier_Valence.py",
    "finetune": "Finetune_Classifier_Valence.py",
}
#: Flags of the home fold, by method and stage: the smallest networks there are.
HOME = {
    "spectral": {
        "gan": {"widths": "8 8 8 8", "calibration-steps": 1, "epochs": 1},
        "classifier": {"widths": "8 8 8 8 8", "n-features": 8, "batch-size": 256, "epochs": 1},
        "finetune": {"batch-size": 256, "epochs": 1},
    },
    "published": {
        "gan": {
            "widths": "4 4 4 4",
            "critic-widths": "8 8 8 8 8",
            "critic-hidden": 8,
            "epochs": 1,
        },
        "classifier": {"widths": "8 8 8 8 8", "n-features": 8, "batch-size": 256, "epochs": 1},
        "finetune": {"batch-size": 256, "epochs": 1},
    },
}
#: What all stages of a fold have to agree on, as this program sees it; the rest of a recipe is a
#: stage's own.
SHARED = (
    *(f"settings.{name}" for name in ("task", "ratings", "threshold", "protocol", "fold")),
    *("settings.seed", "settings.method", "store_hash", "split_fingerprint"),
)
#: What generate.py is asked for, and so can be wrong of a generator in a run's folder.
ASKED = ("settings.task", "settings.protocol", "settings.fold", "store_hash")
#: Fields that a splice takes from another checkpoint.
SPLICED = (
    *("weights", "arguments", "module", "trials", "seen", "split_fingerprint", "store_hash"),
    *("settings", "eeg_scaler", "de_scaler"),
)
#: How sentences name two sides; two groups that must differ.
_THERE_AND_HERE = r"{} \((.+?) there, (.+?) now\)"
_SIDES = (
    _THERE_AND_HERE.format(r"[\w.:]+"),
    r"is of the (\w+) stage, not of (\w+):",
    r"module is (\S+), and must be one of (\S+):",
    r"arguments\.\w+ is (.+?), and by its settings it is (.+?):",
    r"its arguments are (.+?), and those of a \w+ (.+?):",
    r"its weight \S+ is (.+?), and that of a network with its arguments is (.+?):",
    r"it has (an?|no) \w+_scaler, and a \w+ (needs one|has none):",
    r"(?:checkpoint|has) format (\d+), .*reads format (\d+)",
    r"its (.+?) saw \d+ of the (\d+) frames to test on,",
    r"has (\d+) frames, (?:and )?the store (\d+)",
    r"seen holds (.+?), and must hold (.+?):",
    r"store with hash (\w+), and .+? has (\w+):",
)
#: Progress bars, which are no sentences.
_BARS = ("step/s", "s/step")


@dataclass(frozen=True)
class Config:
    """Which foreign folds."""

    seed: int = 0  # draws in what they differ: which fold, which electrodes, which numbers


@dataclass(frozen=True)
class Variant:
    """A foreign fold: what its flags have otherwise.

    Attributes
    ----------
    name : str
        In messages.
    flags : dict
        Flags of all stages that have them.
    own : str
        Why another stage may differ in it, if it may.
    """

    name: str
    flags: dict[str, Any]
    own: str = ""


@dataclass(frozen=True)
class Cell:
    """One foreign thing, brought in in one way.

    Attributes
    ----------
    kind : str
        The row of the table.
    what : str
        In messages.
    prepare : callable
        Changes a copy of the home fold's runs, given their folder.
    script : str
        What is run then.
    flags : dict
        Its flags; the runs' folder is added.
    names : sequence of str
        Fields that the sentence must name with both values; if none, it must name any two sides.
    allowed : str
        Why it must be accepted, if it must.
    """

    kind: str
    what: str
    prepare: Callable[[Path], None]
    script: str
    flags: Mapping[str, Any]
    names: Sequence[str] = ()
    allowed: str = ""


@dataclass
class Folds:
    """Makes folds, each once.

    Attributes
    ----------
    at : Path
        Where.
    made : dict
        Those that are there, by what they were made with.
    """

    at: Path
    made: dict[str, Path] = field(default_factory=dict)

    def get(self, method: str, flags: Mapping[str, Any], stages: Iterable[str] = SCRIPTS) -> Path:
        """Return the folder of a fold whose `stages` are finished."""
        key = json.dumps([method, flags], default=str)
        runs = self.made.setdefault(key, self.at / f"fold-{len(self.made)}")
        for stage in stages:
            if not list(runs.glob(f"*/*/fold*/{stage}/result.json")):
                done = run_here(ROOT / SCRIPTS[stage], of_stage(method, stage, flags, runs))
                if done.code:
                    raise RuntimeError(f"{method} {stage} {flags}: {done.err}")
                (folder,) = runs.glob(f"*/*/fold*/{stage}")
                shutil.rmtree(folder / "tensorboard", ignore_errors=True)
        return next(runs.glob("*/*/fold*"))


def main(config: Config) -> None:
    """Try everything, and print the table."""
    rows = run(config.seed)
    print(*table(rows), sep="\n")
    if any(row["accepted wrongly"] or row["badly refused"] for row in rows):
        sys.exit(1)


def run(
    seed: int = 0,
    methods: Sequence[str] = METHODS,
    variants: Iterable[str] | None = None,
    pairs: bool = True,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Bring what is foreign into a home fold, in every way.

    Parameters
    ----------
    seed : int
        Draws in what foreign folds differ.
    methods : sequence of str
        By which the home fold is made.
    variants : iterable of str, optional
        Names of `foreign` folds; by default, all.
    pairs : bool
        Whether to try folds, and fields of splices, that differ in two things as well.
    limit : int, optional
        Attempts of each kind and method at most, drawn at random; by default, all.

    Returns
    -------
    list of dict
        Of each kind of attempt: `kind`, how many were `tried`, `refused` in a sentence that names
        both sides, `allowed` as they should be, `accepted wrongly`, and `badly refused`: with no
        such sentence, with files changed, or though they should be allowed; and `why`, what
        happened in each of the latter two, and what was allowed and for which reasons.
    """
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, quick():
        at = Path(folder)
        stores = write_stores(at / "stores")
        for method in methods:
            folds = Folds(at / method)
            chosen = [
                variant
                for variant in foreign(method, stores, seed)
                if variants is None or variant.name in variants
            ]
            home_flags = {"data-dir": stores["home"]}
            cells = every_cell(method, folds, home_flags, chosen, stores, pairs)
            for cell in cells if limit is None else some_of_each(cells, limit, seed):
                note(rows, cell, f"{method}: {cell.what}", attempt(cell, folds, method, at))
    return list(rows.values())


def some_of_each(cells: Iterable[Cell], limit: int, seed: int) -> Iterator[Cell]:
    """Yield at most `limit` cells of each kind, drawn at random."""
    cells = list(cells)
    tried: dict[str, int] = {}
    for place in np.random.default_rng(seed).permutation(len(cells)):
        kind = cells[place].kind
        tried[kind] = tried.get(kind, 0) + 1
        if tried[kind] <= limit:
            yield cells[place]


def note(rows: dict[str, dict[str, Any]], cell: Cell, what: str, outcome: str) -> None:
    """Count the outcome of a cell."""
    columns = ("tried", "refused", "allowed", "accepted wrongly", "badly refused")
    row = rows.setdefault(cell.kind, {"kind": cell.kind, **dict.fromkeys(columns, 0), "why": []})
    column, _, why = outcome.partition(": ")
    row["tried"] += 1
    row[column] += 1
    if column == "allowed":
        reason = f"allowed: {cell.allowed}"
        if reason not in row["why"]:
            row["why"].append(reason)
    elif column != "refused":
        row["why"].append(f"{column}: {what}: {why}")


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table, what went wrong, and what is allowed and why."""
    columns = [name for name in rows[0] if name != "why"]
    total = {name: "all" if name == "kind" else sum(row[name] for row in rows) for name in columns}
    lines = [f"| {' | '.join(columns)} |", f"|{'---|' * len(columns)}"]
    lines += [f"| {' | '.join(str(row[name]) for name in columns)} |" for row in [*rows, total]]
    return [*lines, "", *(f"- {row['kind']}: {why}" for row in rows for why in row["why"][:3])]


# --- what is foreign


def foreign(method: str, stores: Mapping[str, Path], seed: int) -> list[Variant]:
    """Return the foreign folds; the home fold is fold 0 of the home store, with the defaults."""
    rng = np.random.default_rng(seed)
    own_recipe = "each stage has its own recipe, and the split is the same"
    variants = [
        Variant("store", {"data-dir": stores["other content"]}),
        Variant("electrodes", {"data-dir": stores["other electrodes"]}),
        Variant("order of electrodes", {"data-dir": stores["other order"]}),
        Variant("protocol", {"protocol": "subject"}),
        Variant("fold", {"fold": int(rng.integers(1, 5))}),
        Variant("task of the same labels", {"task": "mood"}),
        Variant("task", {"task": "arousal", "ratings": "arousal"}),
        Variant("ratings", {"ratings": "arousal"}),
        Variant("threshold", {"threshold": float(rng.uniform(3.1, 6.9))}),
        Variant("seed", {"seed": int(rng.integers(1000))}),
        Variant("width", {"widths": "12"}, own_recipe),
        Variant("features", {"n-features": 12}, own_recipe),
        Variant("method", {"method": METHODS[method == METHODS[0]]}),
        Variant("learning rate", {"lr": float(rng.uniform(1e-4, 2e-4))}, own_recipe),
        Variant("epochs", {"epochs": 2}, own_recipe),
        Variant("class names", {"class-names": "bad good"}, "they are for figures"),
    ]
    if method == "published":
        variants.append(Variant("leaky protocol", {"protocol": "random-frame"}))
    return variants


def write_stores(folder: Path) -> dict[str, Path]:
    """Write small stores that differ in one thing each."""
    from de3dgan.data.store import manifest_hash
    from de3dgan.data.synthetic import write_store
    from de3dgan.eeg.montage import DEAP_CHANNELS

    names = DEAP_CHANNELS[:12]
    stores = {
        "home": write_store(folder / "home", ch_names=names),
        "other electrodes": write_store(folder / "electrodes", ch_names=DEAP_CHANNELS[10:22]),
        "other order": write_store(folder / "order", ch_names=names[::-1]),
    }
    changes: dict[str, dict[str, Any]] = {
        "other content": {"inputs": {"s01.dat": "of other recordings"}},
        "newer": {"format": 99},
        "older": {"format": 0},
    }
    for name, change in changes.items():
        stores[name] = Path(shutil.copytree(stores["home"], folder / name))
        path = stores[name] / "manifest.json"
        manifest = {**json.loads(path.read_text()), **change}
        if name == "other content":
            for array in ("eeg", "baseline"):
                louder = 1.5 * np.load(stores[name] / f"{array}.npy")
                np.save(stores[name] / f"{array}.npy", louder.astype(np.float32))
            de = np.load(stores[name] / "baseline_de.npy") + np.log(1.5)
            np.save(stores[name] / "baseline_de.npy", de.astype(np.float32))
        path.write_text(json.dumps({**manifest, "hash": manifest_hash(manifest)}))
    return stores


def of_stage(
    method: str, stage: str, flags: Mapping[str, Any], runs: Path | None = None
) -> dict[str, Any]:
    """Return the flags of a stage: those of the home fold, but for `flags`."""
    method = flags.get("method", method)
    merged = {**HOME[method][stage], "method": method}
    if runs is not None:
        merged["runs-dir"] = runs
    for name, value in flags.items():
        if name == "widths":
            n_widths = len(str(HOME[method][stage].get("widths", "")).split())
            if n_widths:
                merged[name] = " ".join([value] * n_widths)
        elif stage not in {"n-features": ["gan", "finetune"], "class-names": ["gan"]}.get(name, []):
            merged[name] = value
    return merged


# --- ways to bring it in


def every_cell(
    method: str,
    folds: Folds,
    home_flags: dict[str, Any],
    variants: Sequence[Variant],
    stores: Mapping[str, Path],
    pairs: bool,
) -> Iterator[Cell]:
    """Yield all that is tried with a method."""
    home = folds.get(method, home_flags)
    yield from of_the_home_fold(method, home, home_flags, stores)
    for variant in variants:
        print(f"{method}: another {variant.name}", file=sys.stderr, flush=True)
        there = folds.get(method, {**home_flags, **variant.flags})
        yield from whole_files(method, home, home_flags, variant, there)
        yield from runs_gone_on_with(method, home, home_flags, variant, there)
        yield from other_generators(method, home, home_flags, variant, there)
        yield from finished_before(method, home, home_flags, variant, there)
        yield from splices(method, home, home_flags, variant.name, there, 1)
        if pairs:
            yield from splices(method, home, home_flags, variant.name, there, 2)
    for a, b in itertools.combinations(variants, 2) if pairs else ():
        together = {**a.flags, **b.flags}
        if a.flags.keys() & b.flags.keys() or {"spectral", "random-frame"} <= {
            *map(str, together.values())
        }:
            continue  # the spectral generator knows no windows
        both = Variant(f"{a.name} and {b.name}", together, a.own and b.own)
        there = folds.get(method, {**home_flags, **both.flags}, ("gan", "classifier"))
        yield from whole_files(method, home, home_flags, both, there, " of two differences")


def of_the_home_fold(
    method: str, home: Path, flags: dict[str, Any], stores: Mapping[str, Path]
) -> Iterator[Cell]:
    """Yield what needs no foreign fold: nothing wrong, other stages, formats and stores."""
    from de3dgan.training import checkpoints

    finetune = SCRIPTS["finetune"], of_stage(method, "finetune", flags)

    def begun_anew(runs: Path) -> None:
        shutil.rmtree(fold_in(runs) / "finetune")

    yield Cell("nothing foreign", "home", begun_anew, *finetune, allowed="nothing is wrong with it")
    for stage, other in itertools.permutations(SCRIPTS, 2):
        if stage == "finetune":
            continue

        def replace(runs: Path, stage: str = stage, other: str = other) -> None:
            begun_anew(runs)
            shutil.copy(home / other / "model.pt", fold_in(runs) / stage)

        def replace_all(runs: Path, stage: str = stage, other: str = other) -> None:
            begun_anew(runs)
            replace_folder(home / other, fold_in(runs) / stage)

        names = (r"is of the (\w+) stage, not of (\w+):",)
        what = f"{other} as {stage}"
        yield Cell("model.pt of another stage", what, replace, *finetune, names)
        yield Cell("folder of another stage", what, replace_all, *finetune, names)
    for stage, other in itertools.permutations(SCRIPTS, 2):
        own = SCRIPTS[stage], of_stage(method, stage, flags)

        def put(runs: Path, stage: str = stage, other: str = other) -> None:
            stop(fold_in(runs) / stage)
            shutil.copy(home / other / "state.pt", fold_in(runs) / stage)

        yield Cell("state.pt of another stage", f"{other} as {stage}", put, *own, ("stage",))
        for number in (checkpoints.FORMAT + 1, checkpoints.FORMAT - 1, 99, 0):

            def renumber(runs: Path, stage: str = stage, number: int = number) -> None:
                stop(fold_in(runs) / stage)
                save_plainly(fold_in(runs) / stage / "state.pt", format=number)

            names = (rf"checkpoint format ({number}), .*reads format (\d+)",)
            yield Cell("state.pt of another format", f"{stage} {number}", renumber, *own, names)
    for stage, number in itertools.product(("gan", "classifier"), (0, 1, 2, 4, 99)):

        def renumber_model(runs: Path, stage: str = stage, number: int = number) -> None:
            begun_anew(runs)
            save_plainly(fold_in(runs) / stage / "model.pt", format=number)

        names = (rf"checkpoint format ({number}), .*reads format (\d+)",)
        what = f"{stage} {number}"
        yield Cell("model.pt of another format", what, renumber_model, *finetune, names)
        if stage == "gan":
            generate = "generate.py", generating(stores["home"])
            yield Cell("model.pt of another format", what, renumber_model, *generate, names)
    for name in ("other content", "other electrodes", "other order", "newer", "older"):
        names = (r"format (\d+), .*reads format (\d+)",)
        names = names if name in ("newer", "older") else ("store_hash",)
        given = {**flags, "data-dir": stores[name]}
        for stage in SCRIPTS:
            of = SCRIPTS[stage], of_stage(method, stage, given)
            what = f"{name} for {stage}"
            yield Cell("--data-dir of a finished run", what, lambda runs: None, *of, names)
        new = SCRIPTS["finetune"], of_stage(method, "finetune", given)
        yield Cell("--data-dir of new fine-tuning", name, begun_anew, *new, names)
        if name not in ("newer", "older"):
            names = (r"store with hash (\w+), and .+? has (\w+):",)
        generate = "generate.py", generating(stores[name])
        yield Cell("generate.py --data-dir", name, lambda runs: None, *generate, names)


def whole_files(
    method: str, home: Path, flags: dict[str, Any], variant: Variant, there: Path, of: str = ""
) -> Iterator[Cell]:
    """Yield fine-tuning with foreign model.pt, config.json, and folders of earlier stages."""
    script, given = SCRIPTS["finetune"], of_stage(method, "finetune", flags)
    for stage in ("gan", "classifier"):
        names = differing(home / stage, there / stage)
        if not names:
            continue
        for name in ("model.pt", "config.json"):

            def replace(runs: Path, stage: str = stage, name: str = name) -> None:
                shutil.rmtree(fold_in(runs) / "finetune", ignore_errors=True)
                shutil.copy(there / stage / name, fold_in(runs) / stage)

            what = f"{stage} of another {variant.name}"
            yield Cell(f"{name} of an earlier stage{of}", what, replace, script, given, names)

        def replace_all(runs: Path, stage: str = stage) -> None:
            shutil.rmtree(fold_in(runs) / "finetune", ignore_errors=True)
            replace_folder(there / stage, fold_in(runs) / stage)

        shared = [name.removeprefix("settings.") for name in names if name in SHARED]
        kind = f"folder of an earlier stage{of}"
        yield Cell(kind, what, replace_all, script, given, shared, variant.own)


def runs_gone_on_with(
    method: str, home: Path, flags: dict[str, Any], variant: Variant, there: Path
) -> Iterator[Cell]:
    """Yield stages that go on with, or find finished, what is of a foreign run."""
    for stage, script in SCRIPTS.items():
        names = differing(home / stage, there / stage)
        if not names:
            continue
        given = of_stage(method, stage, flags)
        for name in ("state.pt", "config.json"):

            def go_on(runs: Path, stage: str = stage, name: str = name) -> None:
                stop(fold_in(runs) / stage)
                shutil.copy(there / stage / name, fold_in(runs) / stage)

            what = f"{stage} of another {variant.name}"
            yield Cell(f"{name} of a stopped run", what, go_on, script, given, names)

        def finished(runs: Path, stage: str = stage) -> None:
            shutil.copy(there / stage / "config.json", fold_in(runs) / stage)

        def finished_there(runs: Path, stage: str = stage) -> None:
            replace_folder(there / stage, fold_in(runs) / stage)

        yield Cell("config.json of a finished run", what, finished, script, given, names)
        yield Cell("folder of a finished run", what, finished_there, script, given, names)


def other_generators(
    method: str, home: Path, flags: dict[str, Any], variant: Variant, there: Path
) -> Iterator[Cell]:
    """Yield generate.py with a generator that is not that of its folder, or of the store."""
    names = differing(home / "gan", there / "gan")
    if not names:
        return
    given = "generate.py", generating(flags["data-dir"])

    def replace(runs: Path) -> None:
        shutil.copy(there / "gan" / "model.pt", fold_in(runs) / "gan")

    def alone(runs: Path) -> None:
        replace(runs)
        (fold_in(runs) / "gan" / "config.json").unlink()

    def replace_all(runs: Path) -> None:
        replace_folder(there / "gan", fold_in(runs) / "gan")

    yield Cell("generate.py, model.pt", variant.name, replace, *given, names)
    asked = [name.removeprefix("settings.") for name in names if name in ASKED]
    # The hash of the store is looked at once the generator is the one that is asked for.
    if asked == ["store_hash"]:
        asked = [r"store with hash (\w+), and .+? has (\w+):"]
    asked = [name for name in asked if name != "store_hash"]
    allowed = "" if asked else "it is what --task, --protocol, --fold and the store ask for"
    for name, prepare in (("folder", replace_all), ("lone model.pt", alone)):
        yield Cell(f"generate.py, {name}", variant.name, prepare, *given, asked, allowed)


def finished_before(
    method: str, home: Path, flags: dict[str, Any], variant: Variant, there: Path
) -> Iterator[Cell]:
    """Yield what reads a finished fold whose generator or classifier was replaced afterwards."""
    for stage in ("gan", "classifier"):

        def replace(runs: Path, stage: str = stage) -> None:
            replace_folder(there / stage, fold_in(runs) / stage)

        def replace_model(runs: Path, stage: str = stage) -> None:
            shutil.copy(there / stage / "model.pt", fold_in(runs) / stage)

        if not differing(home / stage, there / stage):
            continue
        names = (f"upstream.{stage}",)
        for what, prepare in (("folder", replace), ("model.pt", replace_model)):
            label = f"{what} of {stage} of another {variant.name}"
            for script in ("report.py", "de3dgan/reporting/summary.py"):
                kind = f"{script}, {what} replaced after fine-tuning"
                yield Cell(kind, label, prepare, script, {}, names)
            any_names = names if variant.own and what == "folder" else ()
            given = SCRIPTS["finetune"], of_stage(method, "finetune", flags)
            kind = f"finished fine-tuning, {what} replaced"
            yield Cell(kind, label, prepare, *given, any_names)


def splices(
    method: str, home: Path, flags: dict[str, Any], label: str, there: Path, n_fields: int
) -> Iterator[Cell]:
    """Yield checkpoints some of whose fields are another's, saved plainly and with new hashes."""
    from de3dgan.training import checkpoints

    finetune = SCRIPTS["finetune"], of_stage(method, "finetune", flags)
    for stage in ("gan", "classifier"):
        ours, theirs = (checkpoints.load(fold / stage / "model.pt", "") for fold in (home, there))
        different = [
            name for name in SPLICED if name in theirs and not same(ours.get(name), theirs[name])
        ]
        for names in itertools.combinations(different, n_fields):
            spliced = {name: theirs[name] for name in names}
            what = f"{' and '.join(names)} of the {stage} of another {label}"

            def plainly(runs: Path, stage: str = stage, spliced: dict[str, Any] = spliced) -> None:
                shutil.rmtree(fold_in(runs) / "finetune", ignore_errors=True)
                save_plainly(fold_in(runs) / stage / "model.pt", **spliced)

            def anew(runs: Path, stage: str = stage, spliced: dict[str, Any] = spliced) -> None:
                shutil.rmtree(fold_in(runs) / "finetune", ignore_errors=True)
                path = fold_in(runs) / stage / "model.pt"
                checkpoints.save(path, {**checkpoints.load(path, ""), **spliced})

            number = "a field" if n_fields == 1 else "two fields"
            yield Cell(f"splice of {number}, torch.save", what, plainly, *finetune, names)
            if stage == "gan" and n_fields == 1:
                given = "generate.py", generating(flags["data-dir"])
                kind = f"splice of {number}, torch.save, generate.py"
                yield Cell(kind, what, plainly, *given, names)
            allowed = ""
            if names == ("weights",) and shapes(ours) == shapes(theirs):
                allowed = (
                    "weights of the same network, saved with new hashes by this program itself: "
                    "no file can tell"
                )
            kind = f"splice of {number}, with new hashes"
            yield Cell(kind, what, anew, *finetune, allowed=allowed)


# --- what the ways are made of


def fold_in(runs: Path) -> Path:
    """Return the home fold in a copy of the runs."""
    return runs / "valence" / "trial" / "fold0"


def replace_folder(source: Path, folder: Path) -> None:
    """Put a copy of `source` in the place of `folder`."""
    shutil.rmtree(folder)
    shutil.copytree(source, folder)


def stop(folder: Path) -> None:
    """Leave of a finished run what a stopped one has."""
    for path in folder.iterdir():
        if path.name not in ("config.json", "log.txt", "metrics.jsonl", "state.pt"):
            path.unlink()


def save_plainly(path: Path, **changes: Any) -> None:
    """Change fields of a checkpoint as one does who knows PyTorch and not this program."""
    import torch

    torch.save({**torch.load(path, weights_only=True), **changes}, path)


def generating(store: Path) -> dict[str, Any]:
    """Return the flags of generate.py."""
    return {"task": "valence", "data-dir": store, "out": "out.edf"}


def differing(home: Path, there: Path) -> list[str]:
    """Return the fields of two runs' identities that differ, dotted."""
    identities = [json.loads((folder / "config.json").read_text()) for folder in (home, there)]
    for identity in identities:
        del identity["environment"]
    a, b = map(flat, identities)
    return sorted(name for name in {**a, **b} if a.get(name) != b.get(name))


def flat(content: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return nested objects as one, with dotted keys."""
    out = {}
    for key, value in content.items():
        out |= flat(value, f"{name}{key}.") if isinstance(value, dict) else {f"{name}{key}": value}
    return out


def same(a: Any, b: Any) -> bool:
    """Return whether fields of two checkpoints are equal."""
    import torch

    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def shapes(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the shape of each weight of a checkpoint."""
    return {name: weight.shape for name, weight in content["weights"].items()}


# --- trying, and judging


@dataclass(frozen=True)
class Done:
    """What became of a command: its exit code, and what it has printed on stderr."""

    code: int
    err: str


def attempt(cell: Cell, folds: Folds, method: str, at: Path) -> str:
    """Try a cell; return its column in the table, and why if it is a bad one."""
    work = at / "work"
    shutil.rmtree(work, ignore_errors=True)
    home = next(iter(folds.made.values()))
    runs = Path(shutil.copytree(home, work / "runs"))
    cell.prepare(runs)
    before = contents(work)
    flags: dict[str, Any] = {**cell.flags, "runs-dir": runs}
    if cell.script == "de3dgan/reporting/summary.py":
        flags = {"fold-dir": fold_in(runs)}
    with contextlib.chdir(work):
        done = run_here(ROOT / cell.script, flags)
    if not done.code:
        return "allowed" if cell.allowed else "accepted wrongly: exit code 0"
    if cell.allowed:
        return f"badly refused: it is allowed: {done.err}"
    problem = unlike_a_sentence(done, cell.names)
    after = contents(work)
    if after != before:
        problem = f"changed {sorted(set(before.items()) ^ set(after.items()))}: {done.err}"
    return f"badly refused: {problem}" if problem else "refused"


def unlike_a_sentence(done: Done, names: Sequence[str]) -> str:
    """Return what is wrong with how a command refused, or ""."""
    lines = [line.split("\r")[-1] for line in done.err.split("\n")]
    lines = [line for line in lines if line.strip() and not any(bar in line for bar in _BARS)]
    if done.code != 2 or len(lines) != 1 or not lines[0].startswith("Error: "):
        return f"exit code {done.code}: {done.err}"
    patterns = [name if "(" in name else _THERE_AND_HERE.format(re.escape(name)) for name in names]
    for pattern in patterns:
        if not names_two_sides(pattern, lines[0]):
            return f"{pattern} is not in: {lines[0]}"
    if not names and not any(names_two_sides(pattern, lines[0]) for pattern in _SIDES):
        return f"names no two sides: {lines[0]}"
    return ""


def names_two_sides(pattern: str, line: str) -> bool:
    """Return whether a sentence has a pattern, with two groups that differ."""
    found = re.search(pattern, line)
    return bool(found) and found[1] != found[2]


def contents(folder: Path) -> dict[str, str]:
    """Return every file below a folder, with a hash and its time."""
    return {
        str(path.relative_to(folder)): (
            f"{hashlib.sha256(path.read_bytes()).hexdigest()[:12]} {path.stat().st_mtime_ns}"
            if path.is_file()
            else ""
        )
        for path in folder.rglob("*")
    }


def run_here(script: Path, flags: Mapping[str, Any]) -> Done:
    """Run a script as a user does, but in this process."""
    arguments = [str(script)]
    for name, value in flags.items():
        arguments += [f"--{name}", *(value.split() if isinstance(value, str) else [str(value)])]
    out, err = io.StringIO(), io.StringIO()
    argv, path, handlers = sys.argv, list(sys.path), signal.getsignal(signal.SIGTERM)
    code = 0
    try:
        with (
            mock.patch.object(sys, "argv", arguments),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            warnings.catch_warnings(),
        ):
            runpy.run_path(str(script), run_name="__main__")
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    except Exception:
        code = 1
        err.write(traceback.format_exc())
    finally:
        sys.argv, sys.path[:] = argv, path
        signal.signal(signal.SIGTERM, handlers)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return Done(code, err.getvalue())


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Leave out what takes long and no chain depends on: figures, and measuring the EEG."""
    from de3dgan.stages import generators

    def nothing_measured(*_: object) -> dict[str, Any]:
        rows = {"amplitude_uv": 1.0, "de_round_trip": {}}
        return {"real": rows, "generated": rows}

    with (
        mock.patch.object(figures_of_stages, "plotting", lambda _: None),
        mock.patch.object(generators, "quality", nothing_measured),
    ):
        yield


if __name__ == "__main__":
    command_line(main, Config)
