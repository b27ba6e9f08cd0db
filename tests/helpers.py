"""Small stores for tests, and runs that go on from others."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from matplotlib import image

from de3dgan.base.errors import UserError
from de3dgan.data.preprocessing import build_store
from de3dgan.data.simulation import Signal
from de3dgan.data.splits import Split
from de3dgan.data.store import FIXED_COLUMNS, Store
from de3dgan.data.synthetic import write_deap
from de3dgan.eeg.montage import DEAP_CHANNELS, Grid
from de3dgan.training import distributed

#: The electrodes of EEGMAT.
EEGMAT_CHANNELS = tuple("FP1 FP2 F3 F4 F7 F8 T7 T8 C3 C4 P7 P8 P3 P4 O1 O2 FZ CZ PZ".split())

#: Where a runs folder has the fold that `run_stage` trains.
FOLD = Path("valence", "trial", "fold0")


def make_store(
    folder: Path, n_subjects: int = 2, n_trials: int = 4, n_jobs: int = 1, **signal: object
) -> Store:
    """Simulate `n_subjects` in ``folder/DEAP`` and build their store in ``folder/store``."""
    write_deap(folder / "DEAP", n_subjects, Signal(n_trials=n_trials, **signal))
    return build_store("deap", folder / "DEAP", folder / "store", n_jobs)


def fake_store(
    n_trials: int = 6,
    n_frames: int = 4,
    ch_names: tuple[str, ...] = DEAP_CHANNELS[:3],
    seed: int = 0,
    **columns: list,
) -> Store:
    """Return a store of random numbers that is in memory only: EEG of 10 µV, DE around 2 nats.

    Unless `columns` says otherwise, each trial is of a stimulus and a baseline of its own.
    """
    rng = np.random.default_rng(seed)
    n_chans = len(ch_names)
    table = {
        "trial": range(n_trials),
        "subject": ["s01"] * n_trials,
        "session": ["1"] * n_trials,
        "piece": [0] * n_trials,
        "stimulus": [f"video{trial:02d}" for trial in range(n_trials)],
        "baseline": range(n_trials),
        **columns,
    }

    def draw(*shape: int, scale: float) -> np.ndarray:
        return (scale * rng.normal(size=shape)).astype(np.float32)

    return Store(
        path=Path("nowhere"),
        manifest={
            "hash": f"hash of {seed}",
            "ch_names": list(ch_names),
            "montage": "colin27_1005",
            "grid": Grid.paper(ch_names).content(),
            "reference": "baseline",
            "scales": {name: [1, 9] for name in columns if name not in FIXED_COLUMNS},
            "classes": {},
        },
        eeg=draw(n_trials, n_chans, n_frames * 128, scale=10),
        baseline=draw(n_trials, n_chans, 3 * 128, scale=10),
        de=draw(n_trials, 4, 2 * n_frames, n_chans, scale=0.3),
        baseline_de=2 + draw(n_trials, 4, n_chans, scale=0.5),
        columns={name: [str(value) for value in values] for name, values in table.items()},
    )


def split_by_trial(store: Store, val: int, test: int) -> Split:
    """Return a split by hand: trial `val` validates, trial `test` tests, the others train."""
    trial = np.arange(store.n_trials * store.n_frames) // store.n_frames
    parts = (~np.isin(trial, [val, test]), trial == val, trial == test)
    return Split("trial", 0, 520, store.n_frames, *map(np.flatnonzero, parts))


def copy_upstream(stage: str, finished: Path, runs: Path) -> Path:
    """Copy what `stage` reads from finished runs to `runs`, and return its folder there."""
    for name in ("gan", "classifier") if stage == "finetune" else ():
        shutil.copytree(finished / FOLD / name, runs / FOLD / name)
    return runs / FOLD / stage


def one_line(error: pytest.ExceptionInfo[UserError]) -> str:
    """Return the message of a `UserError`, having checked that it is one line."""
    message = str(error.value)
    assert message and "\n" not in message
    return message


def smallest_png(*_) -> bytes:
    """Stand in for `style.png` where nobody will look at the figures."""
    content = io.BytesIO()
    image.imsave(content, np.zeros((1, 1, 3)), format="png")
    return content.getvalue()


@contextmanager
def stopped_after_one_step() -> Iterator[None]:
    """Stop the training in the block, in an orderly way, once it has taken a step."""

    def interrupt_together() -> None:
        raise KeyboardInterrupt

    stop = mock.patch.object(distributed, "interrupt_together", interrupt_together)
    with stop, suppress(KeyboardInterrupt):
        yield


def assert_same_step(one: Mapping[str, Any], other: Mapping[str, Any]) -> None:
    """Fail unless two states hold the same first step, but for how float32 rounds its sums.

    Means of losses may differ by 1e-4 (and 1e-4 of their size), gradients by 1e-3 of their length.
    """
    assert one["n_steps"] == other["n_steps"] == 1
    assert one["losses"]["counts"] == other["losses"]["counts"]
    for name, count in one["losses"]["counts"].items():
        means = [float(state["losses"]["sums"][name]) / count for state in (one, other)]
        assert means[0] == pytest.approx(means[1], rel=1e-4, abs=1e-4), name
    for name in one["optimisers"]:
        # After its first step, Adam's average is the gradient times a constant.
        a, b = (
            torch.cat([p["exp_avg"].flatten() for p in state["optimisers"][name]["state"].values()])
            for state in (one, other)
        )
        assert a.norm() > 0, name
        assert (a - b).norm() < 1e-3 * a.norm(), name
