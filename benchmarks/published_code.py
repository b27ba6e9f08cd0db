"""The authors' own code beside ours: what a training step of each stage takes, in one run.

    git clone https://github.com/K1os2U/DE-3DGAN published
    .venv/bin/python benchmarks/published_code.py --published published

Their three scripts for valence are loaded as they are from that folder; nothing of theirs is in
this repository. As published they do not run, and are given at run time what they lack:

- **The package `preprocessors`**, from which they take seven names, and of which one file is
  published. Stand-ins take its place. All that scripts want of them in the end is, by person, EEG
  in frames on a grid of 9x9 cells and the class of each frame.
- **Features**, which they read from MAT-files in `DE_feature/`: nothing published writes these.
- **Folders** for logs, the split and weights, which are opened in a working directory that has
  none: they run in a temporary one.
- **A GPU**, which each `.cuda()` needs: without one, tensors and networks stay where they are.
- **The order of stages.** Fine-tuning asks its data for labels by a name that they do not have,
  unless stage 2 has left its split behind.
- Their command line is parsed, and data are read, when a script is imported. So one person is
  simulated, with the 40 trials of 60 s that they insist on.

None of it changes what a step computes. A step is an epoch of theirs with a single batch: their
loader, without further processes, their normalisation, their step, and their progress bar. Beside
it, on the same trials or frames, are the steps that `speed_steps.py` times. All of them take their
turns in one process, in float32.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import itertools
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Literal
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from scipy.io import savemat
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from benchmarks.documents import fill, table
from benchmarks.speed_steps import (
    METHODS,
    PUBLISHED_STYLE,
    Measured,
    Step,
    block,
    full_batches,
    in_training,
    paired_eeg_is_learnt_from,
    published_step,
)
from benchmarks.speed_tables import MEAN, STAGES, over_cycle, rounded
from de3dgan.base.cli import command_line
from de3dgan.base.errors import UserError
from de3dgan.base.recipe import find_scripts, load_recipe, load_script
from de3dgan.data.frames import Frames
from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal
from de3dgan.data.store import Store
from de3dgan.data.synthetic import write_deap
from de3dgan.eeg.montage import GRID_SHAPE, grid_cells

#: What the rows of the authors' code are called.
PUBLISHED_CODE = "published code"
#: Their scripts, by stage.
SCRIPTS = {
    "gan": "3D-UNet_GAN_Valence.py",
    "classifier": "SA-ST_Net_Classifier_Valence.py",
    "finetune": "Finetune_Classifier_Valence.py",
}
#: Rows and columns of their grid: ours, and a row without electrodes.
_GRID = (9, 9)
#: What they take from the missing package besides the reader, and give to it.
_UNUSED = ("Sequence", "BinaryLabel", "Raw2TNCF", "RemoveBaseline", "TNCF2NCF", "ChannelToLocation")
#: Trials of a person, which their scripts have written in.
_N_TRIALS = 40
#: Batches in an epoch of theirs with 32 people, four fifths of whose trials or frames it is.
_N_STEPS = {"gan": 32 * _N_TRIALS * 4 // 5 // 8, "classifier": 32 * _N_TRIALS * 60 * 4 // 5 // 64}
_N_STEPS["finetune"] = _N_STEPS["classifier"]
#: Kinds of epochs of the published GAN, and an epoch of each kind.
_KINDS = {"critic steps": 0, "critic rests": 1}


@dataclass(frozen=True)
class Config:
    """Where the published code is, and where to write what is found."""

    published: Path  # folder of the authors' scripts: a clone of their repository
    device: Literal["cpu", "cuda"] = "cpu"  # where networks are
    repeats: int = 3  # times that each step is measured; the median is reported
    out: Path = ROOT / "benchmarks" / "SPEED.md"  # the page whose table is filled


def main(config: Config) -> None:
    """Time steps of all stages, and fill the table."""
    for name in SCRIPTS.values():
        if not (config.published / name).is_file():
            raise UserError(
                f"{config.published} has no {name}: clone https://github.com/K1os2U/DE-3DGAN and "
                "give its folder as --published."
            )
    device, rows = torch.device(config.device), []
    with tempfile.TemporaryDirectory() as folder:
        recordings, path = Path(folder, "recordings"), Path(folder, "store")
        write_deap(recordings, n_subjects=1, signal=Signal(n_trials=_N_TRIALS))
        store = build_store("deap", recordings, path, n_jobs=1)
        theirs = PublishedCode(config.published.resolve(), Path(folder, "theirs"), store, device)
        for stage in SCRIPTS:
            runs = Path(folder, "runs")
            rows += stage_rows(stage, getattr(theirs, stage)(), path, runs, config)
    fill(config.out, "published_code.py", [*table(*summary(rows, theirs.n_epochs)), "", machine()])


class PublishedCode:
    """The authors' scripts, made to run on the EEG of one person.

    Parameters
    ----------
    scripts : Path
        Where their scripts are.
    folder : Path
        Where they run: what they lack and what they leave is there.
    store : Store
        One person, 40 trials of 60 s.
    device : torch.device
        The processor, or the GPU that `.cuda()` means.

    Attributes
    ----------
    n_epochs : dict of str to int
        By stage, for how many epochs their script trains, once it is loaded.
    """

    def __init__(self, scripts: Path, folder: Path, store: Store, device: torch.device):
        self.scripts, self.folder, self.device = scripts, folder, device
        self.n_epochs: dict[str, int] = {}
        for name in ("logs", "dataset", "parameters", "DE_feature"):
            (folder / name).mkdir(parents=True)
        de = store.absolute_de(np.arange(store.n_trials)).swapaxes(1, 2)  # windows before bands
        savemat(
            folder / "DE_feature" / "s01.mat", {"data": on_grid(de, store).reshape(-1, 4, *_GRID)}
        )
        frames = Frames(store, torch.device("cpu"), waveform_baseline=True)
        eeg = frames.cpu(np.arange(frames.shape[0])).swapaxes(1, 2)
        labels = np.repeat(np.array(store.columns["valence"], float) > 5, store.n_frames)
        self.results = {"s01.dat": {"feature": on_grid(eeg, store), "label": labels.astype(float)}}

    def gan(self) -> Step:
        """Return their step of stage 1."""
        with self._running():
            code = self._load("gan", "EPOCHS")
            nets = code.Generator3D_UNet(), code.Discriminator(num_classes=1, in_channels=128)
            data = code.EEGDataset5D(code.preprocessors_results)
            trainer = code.Trainer5D(*nets, data, code.CFG)
            trainer.save(f"parameters/{code.TRAIL_ID}.pth")

        def step(epoch: int, trials: np.ndarray) -> None:
            trainer.loader = _loader(data, trials)
            with self._running():
                trainer.train_epoch(epoch)

        return step

    def classifier(self) -> Step:
        """Return their step of stage 2."""
        with self._running():
            code = self._load("classifier", "NUM_EPOCHS")
            trainer = code.Trainer(code.Classifier(num_classes=2, in_channels=128))
            trainer.save(f"parameters/{code.TRAIL_ID}.pth")
        return self._of_frames(trainer)

    def finetune(self) -> Step:
        """Return their step of stage 3, which goes on from those of the other two."""
        with self._running():
            code = self._load("finetune", "NUM_EPOCHS")
            data = code.FrameDataset(code.EEGDataset5D(code.preprocessors_results))
            nets = code.Classifier(num_classes=2, in_channels=128), code.Generator3D_UNet()
            trainer = code.Trainer(*nets, data)
            trainer.load()
        return self._of_frames(trainer)

    def _of_frames(self, trainer: Any) -> Step:
        data = trainer._train_dataloader.dataset.dataset

        def step(epoch: int, frames: np.ndarray) -> None:
            trainer._train_dataloader = _loader(data, frames)
            with self._running():
                trainer._train(epoch)

        return step

    def _load(self, stage: str, n_epochs: str) -> ModuleType:
        """Import a script, and note how long it trains by the name of the setting."""
        path = self.scripts / SCRIPTS[stage]
        spec = importlib.util.spec_from_file_location(f"published_{stage}", path)
        code = importlib.util.module_from_spec(spec)
        with patch.dict(sys.modules, preprocessors=stand_in(self.results)), patch("sys.argv", [""]):
            spec.loader.exec_module(code)
        self.n_epochs[stage] = getattr(code.CFG, n_epochs)
        return code

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Have their code find its folders, and a device; what it prints is dropped."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.chdir(self.folder))
            stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
            if self.device.type == "cpu":
                for kind in (Tensor, nn.Module):
                    stack.enter_context(patch.object(kind, "cuda", lambda self: self))
            yield


def stand_in(results: Mapping[str, Mapping[str, np.ndarray]]) -> ModuleType:
    """Return a module in the place of the package `preprocessors`.

    Parameters
    ----------
    results : dict
        What its reader returns, whatever it is asked to read: by person, the "feature", (n_frames,
        128, 9, 9), and the "label", (n_frames,), of each frame.
    """
    package = ModuleType("preprocessors")
    package.DEAPDataset = lambda *_: lambda path: results
    for name in _UNUSED:
        setattr(package, name, lambda *_: None)
    return package


def on_grid(x: np.ndarray, store: Store) -> np.ndarray:
    """Place electrodes, the last axis of `x`, on the published grid: float32 (..., 9, 9)."""
    grid = np.zeros((*x.shape[:-1], *_GRID), np.float32)
    rows, columns = np.unravel_index(grid_cells(store.ch_names), GRID_SHAPE)
    grid[..., rows, columns] = x
    return grid


def _loader(data: Dataset, items: np.ndarray) -> DataLoader:
    return DataLoader(Subset(data, items), batch_size=len(items), shuffle=True)


# --- ours, and how long all of them take


def stage_rows(
    stage: str, theirs: Step, store: Path, runs: Path, config: Config
) -> list[dict[str, Any]]:
    """Return the seconds of each step of a stage: one row per loop and kind of epoch.

    Our scripts are run inside each other, so that the steps of all of them are there at once.

    Parameters
    ----------
    stage : str
        Of it.
    theirs : callable
        Their step.
    store, runs : Path
        Where features and runs of our methods are. The runs of stages 1 and 2 are finished, for the
        stages that read them.
    config : Config
        Its `device` and `repeats`.
    """
    path, rows = find_scripts(stage)["valence"], []
    script = load_script(path)
    recipes = {
        method: load_recipe(path, method)(
            **{"data_dir": store, "runs_dir": runs / method, "epochs": 1, "restart": True},
            **{"device": config.device, "precision": "fp32"},
        )
        for method in METHODS
    }
    steps = {(PUBLISHED_CODE, kind): theirs for kind in (_KINDS if stage == "gan" else ("",))}

    def time_with(methods: Sequence[str]) -> None:
        method, *rest = methods

        def fit(
            run: Any,
            nets: Mapping[str, nn.Module],
            optimisers: Any,
            items: np.ndarray,
            purpose: str,
            train_step: Step,
            *_: Any,
            **__: Any,
        ) -> None:
            loops = {method: in_training(run, nets, train_step)}
            if method == "published":
                loops = {PUBLISHED_STYLE: published_step(run, stage), **loops}
            kinds = _KINDS if "critic" in nets else ("",)
            steps.update({(loop, kind): loops[loop] for loop in loops for kind in kinds})
            if rest:
                time_with(rest)
            batches = full_batches(items, run.config.batch_size)
            rows.extend(timed(stage, steps, batches, run.device, config.repeats))
            raise Measured

        with patch("de3dgan.training.loop.fit", fit), paired_eeg_is_learnt_from():
            script.main(recipes[method])

    with contextlib.suppress(Measured):
        time_with(METHODS)
    # Scripts end once they have written what the next stages read, and before they measure it.
    measures = "de3dgan.stages.generators.quality", "de3dgan.evaluation.baselines.predictions"
    with contextlib.ExitStack() as stack:
        for name in measures:
            stack.enter_context(patch(name, side_effect=Measured))
        for recipe in recipes.values() if stage != "finetune" else ():
            with contextlib.suppress(Measured):
                script.main(recipe)
    return rows


def timed(
    stage: str,
    steps: Mapping[tuple[str, str], Step],
    batches: Iterator[np.ndarray],
    device: torch.device,
    repeats: int,
) -> list[dict[str, Any]]:
    """Take steps in turns, each loop on the same trials or frames, and return their seconds."""
    seconds = {key: [] for key in steps}
    for repeat, batch in enumerate(itertools.islice(batches, repeats + 1)):
        for key, step in steps.items():
            took = block(partial(step, _KINDS.get(key[1], 0), batch), device)
            if repeat:  # the first one warms up
                seconds[key].append(took)
    return [
        {"stage": stage, "loop": loop, "kind": kind, "seconds": statistics.median(times)}
        for (loop, kind), times in seconds.items()
    ]


def summary(
    rows: Sequence[Mapping[str, Any]], n_epochs: Mapping[str, int]
) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return the headings and rows of the table."""
    heads = ("step", "loop or method", "s", "against the published code")
    heads += ("epoch of 32 people, s", "epochs", "all epochs, hours")
    found = {}
    for row in rows:
        key = row["stage"], row["loop"]
        found[*key, row["kind"]] = row["seconds"]
        if row["kind"] == "critic rests":
            found[*key, MEAN] = over_cycle(*(found[*key, kind] for kind in _KINDS))
    out = []
    for (stage, loop, kind), seconds in found.items():
        theirs = found[stage, PUBLISHED_CODE, kind or (MEAN if stage == "gan" else "")]
        line = [STAGES[stage] + (f", {kind}" if kind else ""), loop, f"{seconds:.3g}"]
        line.append(f"{rounded(theirs / seconds)}x")
        if kind in _KINDS:
            line += ["", "", ""]
        else:
            recipe = load_recipe(find_scripts(stage)["valence"], _method(loop))
            epochs = n_epochs[stage] if loop == PUBLISHED_CODE else recipe.epochs
            epoch = seconds * (recipe.epoch_steps or _N_STEPS[stage])
            line += [rounded(epoch), str(epochs), rounded(epochs * epoch / 3600)]
        out.append(line)
    return heads, out


def _method(loop: str) -> str:
    return loop if loop in METHODS else "published"


def machine() -> str:
    """Return on what the figures were found, as a sentence."""
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else "No GPU"
    return (
        f"{where}; {torch.get_num_threads()} thread(s) of a processor with "
        f"{torch.backends.cpu.get_cpu_capability()}; float32; torch {torch.__version__}."
    )


if __name__ == "__main__":
    command_line(main, Config)
