"""The tables of SPEED.md, from what `speed.py` has found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.speed_steps import PUBLISHED_STYLE
from de3dgan.base.recipe import find_scripts, load_recipe
from de3dgan.training.device import PRECISIONS

Found = Mapping[str, Any]
#: Headings, and rows of cells.
Table = tuple[Sequence[str], Sequence[Sequence[str]]]

#: What stages are called in tables.
STAGES = {"gan": "GAN", "classifier": "classifier", "finetune": "fine-tuning"}
#: Epochs from one in which the published critic steps to the next, and the mean over these.
CRITIC_EVERY = 5
MEAN = f"mean over {CRITIC_EVERY} epochs"
#: Tasks and folds of the paper's study.
TASKS, FOLDS = 3, 5

#: How much faster than the published-style loop in the same precision each published step is to be,
#: and of the best matrix product's FLOP/s in it, which share each is to reach on each device; in
#: the precision that "auto" is.
RATIOS = {"gan": 2.5, "classifier": 1.0, "finetune": 1.0}
UTILISATION = {"cpu": 0.8, "cuda": 0.35}
#: DE is to be this many times as fast as the loop over windows.
DE_RATIO = 30.0
HELP_SECONDS, START_SECONDS = 1.0, 5.0
#: Above the interpreter with torch, whatever the number of subjects; and on disk, per subject.
MEMORY_MIB, DISK_MIB = 1536.0, 45.0
#: Share of the variance of epochs' times that the number of trials explains.
R2 = 0.99
#: Of the paper's study on a GPU: by its own method, 300 epochs of each stage, and by ours.
STUDY_MINUTES, STUDY_EPOCHS = {"published": 60.0, "spectral": 10.0}, 300


def tables(found: Found) -> dict[str, Table]:
    """Return the tables of each device, "cpu" and "cuda", that `speed.py` was run with."""
    parts = {
        **{"machines": machine_tables, "auto": choice_tables, "steps": step_tables},
        **{"de": de_tables, "help": help_tables, "scaling": scaling_tables},
        **{"folds": fold_tables},
    }
    out = {}
    for device, figures in found.items():
        heads = ("target", "wanted", "found", "")
        out[f"{device}: targets"] = (heads, list(targets(figures, device)))
        for part in filter(figures.__contains__, parts):
            for name, text in parts[part](figures).items():
                out[f"{device}: {name}"] = text
    return out


# --- targets


def targets(found: Found, device: str) -> Iterator[tuple[str, str, str, str]]:
    """Yield each target: its name, what is wanted, what was found, and whether it is met."""
    for of_setting in found.get("steps", []):
        rows, precision = with_means(of_setting["rows"]), in_use(found, of_setting)
        for stage, wanted in RATIOS.items():
            row = found_row(rows, stage, "published", MEAN if stage == "gan" else "", precision)
            if row is None:
                continue
            kind = f", {row['kind']}" if row["kind"] else ""
            step = f"{STAGES[stage]} step{kind} ({_setting(of_setting)}, {precision})"
            if device == "cpu":
                yield _target(f"{step}: against the loop", ">=", wanted, "x", [ratio(rows, row)])
            shares = [utilisation(row, of_setting["peak_flops"])]
            yield _target(f"{step}: share of the limit", ">=", UTILISATION[device], "", shares)
    if "de" in found:
        times = [found["de"]["plain"] / found["de"]["all_cores"]]
        yield _target("DE, against the loop over windows", ">=", DE_RATIO, "x", times)
    if "help" in found:
        yield _target("`--help`, slowest", "<=", HELP_SECONDS, " s", found["help"].values())
    if "scaling" not in found:
        return
    rows, base = found["scaling"]["rows"], found["scaling"]["torch_mib"]
    largest = [r for r in of_size(rows, max(sizes(rows))) if r["stage"] != "preprocess"]
    starts = [row["to_first_step"] - row["paired_eeg"] for row in largest]
    name = "start to first step, slowest stage, without the generation of its EEG"
    yield _target(name, "<=", START_SECONDS, " s", starts)
    above = [row["peak_mib"] - base for row in rows]
    name = "memory above the interpreter with torch, largest"
    yield _target(name, "<=", MEMORY_MIB, " MiB", above)
    fits = [epoch_line(rows, key)["r2"] for key in stage_keys(rows)]
    yield _target("time per epoch, how linear in trials: lowest R²", ">=", R2, "", fits)
    disk = [row["disk_mib"] / row["n_subjects"] for row in rows if row["stage"] == "preprocess"]
    yield _target("disk per subject, features", "<=", DISK_MIB, " MiB", disk)
    for method, minutes in STUDY_MINUTES.items():
        n_epochs = STUDY_EPOCHS if method == "published" else None
        hours = study_hours(found, method, n_epochs)
        if device == "cuda" and hours is not None:
            name = f"the paper's study, `--method {method}`"
            name += f", {n_epochs} epochs of each stage" if n_epochs else ""
            yield _target(name, "<=", minutes, " minutes", [60 * hours])


def _target(
    name: str, relation: str, limit: float, unit: str, values: Sequence[float]
) -> tuple[str, str, str, str]:
    least = relation == ">="
    value = min(values) if least else max(values)
    met = value >= limit if least else value <= limit
    wanted = f"at {'least' if least else 'most'} {limit:g}{unit}"
    return name, wanted, f"{rounded(value)}{unit}", "met" if met else "**missed**"


# --- machines, and what --precision auto is on them


def machine_tables(found: Found) -> dict[str, Table]:
    """Return the table of the machines that each part was measured on."""
    heads = ("part", "cores", "architecture", "instructions", "memory", "GPU", "torch")
    names = ("cores", "architecture", "instructions", "memory", "gpu", "torch")
    rows = []
    for part, machine in found["machines"].items():
        known = {**machine, "memory": f"{machine['memory_gib']:.0f} GiB"}
        rows.append((part, *(str(known[name] or "none") for name in names)))
    return {"machines": (heads, rows)}


def choice_tables(found: Found) -> dict[str, Table]:
    """Return the table of what ``--precision auto`` is."""
    heads = ("instructions", "threads", "bfloat16's time over float32's", "auto", "s to find out")
    rows = []
    for row in found["auto"]:
        figures = f"{row['ratio']:.2g}", PRECISIONS[row["precision"]], f"{row['seconds']:.2f}"
        rows.append((row["instructions"], str(row["threads"]), *figures))
    return {"auto": (heads, rows)}


def in_use(found: Found, of_setting: Found) -> str:
    """Return the precision that "auto" is with the instructions and threads of a setting."""
    wanted = _setting(of_setting)
    chosen = [row["precision"] for row in found.get("auto", []) if _setting(row) == wanted]
    return PRECISIONS[chosen[0] if chosen else "fp32"]


def _setting(row: Found) -> str:
    return f"{row['instructions']} instructions, {row['threads']} thread(s)"


# --- training steps


def step_tables(found: Found) -> dict[str, Table]:
    """Return the tables of the limits and of training steps."""
    limits, steps = [], []
    for of_setting in found["steps"]:
        where = of_setting["instructions"], str(of_setting["threads"])
        rows, peak = with_means(of_setting["rows"]), of_setting["peak_flops"]
        for name, rate in peak.items():
            used = "yes" if name == in_use(found, of_setting) else ""
            limits.append((*where, name, f"{1e-9 * rate:,.0f}", used))
        for row in rows:
            times, seconds, gflop = ratio(rows, row), row["seconds"], 1e-9 * row["flops"]
            step = _called(row["stage"], row["kind"]), row["loop"], f"{seconds:.3g}"
            speed = f"{rounded(row['batch'] / seconds)} {row['unit']}"
            gained = f"{times:.2f}x" if times else ""
            shares = f"{utilisation(row, peak):.2f}", f"{row['share_in_products']:.0%}"
            work = f"{gflop:,.1f}", f"{gflop / seconds:,.0f}", *shares
            gpu = f"{row['gpu_mib']:,.0f}" if row["gpu_mib"] else ""
            steps.append((*where, row["precision"], *step, speed, gained, *work, gpu))
    where = ("instructions", "threads", "precision")
    heads = (*where, "step", "loop or method", "s", "per second", "against the loop", "GFLOP")
    heads += ("GFLOP/s", "share of the limit", "in products", "GPU, MiB")
    return {"limits": ((*where, "GFLOP/s", "auto"), limits), "steps": (heads, steps)}


def with_means(rows: Sequence[Found]) -> list[Found]:
    """Return rows of steps, those of a critic followed by their mean over its cycle."""
    out: list[Found] = []
    for row in rows:
        out.append(row)
        if row["kind"] == "critic rests":
            key = row["stage"], row["loop"], "critic steps", row["precision"]
            steps = found_row(rows, *key)
            mean = {name: over_cycle(steps[name], row[name]) for name in ("seconds", "flops")}
            products = (r["seconds"] * r["share_in_products"] for r in (steps, row))
            share = over_cycle(*products) / mean["seconds"]
            out.append({**row, **mean, "share_in_products": share, "kind": MEAN})
    return out


def over_cycle(critic_steps: float, critic_rests: float) -> float:
    """Return the mean over the epochs from one in which the critic steps to the next."""
    return (critic_steps + (CRITIC_EVERY - 1) * critic_rests) / CRITIC_EVERY


def found_row(rows: Sequence[Found], *key: str) -> Found | None:
    """Return the row of steps of a stage, loop, kind and precision, or None."""
    names = ("stage", "loop", "kind", "precision")
    return next((row for row in rows if tuple(row[name] for name in names) == key), None)


def utilisation(row: Found, peak: Mapping[str, float]) -> float:
    """Return a step's FLOP/s over those of the best matrix product in its precision."""
    return row["flops"] / row["seconds"] / peak[row["precision"]]


