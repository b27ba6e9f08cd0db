"""How long preprocessing takes per subject, and a step of each stage.

    .venv/bin/python benchmarks/speed.py

Preprocessing is timed against a plain loop, one trial, electrode, band and window at a time, on the
same simulated DEAP subject. The stages are timed in the very loop that their scripts run, with the
widths and batch sizes of each method. Writes benchmarks/SPEED.md.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import runpy
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from de3dgan.cli import command_line

METHODS = {"published": "Published", "spectral": "Config"}
STAGES = ("3D-UNet_GAN", "SA-ST_Net_Classifier", "Finetune_Classifier")


@dataclass(frozen=True)
class Config:
    """How much to measure, and where to write it."""

    repeats: int = 5  # subjects, and epochs, measured of each kind; the median is reported
    out: Path = ROOT / "benchmarks" / "SPEED.md"  # the table


def main(config: Config) -> None:
    """Measure, print and write the table."""
    import torch

    from de3dgan.files import write_text
    from de3dgan.run import autocast

    bf16 = autocast(torch.device("cpu"))._enabled
    lines = [
        "# Speed",
        "",
        "Made by `.venv/bin/python benchmarks/speed.py` on a machine with "
        f"{os.cpu_count()} cores ({platform.machine()}, {'with' if bf16 else 'without'} bfloat16 "
        f"instructions), torch {torch.__version__} with {torch.get_num_threads()} threads. "
        f"Means (DE) and medians (steps) of {config.repeats}.",
        "",
        *preprocessing_lines(config.repeats),
        "",
        *stage_lines(config.repeats),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    write_text(config.out, text)


def preprocessing_lines(repeats: int) -> list[str]:
    """Time DE extraction of one DEAP subject, ours and the plain loop in turns."""
    import numpy as np
    from joblib import Parallel, delayed

    from de3dgan.features import BANDS
    from de3dgan.montage import DEAP_CHANNELS
    from de3dgan.preprocessing import subject_de
    from de3dgan.sources import Segment, Subject, Trial
    from de3dgan.synthetic import simulate_subject

    data, _ = simulate_subject(1)
    recordings = list(data[:, :32])
    subject = Subject(
        "s01",
        DEAP_CHANNELS,
        recordings,
        [Segment(i, 0, 384) for i in range(len(recordings))],
        [Trial(Segment(i, 384, 8064), i, "", {}) for i in range(len(recordings))],
    )
    fast, _ = subject_de(subject)  # warms up: filters are made once per process
    one = seconds_of(subject, repeats) / repeats
    start = time.perf_counter()
    for _ in range(repeats):
        plain = plain_loop(recordings)
    loop = (time.perf_counter() - start) / repeats
    # Each process computes one subject again and again, as many processes as cores.
    cores = os.cpu_count()
    with Parallel(n_jobs=cores) as parallel:
        parallel(delayed(seconds_of)(subject, 1) for _ in range(cores))  # processes start, warm up
        together = parallel(delayed(seconds_of)(subject, repeats) for _ in range(cores))
    shared = max(together) / (cores * repeats)
    error = np.abs(fast - plain).max()
    return [
        f"DE of one DEAP subject (40 trials of 63 s, 32 electrodes, {len(BANDS)} bands):",
        "",
        "| | seconds per subject | ratio |",
        "|---|---|---|",
        f"| plain loop over trials, electrodes, bands and windows | {loop:.2f} | 1x |",
        f"| ours, one process | {one:.3f} | {loop / one:.0f}x |",
        f"| ours, {cores} processes, as `preprocess_de.py` runs by default | {shared:.3f} "
        f"| {loop / shared:.0f}x |",
        "",
        "Reading the recordings and writing the store are not in it. "
        f"The two differ by at most {error:.0e} nats.",
    ]


def seconds_of(subject: Any, repeats: int) -> float:
    """Return how long it takes to compute a subject's DE `repeats` times."""
    from de3dgan.preprocessing import subject_de

    start = time.perf_counter()
    for _ in range(repeats):
        subject_de(subject)
    return time.perf_counter() - start


