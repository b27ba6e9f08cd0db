"""Training steps of all stages, ours and the published-style loop's: time, FLOPs, memory.

    .venv/bin/python benchmarks/speed_steps.py --out steps.json --precisions fp32

Ours are the steps of the scripts themselves: `loop.fit` is replaced by something that
takes and times steps, and then ends the script. The published-style loop (`published_loop`) takes
its steps in turns with those of ``--method published``, on the same batches and in the same
precision, so that whatever else the machine does hits both.

With one thread on a processor, the time is that of the thread: time in which it had to wait for
other programs does not count.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import published_loop
from de3dgan.base.cli import command_line
from de3dgan.base.recipe import SCRIPTS, find_scripts, load_recipe, load_script
from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal
from de3dgan.data.synthetic import write_deap
from de3dgan.models import Discriminator, Generator, SASTNet
from de3dgan.stages import classifier
from de3dgan.training import checkpoints
from de3dgan.training.device import PRECISIONS, Compute, in_precision

METHODS = ("published", "spectral")
#: What the rows of a table are called that are not a method of ours.
PUBLISHED_STYLE = "published-style loop"
#: Seconds that steps are taken for, to time one.
_BLOCK = 0.4
#: Sides of the matrices that the peak is searched with, and seconds for each.
_SIZES = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192)}
_PEAK_SECONDS = 0.4
#: Takes a training step in an epoch, on items.
Step = Callable[[int, np.ndarray], Any]


@dataclass(frozen=True)
class Config:
    """What to measure, and where to write it."""

    out: Path  # a JSON file
    device: Literal["cpu", "cuda"] = "cpu"  # where networks are
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16")  # of networks
    compile: tuple[Literal["off", "on"], ...] = ("off",)  # networks as written, and compiled
    repeats: int = 5  # times that each step is measured; the median is kept


def main(config: Config) -> None:
    """Measure the peak of matrix products and, per stage, loop and kind of epoch, steps."""
    device = torch.device(config.device)
    in_precision(Compute(device), "fp32", None)  # all digits of it, in the peak as in the steps
    peaks, rows = [peak(device, config.precisions)], []
    with tempfile.TemporaryDirectory() as folder:
        recordings, store = Path(folder, "recordings"), Path(folder, "store")
        write_deap(recordings, n_subjects=1, signal=Signal(n_trials=25))
        build_store("deap", recordings, store, n_jobs=1)
        for precision, method, stage in itertools.product(config.precisions, METHODS, SCRIPTS):
            path = find_scripts(stage)["valence"]
            script, recipe = load_script(path), load_recipe(path, method)
            where = {
                **{"data_dir": store, "runs_dir": Path(folder, method, precision)},
                **{"device": config.device, "precision": precision, "restart": True},
            }
            for compile in config.compile:
                timed = TimedFit(stage, method, config.repeats)
                with (
                    patch("de3dgan.training.loop.fit", timed),
                    paired_eeg_is_learnt_from(),
                    contextlib.suppress(Measured),
                ):
                    script.main(recipe(**where, compile=compile))
                rows += timed.rows
            if stage != "finetune":  # what the next stages read
                script.main(recipe(**where, epochs=1))
    peaks.append(peak(device, config.precisions))
    # The better of before and after, since something else may have kept the machine busy.
    best = {name: max(p[name] for p in peaks) for name in peaks[0]}
    config.out.write_text(json.dumps({"peak_flops": best, "rows": rows}))


class Measured(Exception):
    """Ends a stage's script once its steps have been timed."""


@dataclass
class TimedFit:
    """Takes the place of `loop.fit`: takes steps on full batches, times them, and keeps `rows`."""

    stage: str  # whose script it is called by
    method: str
    repeats: int  # blocks of steps that are timed of each kind

    def __call__(
        self,
        run: Any,
        nets: Mapping[str, Any],
        optimisers: Any,
        items: np.ndarray,
        purpose: str,
        train_step: Step,
        *_: Any,
        **__: Any,
    ) -> None:
        """Time steps."""
        ours = in_training(run, nets, train_step)
        loops: dict[str, Step] = {}
        if run.compute.compile == "on":
            loops[f"{self.method}, compiled"] = ours
        else:
            if self.method == "published":
                loops[PUBLISHED_STYLE] = published_step(run, self.stage)
            loops[self.method] = ours
        # The published critic steps on every fifth epoch.
        kinds = {"critic steps": 0, "critic rests": 1} if "critic" in nets else {"": 0}
        batch = full_batches(items, run.config.batch_size)
        common = {
            **{
                "batch": run.config.batch_size,
                "unit": "trials" if self.stage == "gan" else "frames",
            },
            "precision": PRECISIONS[run.compute.precision],
        }
        self.rows, steps = [], []
        for loop, kind in itertools.product(loops, kinds):
            step = partial(lambda step, epoch: step(epoch, next(batch)), loops[loop], kinds[kind])
            step()  # warms up
            found = {**counted(step), **profiled(step, run.device)}
            self.rows.append({"stage": self.stage, "loop": loop, "kind": kind, **common, **found})
            steps.append(step)
        times = np.zeros((self.repeats, len(steps)))
        for repeat, (place, step) in itertools.product(range(self.repeats), enumerate(steps)):
            with gpu_peak(run.device) as found:
                times[repeat, place] = block(step, run.device)
            self.rows[place]["gpu_mib"] = found.get("mib")
        for row, of_row in zip(self.rows, times.T.tolist(), strict=True):
            row |= {"seconds": statistics.median(of_row), "spread": [min(of_row), max(of_row)]}
        raise Measured


