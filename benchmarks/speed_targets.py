"""What is wanted of speed, memory and disk, and whether it is so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.speed_figures import (
    MEAN,
    PUBLISHED_STYLE,
    STAGES,
    Found,
    epoch_line,
    found_row,
    largest_size,
    ratio,
    stage_keys,
    study_minutes,
    utilisation,
    with_means,
)

#: How much faster than the published-style loop each stage is to be, on processors; and DE, than
#: the loop over windows.
RATIOS = {"gan": 4.0, "classifier": 1.6, "finetune": 2.0}
DE_RATIO = 30.0
#: Share of the best matrix product's FLOP/s, and from which share of its time in convolutions and
#: matrix products on a step is bound by them.
UTILISATION, BOUND = 0.6, 0.65
HELP_SECONDS, START_SECONDS = 1.0, 5.0
#: Above the interpreter with torch, whatever the number of subjects.
MEMORY_MIB = 1536.0
#: Per subject.
DISK_MIB = 45.0
#: Share of the variance of epochs' times that the number of trials explains.
R2 = 0.99
#: Of the paper's study, 300 epochs of each stage, on a GPU.
STUDY_MINUTES, STUDY_EPOCHS = 60.0, 300


@dataclass(frozen=True)
class Target:
    """A figure, and what is wanted of it.

    Attributes
    ----------
    name, wanted : str
        What is measured, and the target.
    figure : str
        What was found; empty if it was not measured.
    met : bool or None
        Whether it is met; None if it was not measured.
    """

    name: str
    wanted: str
    figure: str = ""
    met: bool | None = None

    @property
    def verdict(self) -> str:
        """In words."""
        return {True: "met", False: "**missed**", None: "not measured"}[self.met]


def targets(found: Found, device: str) -> Iterator[Target]:
    """Yield all targets of a device, "cpu" or "cuda"."""
    if device == "cpu":
        yield from _ratios(found)
    yield from _utilisations(found)
    yield _at_most("`--help`, slowest", HELP_SECONDS, "s", found.get("help", {}).values())
    yield from _of_scaling(found)
    if device == "cuda":
        minutes = study_minutes(found, "published", STUDY_EPOCHS)
        name = "the paper's study, `--method published`, 300 epochs of each stage"
        yield _at_most(name, STUDY_MINUTES, "minutes", [] if minutes is None else [minutes])


def _ratios(found: Found) -> Iterator[Target]:
    rows = with_means(found.get("steps", []))
    for stage, wanted in RATIOS.items():
        kind = MEAN if stage == "gan" else ""
        row = found_row(rows, stage, "published", kind)
        name = f"{STAGES[stage]} step{kind and ', '}{kind}, against the {PUBLISHED_STYLE}"
        yield _at_least(name, wanted, "x", row and ratio(rows, row))
    de = found.get("de")
    times = de and de["plain"] / de["all_cores"]
    yield _at_least("DE, against the loop over windows", DE_RATIO, "x", times)


def _utilisations(found: Found) -> Iterator[Target]:
    """Yield the target of each of our stages that is bound by convolutions."""
    if "steps" not in found:
        yield _at_least("utilisation, where bound by convolutions", UTILISATION, "", None)
    for row in with_means(found.get("steps", [])):
        ours = row["loop"] != PUBLISHED_STYLE and row["kind"] in ("", MEAN)
        if ours and row["share_in_products"] >= BOUND:
            kind = f", {row['kind']}" if row["kind"] else ""
            name = f"utilisation, {STAGES[row['stage']]}{kind}, {row['loop']}"
            yield _at_least(name, UTILISATION, "", utilisation(row, found["peak_flops"]))


def _of_scaling(found: Found) -> Iterator[Target]:
    rows = found.get("scaling", {}).get("rows", [])
    keys, size = stage_keys(rows), largest_size(rows)
    largest = [r for r in rows if r["n_subjects"] == size and r["stage"] != "preprocess"]
    starts = [row["to_first_step"] - row["paired_eeg"] for row in largest]
    name = "start to first step, slowest stage, without the generation of its EEG"
    yield _at_most(name, START_SECONDS, "s", starts)
    above = [row["peak_mib"] - found["scaling"]["torch_mib"] for row in rows]
    name = "memory above the interpreter with torch, largest"
    yield _at_most(name, MEMORY_MIB, "MiB", above)
    worst = min((epoch_line(rows, key)["r2"] for key in keys), default=None)
    yield _at_least("time per epoch, how linear in trials: lowest R²", R2, "", worst)
    disk = [row["disk_mib"] / row["n_subjects"] for row in rows if row["stage"] == "preprocess"]
    yield _at_most("disk per subject, features", DISK_MIB, "MiB", disk)


def _at_least(name: str, limit: float, unit: str, value: float | None) -> Target:
    wanted = f"at least {limit:g}{unit}"
    if value is None:
        return Target(name, wanted)
    return Target(name, wanted, f"{value:.3g}{unit}", value >= limit)


def _at_most(name: str, limit: float, unit: str, values: Found | list[float]) -> Target:
    wanted, value = f"at most {limit:g} {unit}", max(values, default=None)
    if value is None:
        return Target(name, wanted)
    return Target(name, wanted, f"{value:,.3g} {unit}", value <= limit)