def plain_loop(recordings: list[Any]) -> Any:
    """Return baseline-removed DE, as the method is usually written down."""
    import numpy as np
    from scipy.signal import butter, filtfilt

    from de3dgan.features import BANDS

    out = np.empty((len(recordings), len(BANDS), 120, 32))
    for trial, recording in enumerate(recordings):
        for band, (low, high) in enumerate(BANDS.values()):
            b, a = butter(3, [low, high], "bandpass", fs=128)
            for channel in range(32):
                filtered = filtfilt(b, a, recording[channel])
                de = [
                    0.5 * np.log(2 * np.pi * np.e * np.var(filtered[start : start + 64], ddof=1))
                    for start in range(0, 8064, 64)
                ]
                out[trial, band, :, channel] = np.array(de[6:]) - np.mean(de[:6])
    return out


def stage_lines(repeats: int) -> list[str]:
    """Time training steps of the three stages on simulated DEAP data."""
    from de3dgan.preprocessing import build_store
    from de3dgan.synthetic import Signal, write_deap

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        recordings, data_dir = Path(folder, "recordings"), Path(folder, "store")
        write_deap(recordings, n_subjects=1, signal=Signal(n_trials=25))
        build_store("deap", recordings, data_dir, n_jobs=1)
        for stage, (method, recipe) in itertools.product(STAGES, METHODS.items()):
            script = ROOT / f"{stage}_Valence.py"
            names = runpy.run_path(str(script))
            arguments = {"data_dir": data_dir, "runs_dir": Path(folder, method)}
            sys.argv[0] = str(script)
            timed = TimedFit(n_epochs=5 + repeats)
            with patch("de3dgan.engine.fit", timed), contextlib.suppress(Measured):
                names["main"](names[recipe](**arguments, restart=True))
            rows += timed.rows(stage, method)
            if stage != STAGES[-1]:  # what the next stages read
                names["main"](names[recipe](**arguments, restart=True, epochs=1))
    return [
        "One training step with the widths of each method's recipe (8 trials, 64 frames, 64 real "
        "and 64 generated frames):",
        "",
        "| stage | method | seconds per step |",
        "|---|---|---|",
        *rows,
    ]


class Measured(Exception):
    """Ends a stage's script once its steps have been timed."""


class TimedFit:
    """Takes the place of `de3dgan.engine.fit`: trains a few epochs and times the full batches."""

    def __init__(self, n_epochs: int):
        self.n_epochs = n_epochs
        self.epochs: list[float] = []

    def __call__(
        self,
        run: Any,
        nets: dict[str, Any],
        optimisers: Any,
        train_epoch: Callable[[int, Callable[[], None]], Any],
        validate: Any,
        n_steps: int,
        **_: Any,
    ) -> None:
        """Time `n_epochs` epochs; the first of each kind of epoch only warms up."""
        for net in nets.values():
            net.train()
        for epoch in range(self.n_epochs + 1):
            times = [time.perf_counter()]
            train_epoch(epoch, lambda times=times: times.append(time.perf_counter()))
            # The last batch of an epoch is a smaller one.
            full = [b - a for a, b in zip(times[:-2], times[1:-1], strict=True)]
            self.epochs.append(statistics.median(full))
        raise Measured

    def rows(self, stage: str, method: str) -> list[str]:
        """Return table rows: for the GAN, epochs in which the critic steps and rests apart."""
        if stage != STAGES[0] or method != "published":
            return [f"| {stage} | {method} | {statistics.median(self.epochs[1:]):.3f} |"]
        steps = statistics.median(self.epochs[5::5])
        rests = statistics.median([t for i, t in enumerate(self.epochs) if i % 5])
        return [
            f"| {stage}, critic steps (every fifth epoch) | {method} | {steps:.2f} |",
            f"| {stage}, critic rests | {method} | {rests:.3f} |",
            f"| {stage}, mean over five epochs | {method} | {(steps + 4 * rests) / 5:.3f} |",
        ]


if __name__ == "__main__":
    command_line(main, Config)
