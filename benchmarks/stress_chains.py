"""Try to make stages work with what is not theirs: foreign checkpoints, runs, stores and splices.

    .venv/bin/python benchmarks/stress_chains.py --seed 0

A home fold is made by each method, and foreign ones that differ from it in one thing, or in two.
What they left is brought into the home fold in every way, and the next script is run. It must
refuse in one sentence that names both sides of a difference, and change no file. What a user may
well want is allowed, and listed with the reason. Prints a table; exits with 1 if anything foreign
was accepted, or badly refused.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import re
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from benchmarks import documents
from benchmarks.stress_jobs import TINY, contents
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.recipe import SHARED_BY_FOLD, find_scripts, load_recipe, load_script
from de3dgan.data.store import manifest_hash
from de3dgan.data.synthetic import write_store
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.figures import stages as figures_of_stages
from de3dgan.stages import generators
from de3dgan.training import checkpoints

METHODS = ("spectral", "published")
STAGES = ("gan", "classifier", "finetune")
SUMMARY = "de3dgan/reporting/summary.py"
#: What all stages of a fold have to agree on, as this program sees it; the rest of a recipe is a
#: stage's own.
SHARED = (*(f"settings.{name}" for name in SHARED_BY_FOLD), "store_hash", "split_fingerprint")
#: What generate.py is asked for, and so can be wrong of a generator in a run's folder.
ASKED = ("settings.task", "settings.protocol", "settings.fold")
#: Fields that a splice takes from another checkpoint.
SPLICED = (
    *("weights", "arguments", "module", "trials", "seen", "split_fingerprint", "store_hash"),
    *("settings", "eeg_scaler", "de_scaler"),
)
#: How sentences name two sides; two groups that must differ.
_THERE_AND_HERE = r"{} \((.+?) there, (.+?) now\)"
_STAGES = r"is of the (\w+) stage, not of (\w+):"
_FORMATS = r"format (\d+), .*reads format (\d+)"
_STORES = r"store with hash (\w+), and .+? has (\w+):"
_SIDES = (
    *(_THERE_AND_HERE.format(r"[\w.:-]+"), _STAGES, _FORMATS, _STORES),
    r"its (weights) are not those of the (network that it says it holds) \(.+\):",
    r"its (.+?) saw \d+ of the (\d+) frames to test on,",
    r"has (\d+) frames, (?:and )?the store (\d+)",
    r"seen holds (.+?), and must hold (.+?):",
)
_OWN_RECIPE = "each stage has its own recipe, and the split is the same"
_NO_FILE_CAN_TELL = (
    "the weights of a network, saved with the right hash by this program itself: no file can tell"
)


@dataclass(frozen=True)
class Config:
    """Which foreign folds."""

    seed: int = 0  # draws in what they differ: which fold, which electrodes, which numbers


@dataclass(frozen=True)
class Variant:
    """A foreign fold: its name, the values it has otherwise, and why another stage may differ."""

    name: str
    values: dict[str, Any]
    own: str = ""


@dataclass(frozen=True)
class Cell:
    """One foreign thing, brought in in one way."""

    kind: str  # the row of the table
    what: str  # what it is in messages
    prepare: Sequence[Callable[[Path], object]]  # change a copy of the home fold
    script: str  # what is run then: a stage, or a script
    values: Mapping[str, Any]  # its settings, less the folder of runs
    # fields that the sentence must name with both values, or patterns that it must have; if none,
    # it must name any two sides
    names: Sequence[str] = ()
    allowed: str = ""  # why it must be accepted, if it must


@dataclass
class Folds:
    """Makes the folds of a method below a folder, each once."""

    method: str
    at: Path
    made: dict[str, Path] = field(default_factory=dict)

    def get(self, values: Mapping[str, Any], stages: Iterable[str] = STAGES) -> Path:
        """Return the folder of a fold whose `stages` are finished."""
        key = json.dumps(values, default=str)
        runs = self.made.setdefault(key, self.at / f"fold-{len(self.made)}")
        for stage in stages:
            if not list(runs.glob(f"*/*/fold*/{stage}/result.json")):
                said = run_script(stage, {"method": self.method, **values, "runs_dir": runs})
                if said is not None:
                    raise RuntimeError(f"{self.method} {stage} {values}: {said}")
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
    """Bring what is foreign into the home fold of each method; return the rows of the table.

    Parameters
    ----------
    seed : int
        Draws in what foreign folds differ.
    methods : sequence of str
        By which home folds are made.
    variants : iterable of str, optional
        Names of `foreign` folds; by default, all.
    pairs : bool
        Whether to try folds, and fields of splices, that differ in two things as well.
    limit : int, optional
        Attempts of each kind and method at most, drawn at random; by default, all.
    """
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder, quick():
        at = Path(folder)
        stores = write_stores(at / "stores")
        for method in methods:
            folds = Folds(method, at / method)
            all_foreign = foreign(method, stores, seed)
            chosen = [v for v in all_foreign if not variants or v.name in variants]
            cells = every_cell(folds, chosen, stores, pairs)
            for cell in cells if limit is None else some_of_each(cells, limit, seed):
                note(rows, cell, f"{method}: {cell.what}", attempt(cell, folds, at / "work"))
    return list(rows.values())


def some_of_each(cells: Iterable[Cell], limit: int, seed: int) -> Iterator[Cell]:
    """Yield at most `limit` cells of each kind, drawn at random."""
    cells, tried = list(cells), {}
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
    if column == "allowed" and f"allowed: {cell.allowed}" not in row["why"]:
        row["why"].append(f"allowed: {cell.allowed}")
    elif column not in ("refused", "allowed"):
        row["why"].append(f"{column}: {what}: {why}")


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table, what went wrong, and what is allowed and why."""
    columns = [name for name in rows[0] if name != "why"]
    total = {name: "all" if name == "kind" else sum(row[name] for row in rows) for name in columns}
    lines = documents.table(columns, [[row[name] for name in columns] for row in [*rows, total]])
    return [*lines, "", *(f"- {row['kind']}: {why}" for row in rows for why in row["why"][:3])]


