"""What follows from the figures that `speed.py` finds: means, rates, lines, projections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Found = Mapping[str, Any]

PUBLISHED_STYLE = "published-style loop"
#: What stages are called in tables.
STAGES = {"gan": "GAN", "classifier": "classifier", "finetune": "fine-tuning"}
#: Epochs from one in which the published critic steps to the next.
CRITIC_EVERY = 5
#: The kind of a step that is the mean over these.
MEAN = f"mean over {CRITIC_EVERY} epochs"
#: Tasks and folds of the paper's study.
TASKS, FOLDS = 3, 5


# --- training steps


def over_cycle(critic_steps: float, critic_rests: float) -> float:
    """Return the mean over the epochs from one in which the critic steps to the next."""
    return (critic_steps + (CRITIC_EVERY - 1) * critic_rests) / CRITIC_EVERY


def with_means(rows: Sequence[Found]) -> list[Found]:
    """Return rows of steps, those of a critic followed by their mean over its cycle."""
    out: list[Found] = []
    for row in rows:
        out.append(row)
        if row["kind"] == "critic rests":
            steps = found_row(rows, row["stage"], row["loop"], "critic steps")
            mean = {name: over_cycle(steps[name], row[name]) for name in ("seconds", "flops")}
            mean["share_in_products"] = (
                over_cycle(*(r["seconds"] * r["share_in_products"] for r in (steps, row)))
                / mean["seconds"]
            )
            out.append({**row, **mean, "kind": MEAN})
    return out


def found_row(rows: Sequence[Found], stage: str, loop: str, kind: str) -> Found | None:
    """Return the row of steps of this kind, or None."""
    wanted = stage, loop, kind
    return next((r for r in rows if (r["stage"], r["loop"], r["kind"]) == wanted), None)


def utilisation(row: Found, peak: Mapping[str, float]) -> float:
    """Return a step's FLOP/s over those of the best matrix product in its precision."""
    return row["flops"] / row["seconds"] / peak[row["precision"]]


def ratio(rows: Sequence[Found], row: Found) -> float | None:
    """Return how much faster a step is than the same one of the published-style loop, or None."""
    other = found_row(rows, row["stage"], PUBLISHED_STYLE, row["kind"])
    return other["seconds"] / row["seconds"] if other and row["loop"] == "published" else None


# --- the number of subjects


def largest_size(rows: Sequence[Found]) -> int:
    """Return the largest number of subjects that was measured."""
    return max((row["n_subjects"] for row in rows), default=0)


def stage_keys(rows: Sequence[Found]) -> list[tuple[str, str]]:
    """Return the (stage, method) of all rows of stages, each once."""
    keys = [(row["stage"], row["method"]) for row in rows if row["stage"] != "preprocess"]
    return list(dict.fromkeys(keys))


def epoch_line(rows: Sequence[Found], key: tuple[str, str]) -> dict[str, float]:
    """Return the `line` of the seconds of the last epoch over training trials."""
    of_stage = [row for row in rows if (row["stage"], row["method"]) == key]
    trials = [row["n_train_trials"] for row in of_stage]
    return line(trials, [row["epochs"][-1] for row in of_stage])


def per_subject(rows: Sequence[Found], key: tuple[str, str], name: str, less: str = "") -> float:
    """Return by how much a figure grows per subject; of it, `less` is no part.

    That is between the two largest numbers of subjects: what is looked at up to some number of
    trials only, such as the quality of EEG, has stopped growing there.
    """
    of_stage = [row for row in rows if (row["stage"], row["method"]) == key]
    before, last = sorted(of_stage, key=lambda row: row["n_subjects"])[-2:]
    grown = (last[name] or 0) - (before[name] or 0)
    if less:
        grown -= last[less] - before[less]
    return max(grown / (last["n_subjects"] - before["n_subjects"]), 0.0)


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Fit y = start + slope · x; through one point alone, with a start of 0.

    Returns
    -------
    dict
        ``start``, ``slope``, ``r2`` and the ``residual``, the largest one as a share of y.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    slope, start = np.polyfit(x, y, 1) if len(x) > 1 else (y[0] / x[0], 0.0)
    residuals = y - start - slope * x
    spread = ((y - y.mean()) ** 2).sum()
    return {
        "start": float(start),
        "slope": float(slope),
        "r2": float(1 - (residuals**2).sum() / spread) if spread else 1.0,
        "residual": float(np.abs(residuals / np.where(y, y, 1)).max()),
    }


# --- the paper's study


def stage_seconds(found: Found, stage: str, method: str, n_epochs: int) -> float:
    """Return how long a stage takes for `n_epochs`, with as many subjects as were measured."""
    rows = found["scaling"]["rows"]
    wanted = (stage, method, largest_size(rows))
    row = next(r for r in rows if (r["stage"], r["method"], r["n_subjects"]) == wanted)
    first, last = row["epochs"][0], row["epochs"][-1]
    of_published_gan = (stage, method) == ("gan", "published")
    per_epoch = over_cycle(first, last) if of_published_gan else last
    return n_epochs * per_epoch + row["seconds"] - sum(row["epochs"])


def study_minutes(found: Found, method: str, n_epochs: int | None = None) -> float | None:
    """Return how long the paper's study takes, or None if not all of it was measured.

    All stages of all tasks and folds, one after another, each for `n_epochs` or, by default, for as
    many as its recipe says.
    """
    rows = found.get("scaling", {}).get("rows", [])
    keys = stage_keys([row for row in rows if row["n_subjects"] == largest_size(rows)])
    if not all((stage, method) in keys for stage in STAGES):
        return None
    epochs = found["recipe_epochs"][method]
    of_fold = sum(stage_seconds(found, s, method, n_epochs or epochs[s]) for s in STAGES)
    return TASKS * FOLDS * of_fold / 60
