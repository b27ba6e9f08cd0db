"""What each part of the classifier gives: its views, its head, its trunk, against all baselines.

    .venv/bin/python benchmarks/classifier.py --data-dir DE_feature/study-eegmat

Materials are a store of EEGMAT (new people, all of them and few), and simulated DEAP, whose effect
is known. Stage 2 is trained by its own script, with all baselines; what the head is without some of
its views is computed beside it, from the same frames. Runs are kept, and go on where they stopped.
Fills in the tables of benchmarks/CLASSIFIER.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch

from benchmarks.documents import fill, interval, table
from benchmarks.planted import clusters
from de3dgan.base.cli import command_line
from de3dgan.base.paths import from_root
from de3dgan.base.recipe import SCRIPTS, load_script
from de3dgan.data import synthetic
from de3dgan.data.frames import Frames, chunks
from de3dgan.data.opening import open_store
from de3dgan.data.preprocessing import How, build_store
from de3dgan.data.splits import group_names, labels_and_split
from de3dgan.evaluation.names import CHOSEN, NAMES
from de3dgan.evaluation.statistics import compare, estimate
from de3dgan.models.views import Views
from de3dgan.reporting.results import Predictions, read_fold
from de3dgan.stages import classifier, closed_form
from de3dgan.stages.frame_classifiers import FrameClassifier
from de3dgan.training import checkpoints
from de3dgan.training.device import Compute

#: What is trained, and what tables call it; the second has the maps that the trunk is given only.
TRAINED = {"shipped": "SA-ST-Net: head and trunk", "trunk": "trunk alone"}
#: As it is, also while something else stands in its place.
START = classifier.start
#: What figures are of.
UNITS = ("frame", "trial")
#: Nats of the effect in simulated DEAP.
STRENGTHS = (0.05, 0.1)
#: People of EEGMAT that are trained on beside those validated on; 0: all.
SIZES = (0, 4)


@dataclass(frozen=True)
class Config:
    """Where recordings are, and what is trained."""

    data_dir: Path = Path("DE_feature/study-eegmat")  # store of EEGMAT
    work_dir: Path = Path("runs/classifier")  # simulated recordings, stores and runs, kept
    folds: tuple[int, ...] = (0, 1, 2, 3, 4)  # which fifths are tested on
    fold_seed: int = 523  # draws the folds; the design has not seen it
    sizes: tuple[int, ...] = SIZES  # people of EEGMAT to train on
    strengths: tuple[float, ...] = STRENGTHS  # of simulated DEAP; none: without it
    stores: tuple[Path, ...] = ()  # of planted effects, such as benchmarks/planted.py keeps
    n_people: int = 12  # of simulated DEAP
    n_trials: int = 16  # of each
    out: Path = ROOT / "benchmarks" / "CLASSIFIER.md"  # document that holds the tables


@dataclass(frozen=True)
class Material:
    """EEG that is classified.

    Attributes
    ----------
    title : str
        What tables call it.
    store : Path
        Its features.
    script : Path
        The stage script of its task.
    settings : dict
        Of the script.
    """

    title: str
    store: Path
    script: Path
    settings: dict[str, Any]


def main(config: Config) -> None:
    """Train what is missing, and fill in the tables."""
    lines: list[str] = []
    for material in materials(config):
        found: dict[str, list[Predictions]] = {}
        for fold in config.folds:
            for name, predictions in of_fold(config, material, fold).items():
                found.setdefault(name, []).append(predictions)
        pooled = {name: Predictions.pooled(parts) for name, parts in found.items()}
        lines += ["", f"**{material.title}**", "", *tables(pooled)]
        fill(config.out, "classifier.py", lines)
        print(f"{material.title} is done.", flush=True)


def materials(config: Config) -> Iterator[Material]:
    """Yield what is classified; recordings are simulated if they are not there."""
    stage = SCRIPTS["classifier"]
    workload = ROOT / "Workload-main" / f"{stage}_Workload.py"
    for size in config.sizes:
        who = f"{size} people and those validated on" if size else "all people"
        settings = {"protocol": "subject", "train_groups": size}
        yield Material(
            f"EEGMAT, new people, trained on {who}", from_root(config.data_dir), workload, settings
        )
    for store in map(from_root, config.stores):
        title = f"Planted: {store.name.replace('_', ' ').replace('-', ', ')}; new people"
        yield Material(title, store, ROOT / f"{stage}_Valence.py", {"protocol": "subject"})
    for strength in config.strengths:
        name = f"deap-{strength:g}"
        recordings, store = (from_root(config.work_dir) / kind / name for kind in ("dat", "stores"))
        if not (store / "manifest.json").is_file():
            synthetic.main(
                synthetic.Config(
                    out_dir=recordings,
                    n_subjects=config.n_people,
                    n_trials=config.n_trials,
                    effect_strength=strength,
                )
            )
            build_store("deap", recordings, store, 1, How())
        yield Material(
            f"Simulated DEAP, {strength:g} nats, protocol `trial`",
            store,
            ROOT / f"{stage}_Valence.py",
            {"protocol": "trial"},
        )


def of_fold(config: Config, material: Material, fold: int) -> dict[str, Predictions]:
    """Return the test predictions of everything on one fold."""
    script = load_script(material.script)
    place = f"{material.store.name}-{material.settings.get('train_groups', 0)}"
    found: dict[str, Predictions] = {}
    for kind in TRAINED:
        recipe = script.Config(
            data_dir=material.store,
            runs_dir=from_root(config.work_dir) / "runs" / kind / place,
            fold=fold,
            fold_seed=config.fold_seed,
            **material.settings,
        )
        instead = nullcontext() if kind == "shipped" else patch.object(classifier, "start", no_head)
        with instead, patch("de3dgan.figures.stages.draw_classifier"):
            script.main(recipe)
        fold_dir = recipe.runs_dir / recipe.task / recipe.protocol / f"fold{fold}"
        predictions = read_fold(fold_dir).predictions
        found[kind] = predictions.pop("classifier")
        if kind == "shipped":
            found |= predictions
            found |= heads(recipe, fold_dir / "classifier" / "model.pt", found[kind])
    return found


def no_head(run: Any, frames: Frames, trained: FrameClassifier, *_: Any) -> classifier.Start:
    """Begin as `classifier.start` does, and take the head away."""
    begun = START(run, frames, trained)
    trained.net.head_weight.zero_()
    trained.net.head_bias.zero_()
    torch.nn.init.xavier_uniform_(trained.net.net.head.weight)
    return replace(begun, held_out=torch.zeros_like(begun.held_out))


def heads(recipe: Any, path: Path, like: Predictions) -> dict[str, Predictions]:
    """Return what heads of single views say, of all, and of all but one."""
    store = open_store(recipe.data_dir)
    labels, split = labels_and_split(recipe, store)
    content = checkpoints.load(path, "")
    trained = FrameClassifier.from_content(content, store, Compute(torch.device("cpu")))
    frames = Frames(store, torch.device("cpu"), waveform_baseline=False)
    known = np.sort(np.concatenate([split.train, split.val]))
    sizes = list(trained.net.views.sizes)

    def seen(numbers: np.ndarray) -> list[torch.Tensor]:
        parts = [trained.features(frames[some], some) for some in chunks(numbers, 256)]
        return torch.cat(parts).split(sizes, dim=1)

    of_known, of_tested = seen(known), seen(split.test)
    trials = known // split.n_frames
    classes, groups = labels[trials], group_names(store, recipe.protocol)[1][trials]
    held_out, scores = [], []
    for view, asked in zip(of_known, of_tested, strict=True):
        head = closed_form.fit(
            lambda rows, view=view: view[torch.from_numpy(rows)],
            (view.shape[1],),
            classes,
            groups,
            recipe.n_classes,
        )
        held_out.append(head.held_out)
        scores.append((asked.numpy() - head.mean) @ head.weight + head.bias)
    held_out, scores = np.stack(held_out), np.stack(scores)
    _, weight = closed_form.balanced(classes, recipe.n_classes)
    n = len(Views.NAMES)
    chosen = {f"{name} alone": [i] for i, name in enumerate(Views.NAMES)}
    chosen["head, all views"] = list(range(n))
    chosen |= {
        f"head without {name}": [j for j in range(n) if j != i]
        for i, name in enumerate(Views.NAMES)
    }
    found = {}
    for name, views in chosen.items():
        shares, bias = closed_form.mixed(held_out[views], classes, weight)
        mixed = np.tensordot(shares, held_out[views], 1) + bias
        sharp = closed_form.sharpness(trials, classes, mixed)
        z = torch.from_numpy(np.tensordot(shares, scores[views], 1) + bias)
        p = z.softmax(1).numpy()
        found[name] = replace(like, probabilities=p, sharpness=np.full(len(p), sharp))
    return found


def tables(found: Mapping[str, Predictions]) -> list[str]:
    """Return the table of a material, and what the network is ahead of every baseline."""
    parts = [name for name in found if name not in NAMES and name not in TRAINED]
    rows = []
    for name in [*TRAINED, *parts, "best", *CHOSEN["best"]]:
        units = {u: estimate([clusters(found[name], u)], pooled_folds=True) for u in UNITS}
        cells = [interval(units["frame"]["balanced_accuracy"])]
        cells += [f"{units['frame'][metric].value:.3f}" for metric in ("auc", "ece")]
        cells += [
            f"{units['trial'][metric].value:.3f}" for metric in ("balanced_accuracy", "auc", "ece")
        ]
        rows.append([TRAINED.get(name) or NAMES.get(name) or name, *cells, ahead(found, name)])
    columns = [f"{what} per {unit}" for unit in UNITS for what in ("BA", "AUC", "ECE")]
    return table(("model", *columns, "SA-ST-Net ahead, points of BA per frame"), rows)


def ahead(found: Mapping[str, Predictions], name: str) -> str:
    """Return by how much the network as shipped is ahead of a model."""
    if name == "shipped":
        return "–"
    pair = ([clusters(found[model], "frame")] for model in ("shipped", name))
    difference = compare(*pair, "balanced_accuracy", pooled_folds=True).difference
    return interval(difference, "+.1f", scale=100)


if __name__ == "__main__":
    command_line(main, Config)