# --- what is foreign


def foreign(method: str, stores: Mapping[str, Path], seed: int) -> list[Variant]:
    """Return the foreign folds; the home fold is fold 0 of the home store, with the defaults."""
    rng = np.random.default_rng(seed)
    variants = [
        Variant("store", {"data_dir": stores["other content"]}),
        Variant("electrodes", {"data_dir": stores["other electrodes"]}),
        Variant("order of electrodes", {"data_dir": stores["other order"]}),
        Variant("protocol", {"protocol": "subject"}),
        Variant("fold", {"fold": int(rng.integers(1, 5))}),
        Variant("task of the same labels", {"task": "mood"}),
        Variant("task", {"task": "arousal", "ratings": ("arousal",)}),
        Variant("ratings", {"ratings": ("arousal",)}),
        Variant("threshold", {"threshold": float(rng.uniform(3.1, 6.9))}),
        Variant("seed", {"seed": int(rng.integers(1000))}),
        Variant("width", {"widths": 12}, _OWN_RECIPE),
        Variant("features", {"n_features": 12}, _OWN_RECIPE),
        Variant("method", {"method": METHODS[method == METHODS[0]]}),
        Variant("learning rate", {"lr": float(rng.uniform(1e-4, 2e-4))}, _OWN_RECIPE),
        Variant("epochs", {"epochs": 2}, _OWN_RECIPE),
        Variant("class names", {"class_names": ("bad", "good")}, "they are for figures"),
    ]
    if method == "published":
        variants.append(Variant("leaky protocol", {"protocol": "random-frame"}))
    return variants