def ratio(rows: Sequence[Found], row: Found) -> float | None:
    """Return how much faster a step is than the published-style loop's in its precision."""
    other = found_row(rows, row["stage"], PUBLISHED_STYLE, row["kind"], row["precision"])
    return other["seconds"] / row["seconds"] if other and row["loop"] == "published" else None


# --- differential entropy, and the command line


def de_tables(found: Found) -> dict[str, Table]:
    """Return the table of DE."""
    de = found["de"]
    names = {
        "plain": "plain loop over trials, electrodes, bands and windows",
        "one_process": "ours, one process",
        "all_cores": f"ours, {de['cores']} processes, as `preprocess_de.py` runs by default",
    }
    rows = [(name, f"{de[k]:.3g}", f"{de['plain'] / de[k]:.0f}x") for k, name in names.items()]
    difference = ("largest difference of the two", f"{de['largest_difference']:.0e} nats", "")
    return {"de": (("one DEAP subject", "s", "ratio"), [*rows, difference])}


def help_tables(found: Found) -> dict[str, Table]:
    """Return the table of ``--help``."""
    rows = [(f"`{command} --help`", f"{s:.2f}") for command, s in found["help"].items()]
    return {"help": (("command", "s"), rows)}


# --- the number of subjects


def scaling_tables(found: Found) -> dict[str, Table]:
    """Return the tables of what grows with the number of subjects."""
    rows, base = found["scaling"]["rows"], found["scaling"]["torch_mib"]
    keys = stage_keys(rows)
    heads = ("stage", "method", *(f"{size} subjects" for size in sizes(rows)))

    def by_size(key: tuple[str, str], text: Callable[[Found], str]) -> tuple[str, ...]:
        at = {row["n_subjects"]: row for row in rows if (row["stage"], row["method"]) == key}
        cells = (text(at[size]) if size in at else "-" for size in sizes(rows))
        return (_called(key[0]), key[1], *cells)

    def memory(row: Found) -> str:
        anonymous = row["peak_anonymous_mib"]
        shown = "-" if anonymous is None else f"{anonymous:,.0f}"
        return f"{row['peak_mib'] - base:,.0f} ({shown})"

    def start(row: Found) -> str:
        less = row["to_first_step"] - row["paired_eeg"]
        return f"{less:.1f}" + (f" ({row['to_first_step']:.1f})" if row["paired_eeg"] else "")

    epochs = []
    for key in keys:
        fit = epoch_line(rows, key)
        line_ = f"{fit['start']:.2g} s + {1000 * fit['slope']:.3g} ms per trial"
        seconds = by_size(key, lambda row: f"{row['epochs'][-1]:.3g}")
        epochs.append((*seconds, line_, f"{fit['r2']:.4f}", f"{fit['residual']:.0%}"))
    disk = [by_size(key, lambda row: f"{row['disk_mib']:,.0f}") for key in keys]
    features = by_size(("preprocess", "both"), lambda row: f"{row['disk_mib']:,.0f}")
    out = {
        "memory": (heads, [by_size(key, memory) for key in (("preprocess", "both"), *keys)]),
        "epochs": ((*heads, "line", "R²", "largest residual"), epochs),
        "start": (heads, [by_size(key, start) for key in keys]),
        "disk": (heads, [features, *disk]),
    }
    if any(row["gpu_mib"] is not None for row in rows):
        gpu = [by_size(key, lambda row: f"{row['gpu_mib']:,.0f}") for key in keys]
        out["gpu memory"] = (heads, gpu)
    study = []
    for method in ("spectral", "published"):
        hours, epochs = study_hours(found, method), recipe_epochs(method).values()
        if hours is not None:
            study.append((f"`--method {method}`", ", ".join(map(str, epochs)), f"{hours:.1f}"))
    if study:
        out["study"] = (("study", "epochs", "hours"), study)
    return out