def in_training(run: Any, nets: Mapping[str, Any], train_step: Step) -> Step:
    """Return a script's step as `loop.fit` takes it: networks in train mode, reading noted."""
    for net in nets.values():
        net.train()

    def step(epoch: int, batch: np.ndarray) -> None:
        with run.ledger.reading_for(*nets):
            train_step(epoch, batch)

    return step


@contextlib.contextmanager
def paired_eeg_is_learnt_from() -> Iterator[None]:
    """Have fine-tuning learn from generated EEG, be it found to do harm: the longer step."""
    start = classifier.start
    with patch.object(classifier, "start", lambda *of: replace(start(*of), with_paired=True)):
        yield


def published_step(run: Any, stage: str) -> Step:
    """Return the published-style step of a stage, with networks as of its run, in its precision."""
    batches = published_loop.HostBatches(run.store, run.labels, run.device)
    config, names = run.config, run.store.ch_names
    if stage == "gan":
        generator = Generator(names, widths=config.widths)
        critic = Discriminator(names, widths=config.critic_widths, n_hidden=config.critic_hidden)
        pair = generator.to(run.device), critic.to(run.device)
        step = published_loop.gan_step(batches, *pair, config)
    elif stage == "classifier":
        shape = {"widths": config.widths, "n_features": config.n_features}
        net = SASTNet(names, config.n_classes, dropout=config.dropout, **shape)
        step = published_loop.classifier_step(batches, net.to(run.device), config)
    else:
        net, generator = (
            checkpoints.rebuild(run.upstream[name], run.device) for name in ("classifier", "gan")
        )
        step = published_loop.finetune_step(batches, net, generator, config)

    def in_precision(epoch: int, batch: np.ndarray) -> Any:
        with run.compute.autocast():
            return step(epoch, batch)

    return in_precision


def full_batches(items: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield random batches of `size` items without end."""
    rng = np.random.default_rng(0)
    while True:
        yield rng.permutation(items)[:size]


def clock(device: torch.device) -> float:
    """Return the time in seconds; with one thread on a processor, the time of this thread."""
    synchronise(device)
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return time.thread_time() if alone else time.perf_counter()


def block(step: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that a step takes, the mean over as many as `_BLOCK` allows."""
    start, until, n_steps = clock(device), time.perf_counter() + _BLOCK, 0
    while not n_steps or time.perf_counter() < until:
        step()
        n_steps += 1
    return (clock(device) - start) / n_steps


def synchronise(device: torch.device) -> None:
    """Wait until a GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def gpu_peak(device: torch.device) -> Iterator[dict[str, float]]:
    """Give a dict that holds, after the block, the ``mib`` a GPU had allocated at most."""
    found: dict[str, float] = {}
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    yield found
    if device.type == "cuda":
        found["mib"] = torch.cuda.max_memory_allocated(device) / 2**20


def counted(step: Callable[[], Any]) -> dict[str, float]:
    """Return the FLOPs of a step: of convolutions and matrix products, forwards and backwards.

    A compiled network is counted as it was written, since the counter cannot look into it.
    """
    counter = FlopCounterMode(display=False)
    # It would also tell modules apart, and cannot within the gradient penalty's `autograd.grad`.
    nothing = {"__enter__": lambda: None, "__exit__": lambda: None}
    counter.mod_tracker = SimpleNamespace(parents={"Global"}, **nothing)
    with torch.compiler.set_stance("force_eager"), counter:
        step()
    return {"flops": counter.get_total_flops()}


def profiled(step: Callable[[], Any], device: torch.device) -> dict[str, float]:
    """Return the share of a step's time that is spent in convolutions and matrix products."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    with profile(activities=activities, acc_events=True) as profiler:
        step()
        synchronise(device)
    spent = [
        (event.key, event.self_device_time_total if gpu else event.self_cpu_time_total)
        for event in profiler.key_averages()
        if event.device_type == DeviceType.CPU  # a GPU's work counts as its operator's
    ]
    of_products = sum(time for name, time in spent if re.search("conv|mm|gemm|linear", name))
    return {"share_in_products": of_products / sum(time for _, time in spent)}


def peak(device: torch.device, precisions: Sequence[str]) -> dict[str, float]:
    """Return the FLOP/s of square matrix products, per precision, at their best.

    They are asked for as products and as 1x1 convolutions, for which PyTorch goes to other
    libraries on some processors.
    """
    found = {}
    for name in (PRECISIONS[precision] for precision in precisions):
        rates = []
        for size in _SIZES[device.type]:
            shape, dtype = (size, size), getattr(torch, name)
            a, b = (torch.randn(shape, device=device, dtype=dtype) for _ in range(2))
            image = a.view(-1, 4, 4, size).movedim(3, 1)  # its values lie in memory as those of a
            for product in (
                lambda a=a, b=b: a @ b,
                lambda a=image, b=b: F.conv2d(a, b[..., None, None]),
            ):
                rates.append(2 * size**3 / quickest(product, device))
        found[name] = max(rates)
    return found


def quickest(product: Callable[[], Any], device: torch.device) -> float:
    """Return the seconds that a product takes, at least."""
    times, until = [], time.perf_counter() + _PEAK_SECONDS
    while len(times) < 2 or time.perf_counter() < until:
        start = clock(device)
        product()
        times.append(clock(device) - start)
    return min(times)


if __name__ == "__main__":
    command_line(main, Config)