def write_stores(folder: Path) -> dict[str, Path]:
    """Write small stores that differ in one thing each."""
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
        if name == "other content":
            for array, louder in (("eeg", 1.5), ("baseline", 1.5), ("baseline_de", 1)):
                path = stores[name] / f"{array}.npy"
                values = louder * np.load(path) + (np.log(1.5) if louder == 1 else 0)
                np.save(path, values.astype(np.float32))
        path = stores[name] / "manifest.json"
        manifest = {**json.loads(path.read_text()), **change}
        path.write_text(json.dumps({**manifest, "hash": manifest_hash(manifest)}))
    return stores


# --- ways to bring it in


def put(source: Path, *to: str) -> Callable[[Path], object]:
    """Return what puts a copy of a file or folder in the place of one in the fold."""

    def replace(fold: Path) -> None:
        target = fold.joinpath(*to)
        if source.is_dir():
            shutil.rmtree(target)
            shutil.copytree(source, target)
        else:
            shutil.copy(source, target)

    return replace


def not_fine_tuned(fold: Path) -> None:
    """Remove stage 3."""
    shutil.rmtree(fold / "finetune", ignore_errors=True)


def stopped(stage: str) -> Callable[[Path], object]:
    """Return what leaves of a finished stage what a stopped one has."""
    kept = ("config.json", "log.txt", "metrics.jsonl", "state.pt")

    def stop(fold: Path) -> None:
        for path in (fold / stage).iterdir():
            if path.is_file() and path.name not in kept:
                path.unlink()

    return stop


def renumber(fold: Path, name: str, number: int) -> None:
    """Save a checkpoint as a program does whose format has another number."""
    content = checkpoints.load(fold / name, "")
    with mock.patch.object(checkpoints, "FORMAT", number):
        checkpoints.save(fold / name, content)


def splice(fold: Path, name: str, save: Callable[..., object], fields: Mapping[str, Any]) -> None:
    """Change fields of a checkpoint: with PyTorch alone, or with this program's own `save`."""
    content = {**checkpoints.load(fold / name, ""), **fields}
    save(content, fold / name) if save is torch.save else save(fold / name, content)


def every_cell(
    folds: Folds, variants: Sequence[Variant], stores: Mapping[str, Path], pairs: bool
) -> Iterator[Cell]:
    """Yield all that is tried with a method."""
    own = {"method": folds.method, "data_dir": stores["home"]}
    home = folds.get({"data_dir": stores["home"]})
    yield from of_the_home_fold(home, own, stores)
    for variant in variants:
        print(f"{folds.method}: another {variant.name}", file=sys.stderr, flush=True)
        there = folds.get({"data_dir": stores["home"], **variant.values})
        yield from earlier_stages(home, own, variant, there)
        yield from own_runs(home, own, variant, there)
        yield from other_generators(home, own, variant, there)
        yield from finished_before(home, own, variant, there)
        for n_fields in (1, 2) if pairs else (1,):
            yield from splices(home, own, variant.name, there, n_fields)
    for a, b in itertools.combinations(variants, 2) if pairs else ():
        together = {**a.values, **b.values}
        spectral = together.get("method", folds.method) == "spectral"
        if spectral and together.get("protocol") == "random-frame":
            continue  # the spectral generator needs whole trials
        if a.values.keys() & b.values.keys():
            continue
        both = Variant(f"{a.name} and {b.name}", together, a.own and b.own)
        there = folds.get({"data_dir": stores["home"], **together}, ("gan", "classifier"))
        yield from earlier_stages(home, own, both, there, ", two differences")