def fold_tables(found: Found) -> dict[str, Table]:
    """Return the table of folds at once."""
    rows = []
    for row in found["folds"]["rows"]:
        each = row["seconds"] / row["at_once"]
        rows.append((row["method"], str(row["at_once"]), f"{row['seconds']:.3g}", f"{each:.3g}"))
    return {"folds": (("method", "folds at once", "s", "s per fold"), rows)}


def sizes(rows: Sequence[Found]) -> list[int]:
    """Return the numbers of subjects."""
    return list(dict.fromkeys(row["n_subjects"] for row in rows))


def of_size(rows: Sequence[Found], n_subjects: int) -> list[Found]:
    """Return the rows of a number of subjects."""
    return [row for row in rows if row["n_subjects"] == n_subjects]


def stage_keys(rows: Sequence[Found]) -> list[tuple[str, str]]:
    """Return the (stage, method) of all rows of stages, each once."""
    keys = [(row["stage"], row["method"]) for row in rows if row["stage"] != "preprocess"]
    return list(dict.fromkeys(keys))


def epoch_line(rows: Sequence[Found], key: tuple[str, str]) -> dict[str, float]:
    """Return the `line` of the seconds of the last epoch over training trials."""
    of_stage = [row for row in rows if (row["stage"], row["method"]) == key]
    trials = [row["n_train_trials"] for row in of_stage]
    return line(trials, [row["epochs"][-1] for row in of_stage])


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Fit y = start + slope · x; through one point alone, with a start of 0.

    Return them, ``r2``, and the largest ``residual`` as a share of y.
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


