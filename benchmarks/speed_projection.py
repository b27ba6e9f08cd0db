"""On paper: many more subjects and electrodes than were measured."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.speed_figures import STAGES, Found, epoch_line, per_subject, stage_keys

#: DEAP: electrodes, and per subject trials, of seconds.
_CHANNELS, _TRIALS, _SECONDS = 32, 40, 60
#: Of the trials, those that train a network, and those that train a linear model.
_TRAINED_ON, _KNOWN = 0.64, 0.8
#: What it is projected to.
_MANY_SUBJECTS, _MANY_CHANNELS = 1000, 128
_GIB = 2**30


def projection_lines(found: Found) -> Iterator[str]:
    """Yield what breaks, in which order, and what to do then; nothing if there is no line to it."""
    rows = found["scaling"]["rows"]
    keys = stage_keys(rows)
    if len({row["n_subjects"] for row in rows}) < 2:
        return
    more = _MANY_CHANNELS // _CHANNELS
    trials = round(_MANY_SUBJECTS * _TRIALS * _TRAINED_ON)
    yield f"### On paper: {_MANY_SUBJECTS:,} subjects, {_MANY_CHANNELS} electrodes"
    yield ""
    yield f"From the lines above, with {trials:,} training trials, in the order in which it breaks:"
    yield ""
    yield (
        f"1. **The grid.** It has 72 cells and knows the names of {_CHANNELS} electrodes: "
        "preprocessing refuses others at once. `de3dgan/eeg/montage.py` would need a grid of 16x18 "
        "cells or so, and convolutions then take four times as long per trial. The spectral "
        f"generator would have {_pairs(_MANY_CHANNELS):,} pairs of electrodes rather than "
        f"{_pairs(_CHANNELS)}, and matrix exponentials of {more**3} times the work: it should be "
        "given fewer frequencies, or groups of electrodes."
    )
    hours = {key: epoch_line(rows, key)["slope"] * trials / 3600 for key in keys}
    quickest, slowest = min(hours, key=hours.get), max(hours, key=hours.get)
    yield (
        f"2. **Time.** With {_CHANNELS} electrodes, an epoch takes {hours[quickest]:.2g} hours "
        f"({_called(quickest)}) to {hours[slowest]:.2g} hours ({_called(slowest)}) on this "
        "machine. As many steps do as before, that is fewer epochs; or a GPU, or several machines."
    )
    frames = round(_MANY_SUBJECTS * _TRIALS * _SECONDS * _KNOWN)
    features = 4 * frames * 4 * _MANY_CHANNELS / _GIB
    growth = {key: per_subject(rows, key, "peak_anonymous_mib") for key in keys}
    hungriest = max(growth, key=growth.get)
    yield (
        "3. **Memory of what looks at all DE at once**, the linear models and the certificate's "
        f"probe. DE of {frames:,} frames is {features:.2g} GiB, and they hold it two or three "
        f"times. Of the stages measured, {_called(hungriest)} grows fastest at the end, by "
        f"{growth[hungriest]:.2g} MiB per subject with {_CHANNELS} electrodes, pages of files "
        f"aside: by {growth[hungriest] * _MANY_SUBJECTS / 1024:.2g} GiB. They should then be "
        "fitted in passes, from sums over parts of the data, or on some of the frames, as the "
        "support vector machine is."
    )
    disk = max(r["disk_mib"] / r["n_subjects"] for r in rows if r["stage"] == "preprocess")
    yield (
        f"4. **Disk.** {disk * _MANY_SUBJECTS / 1024:.0f} GiB, with {_MANY_CHANNELS} electrodes "
        f"{more * disk * _MANY_SUBJECTS / 1024:.0f} GiB, are read as they are needed and need not "
        "fit into memory. Where they do not, an epoch is as fast as the disk finds single frames: "
        "batches should be drawn from some trials at a time. Nor need they fit into a GPU's: "
        "what would take half of it is left in files, and batches are gathered from there."
    )
    start = max(per_subject(rows, key, "to_first_step", "paired_eeg") for key in keys)
    paired = max(per_subject(rows, key, "paired_eeg") for key in keys)
    yield (
        f"5. **The start.** A subject adds {1000 * start:.0f} ms to it, since all DE is "
        f"looked at: {start * _MANY_SUBJECTS:.0f} s. The paired EEG of fine-tuning adds "
        f"{paired:.2g} s per subject, {paired * _MANY_SUBJECTS / 3600:.2g} hours, and as much disk "
        "as the EEG that is trained on. It should then be generated once and kept, for all "
        "classifiers of a fold."
    )
    yield ""


def _called(key: tuple[str, str]) -> str:
    return f"{STAGES[key[0]]}, {key[1]}"


def _pairs(n_chans: int) -> int:
    return n_chans * (n_chans - 1) // 2