def of_the_home_fold(home: Path, own: dict[str, Any], stores: Mapping[str, Path]) -> Iterator[Cell]:
    """Yield what needs no foreign fold: nothing wrong, other stages, formats and stores."""
    generate = "generate.py", asking(stores["home"])
    allowed = "nothing is wrong with it"
    yield Cell("nothing foreign", "home", [not_fine_tuned], "finetune", own, allowed=allowed)
    for stage, other in itertools.permutations(STAGES, 2):
        what = f"{other} as {stage}"
        for name in ("model.pt", "") if stage != "finetune" else ():
            prepare = [not_fine_tuned, put(home / other / name, stage, name)]
            kind = f"{name or 'folder'} of another stage"
            yield Cell(kind, what, prepare, "finetune", own, [_STAGES])
        prepare = [stopped(stage), put(home / other / "state.pt", stage, "state.pt")]
        yield Cell("state.pt of another stage", what, prepare, stage, own, ["stage"])
    for stage, number in itertools.product(STAGES, (0, 3, 5, 99)):
        what = f"{stage} {number}"
        prepare = [stopped(stage), partial(renumber, name=f"{stage}/state.pt", number=number)]
        yield Cell("state.pt of another format", what, prepare, stage, own, [_FORMATS])
        prepare = [not_fine_tuned, partial(renumber, name=f"{stage}/model.pt", number=number)]
        kind = "model.pt of another format"
        if stage != "finetune":
            yield Cell(kind, what, prepare, "finetune", own, [_FORMATS])
        if stage == "gan":
            yield Cell(kind, what, prepare, *generate, [_FORMATS])
    for name in ("other content", "other electrodes", "other order", "newer", "older"):
        is_format = name in ("newer", "older")
        names, given = [_FORMATS if is_format else "store_hash"], {**own, "data_dir": stores[name]}
        for stage in STAGES:
            what = f"{name} for {stage}"
            yield Cell("--data-dir of a finished run", what, [], stage, given, names)
        kind = "--data-dir of new fine-tuning"
        yield Cell(kind, name, [not_fine_tuned], "finetune", given, names)
        names = [_FORMATS if is_format else _STORES]
        yield Cell(
            "--data-dir of generate.py", name, [], "generate.py", asking(stores[name]), names
        )


def earlier_stages(
    home: Path, own: dict[str, Any], variant: Variant, there: Path, more: str = ""
) -> Iterator[Cell]:
    """Yield fine-tuning with foreign model.pt, config.json, and folders of earlier stages."""
    for stage, names in differing_stages(home, there, ("gan", "classifier")):
        shared = [name.removeprefix("settings.") for name in names if name in SHARED]
        what = f"{stage} of another {variant.name}"
        for name in ("model.pt", "config.json", ""):
            prepare = [not_fine_tuned, put(there / stage / name, stage, name)]
            kind = f"{name or 'folder'} of an earlier stage{more}"
            said, allowed = (names, "") if name else (shared, variant.own)
            yield Cell(kind, what, prepare, "finetune", own, said, allowed)


def own_runs(home: Path, own: dict[str, Any], variant: Variant, there: Path) -> Iterator[Cell]:
    """Yield stages that go on with, or find finished, what is of a foreign run."""
    for stage, names in differing_stages(home, there):
        what = f"{stage} of another {variant.name}"
        for name in ("state.pt", "config.json"):
            prepare = [stopped(stage), put(there / stage / name, stage, name)]
            yield Cell(f"{name} of a stopped run", what, prepare, stage, own, names)
        for name in ("config.json", ""):
            prepare = [put(there / stage / name, stage, name)]
            yield Cell(f"{name or 'folder'} of a finished run", what, prepare, stage, own, names)


def other_generators(
    home: Path, own: dict[str, Any], variant: Variant, there: Path
) -> Iterator[Cell]:
    """Yield generate.py with a generator that is not that of its folder, or of the store."""
    for _, names in differing_stages(home, there, ("gan",)):
        model = put(there / "gan" / "model.pt", "gan", "model.pt")
        generate = "generate.py", asking(own["data_dir"])
        yield Cell("generate.py, model.pt", variant.name, [model], *generate, names)
        said = [name.removeprefix("settings.") for name in names if name in ASKED]
        # The hash of the store is looked at once the generator is the one that is asked for.
        said = said or [_STORES] * ("store_hash" in names)
        allowed = "" if said else "it is what --task, --protocol, --fold and the store ask for"
        lone = [model, lambda fold: (fold / "gan" / "config.json").unlink()]
        for name, prepare in (("folder", [put(there / "gan", "gan")]), ("lone model.pt", lone)):
            yield Cell(f"generate.py, {name}", variant.name, prepare, *generate, said, allowed)