def recipe_epochs(method: str) -> dict[str, int]:
    """Return how many epochs the recipes of a method train for, per stage."""
    return {stage: load_recipe(find_scripts(stage)["valence"], method).epochs for stage in STAGES}


def study_hours(found: Found, method: str, n_epochs: int | None = None) -> float | None:
    """Return how long the paper's study takes, or None if not all of it was measured.

    All stages of all tasks and folds, one after another, each for `n_epochs` or, by default, for as
    many as its recipe says; with as many subjects as were measured.
    """
    rows = found["scaling"]["rows"]
    of_stage = {r["stage"]: r for r in of_size(rows, max(sizes(rows))) if r["method"] == method}
    if set(of_stage) != set(STAGES):
        return None
    seconds = 0.0
    for stage, row in of_stage.items():
        first, last = row["epochs"][0], row["epochs"][-1]
        per_epoch = over_cycle(first, last) if (stage, method) == ("gan", "published") else last
        epochs = n_epochs or recipe_epochs(method)[stage]
        seconds += epochs * per_epoch + row["seconds"] - sum(row["epochs"])
    return TASKS * FOLDS * seconds / 3600


def rounded(value: float) -> str:
    """Return a figure with three digits, or as a whole number."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _called(stage: str, kind: str = "") -> str:
    return STAGES.get(stage, "preprocessing") + (f", {kind}" if kind else "")