def finished_before(
    home: Path, own: dict[str, Any], variant: Variant, there: Path
) -> Iterator[Cell]:
    """Yield what reads a finished fold whose generator or classifier was replaced afterwards."""
    stages = differing_stages(home, there, ("gan", "classifier"))
    for (stage, _), name in itertools.product(stages, ("", "model.pt")):
        prepare, names = [put(there / stage / name, stage, name)], [f"upstream.{stage}"]
        what = f"{name or 'folder'} of {stage} of another {variant.name}"
        for script in ("report.py", SUMMARY):
            kind = f"{Path(script).name} after a replacement"
            yield Cell(kind, what, prepare, script, {}, names)
        names = names if variant.own and not name else []
        yield Cell("fine-tuning after a replacement", what, prepare, "finetune", own, names)


def splices(
    home: Path, own: dict[str, Any], label: str, there: Path, n_fields: int
) -> Iterator[Cell]:
    """Yield checkpoints with fields of another's, saved by PyTorch and by this program."""
    number = {1: "a field", 2: "two fields"}[n_fields]
    for stage in ("gan", "classifier"):
        ours, theirs = (checkpoints.load(fold / stage / "model.pt", "") for fold in (home, there))
        different = [
            name for name in SPLICED if name in theirs and not same(ours.get(name), theirs[name])
        ]
        for names in itertools.combinations(different, n_fields):
            fields = {name: theirs[name] for name in names}
            what = f"{' and '.join(names)} of the {stage} of another {label}"
            to = partial(splice, name=f"{stage}/model.pt", fields=fields)
            if n_fields == 1:
                kind, prepare = f"splice of {number}, torch.save", partial(to, save=torch.save)
                prepare = [not_fine_tuned, prepare]
                yield Cell(kind, what, prepare, "finetune", own, ["SHA-256"])
                if stage == "gan":
                    given = asking(own["data_dir"])
                    yield Cell(kind, what, prepare, "generate.py", given, ["SHA-256"])
            allowed = _NO_FILE_CAN_TELL if is_network(ours, fields) else ""
            prepare = [not_fine_tuned, partial(to, save=checkpoints.save)]
            kind = f"splice of {number}, with the right hash"
            yield Cell(kind, what, prepare, "finetune", own, allowed=allowed)


# --- what the ways are made of


def asking(store: Path) -> dict[str, Any]:
    """Return the settings of generate.py."""
    return {"task": "valence", "data_dir": store, "out": Path("out.edf")}


def differing_stages(
    home: Path, there: Path, stages: Iterable[str] = STAGES
) -> Iterator[tuple[str, list[str]]]:
    """Yield stages whose runs' identities differ, and the dotted fields in which they do."""
    for stage in stages:
        paths = (fold / stage / "config.json" for fold in (home, there))
        a, b = (flat({**json.loads(path.read_text()), "environment": {}}) for path in paths)
        names = sorted(name for name in {**a, **b} if a.get(name) != b.get(name))
        if names:
            yield stage, names


def flat(content: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Return nested objects as one, with dotted keys."""
    out = {}
    for key, value in content.items():
        out |= flat(value, f"{name}{key}.") if isinstance(value, dict) else {f"{name}{key}": value}
    return out


def same(a: Any, b: Any) -> bool:
    """Return whether fields of two checkpoints are equal."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return type(a) is type(b) and a == b


def is_network(ours: Mapping[str, Any], fields: Mapping[str, Any]) -> bool:
    """Return whether a splice is of a whole network for the same electrodes, and no more."""
    spliced = {**ours, **fields}
    if fields.keys() - {"weights", "arguments", "module"} or (
        spliced["arguments"]["ch_names"] != ours["arguments"]["ch_names"]
    ):
        return False
    try:
        checkpoints.rebuild(spliced, torch.device("cpu"))
    except (RuntimeError, TypeError):
        return False
    return True


# --- trying, and judging


def attempt(cell: Cell, folds: Folds, work: Path) -> str:
    """Try a cell; return its column in the table, and why if it is a bad one."""
    shutil.rmtree(work, ignore_errors=True)
    runs = Path(shutil.copytree(next(iter(folds.made.values())), work / "runs"))
    fold = runs / "valence" / "trial" / "fold0"
    for change in cell.prepare:
        change(fold)
    before = contents(work)
    place = {"fold_dir": fold} if cell.script == SUMMARY else {"runs_dir": runs}
    with contextlib.chdir(work):
        said = run_script(cell.script, {**cell.values, **place})
    if said is None:
        return "allowed" if cell.allowed else "accepted wrongly: it ran to the end"
    if cell.allowed:
        return f"badly refused: it is allowed: {said}"
    problem = unlike_a_sentence(said, cell.names)
    if contents(work) != before:
        problem = f"changed {sorted(set(before.items()) ^ set(contents(work).items()))}: {said}"
    return f"badly refused: {problem}" if problem else "refused"


def unlike_a_sentence(said: str, names: Sequence[str]) -> str:
    """Return what is wrong with how a script refused, or ""."""
    if "\n" in said:
        return f"no sentence: {said}"
    patterns = [name if "(" in name else _THERE_AND_HERE.format(re.escape(name)) for name in names]
    for pattern in patterns:
        if not names_two_sides(pattern, said):
            return f"{pattern} is not in: {said}"
    if not names and not any(names_two_sides(pattern, said) for pattern in _SIDES):
        return f"names no two sides: {said}"
    return ""


def names_two_sides(pattern: str, sentence: str) -> bool:
    """Return whether a sentence has a pattern, with two groups that differ."""
    found = re.search(pattern, sentence)
    return bool(found) and found[1] != found[2]


def run_script(name: str, values: Mapping[str, Any]) -> str | None:
    """Run a tiny stage, or a script, in this process; return the sentence by which it refuses.

    A stage takes of `values` what it has a setting for. A failure is returned in several lines.
    """
    if name in STAGES:
        path, method = find_scripts(name)["valence"], values["method"]
        config_class = load_recipe(path, method)
        tiny = {**TINY[method][name], "epochs": 1}
        values = {k: v for k, v in values.items() if k in config_class.__dataclass_fields__}
        if "widths" in values:
            values["widths"] = (values["widths"],) * len(tiny["widths"])
        values = {**tiny, **values}
    else:
        path = ROOT / name
        config_class = load_script(path).Config
    out, err = contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO())
    try:
        with out, err, warnings.catch_warnings():
            load_script(path).main(config_class(**values))
    except UserError as refusal:
        return str(refusal)
    except Exception:
        return traceback.format_exc()
    return None


@contextlib.contextmanager
def quick() -> Iterator[None]:
    """Leave out what takes long and no chain depends on: figures, and measuring the EEG."""

    def nothing_measured(*_: object, **__: object) -> dict[str, Any]:
        row = {"amplitude_uv": 1.0, "de_round_trip": {}, "judged": {}}
        return {"quality": dict.fromkeys(("real", "generated", "noise"), row)}

    with (
        mock.patch.object(figures_of_stages, "plotting", lambda _: None),
        mock.patch.object(generators, "quality", nothing_measured),
    ):
        yield


if __name__ == "__main__":
    command_line(main, Config)
