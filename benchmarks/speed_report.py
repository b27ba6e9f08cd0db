"""SPEED.md, from what `speed.py` has found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.speed_figures import (
    FOLDS,
    MEAN,
    STAGES,
    TASKS,
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
from benchmarks.speed_projection import projection_lines
from benchmarks.speed_targets import BOUND, STUDY_EPOCHS, STUDY_MINUTES, targets

#: Seconds per step of the published code, once it was made to run, and of the version before the
#: last measurement, on two such cores: by stage, method and kind of step.
_EARLIER = {
    ("gan", "published", "critic steps"): ("7.9", "1.94"),
    ("gan", "published", "critic rests"): ("4.4 to 5.3", "0.239"),
    ("gan", "published", MEAN): ("5.1 to 5.8", "0.578"),
    ("gan", "spectral", ""): ("", "0.250"),
    ("classifier", "published", ""): ("0.21", "0.056"),
    ("classifier", "spectral", ""): ("", "0.013"),
    ("finetune", "published", ""): ("0.40 to 0.44", "0.098"),
    ("finetune", "spectral", ""): ("", "0.022"),
}


def document(found: Found) -> str:
    """Return SPEED.md.

    Parameters
    ----------
    found : dict
        By device, "cpu" and "cuda", what `speed.py` writes to its JSON file.
    """
    lines = [
        "# Speed, memory, disk",
        "",
        "Made by `.venv/bin/python benchmarks/speed.py`; [speed.json](speed.json) has all figures. "
        "They are medians, and whatever else the machine did is in them. Data are simulated, of "
        "DEAP's format and size: 40 trials of 63 s and 32 electrodes per subject.",
        "",
    ]
    for device, title in (("cpu", "Processor"), ("cuda", "GPU")):
        lines += [f"## {title}", ""]
        lines += device_lines(found[device], device) if device in found else _NO_GPU
    return "\n".join(lines).rstrip() + "\n"


_NO_GPU = (
    "Not measured: there was none. `benchmarks/speed.py --device cuda` measures the same on one, "
    f"and adds it here. The target is the paper's study ({TASKS} tasks, {FOLDS} folds, 3 stages, "
    f"{STUDY_EPOCHS} epochs, 32 subjects) within {STUDY_MINUTES:.0f} minutes on an H200.",
    "",
)


def device_lines(found: Found, device: str) -> Iterator[str]:
    """Yield what there is to say of a device."""
    machine = found["machine"]
    bf16 = "with" if machine["bfloat16"] else "without"
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    yield (
        f"{machine['cores']} cores ({machine['architecture']}, {bf16} bfloat16 instructions), "
        f"{machine['memory_gib']:.0f} GiB of memory{gpu}; torch {machine['torch']}, "
        f"{machine['threads']} threads."
    )
    yield ""
    rows = [(t.name, t.wanted, t.figure, t.verdict) for t in targets(found, device)]
    yield from table(("target", "wanted", "found", ""), rows)
    sections = {
        "steps": steps_lines,
        "de": de_lines,
        "help": help_lines,
        "scaling": scaling_lines,
    }
    for key, section in sections.items():
        if key in found:
            yield from section(found)


def steps_lines(found: Found) -> Iterator[str]:
    """Yield the tables of training steps."""
    peak, rows = found["peak_flops"], with_means(found["steps"])
    peaks = ", ".join(f"{1e-9 * rate:,.0f} GFLOP/s in {name}" for name, rate in peak.items())
    yield "### Training steps"
    yield ""
    yield (
        "Steps of the scripts' own training on full batches, data and optimiser included. The "
        "published-style loop ([published_loop.py](published_loop.py)) trains the same networks "
        "as `--method published`, as the published code does, on the same batches; the two took "
        f"their steps in turns, in one process. The best matrix product, or 1x1 convolution, "
        f"reaches {peaks}; utilisation is the share of that."
    )
    yield ""
    yield (
        "FLOPs are counted (`torch.utils.flop_counter`): of convolutions and matrix products, "
        "forwards, backwards and, in the gradient penalty, backwards again. A complex product "
        "counts as a real one. Products with a convolution's padding count, too, a quarter of a "
        "5x5 convolution on 8x9 cells, and a library that leaves them out can be above 1. Fourier "
        "transforms, matrix exponentials, normalisation and all else that goes value by value do "
        "not count: utilisation says little of a step that is not bound by products. The last "
        "column says which share of the time they take (by `torch.profiler`); the target holds "
        f"where it is {BOUND:.0%} or more."
    )
    yield ""
    on_gpu = any(row["gpu_mib"] is not None for row in rows)
    heads = ("step", "loop or method", "s", "per second", "against the loop", "GFLOP", "GFLOP/s")
    heads += ("precision", "utilisation", "in products", *(["GPU, MiB"] if on_gpu else []))
    yield from table(heads, [_step(rows, row, peak, on_gpu) for row in rows])
    yield "Before and after, seconds per step:"
    yield ""
    lines = []
    for (stage, method, kind), earlier in _EARLIER.items():
        row = found_row(rows, stage, method, kind)
        now = f"{row['seconds']:.3g}" if row else ""
        lines.append((_called(stage, kind), method, *earlier, now))
    yield from table(("step", "method", "published code", "before", "now"), lines)
    yield (
        "The published code, once it was made to run, takes 29 GiB of memory. Both earlier columns "
        "are from two cores such as these, though not from the same hour."
    )
    yield ""


def _step(rows: Sequence[Found], row: Found, peak: Found, on_gpu: bool) -> tuple[str, ...]:
    times, rate = ratio(rows, row), row["batch"] / row["seconds"]
    return (
        _called(row["stage"], row["kind"]),
        row["loop"],
        f"{row['seconds']:.3g}",
        f"{rate:,.{0 if rate > 100 else 1}f} {row['unit']}",
        f"{times:.2f}x" if times else "",
        f"{1e-9 * row['flops']:,.1f}",
        f"{1e-9 * row['flops'] / row['seconds']:,.0f}",
        row["precision"],
        f"{utilisation(row, peak):.2f}",
        f"{row['share_in_products']:.0%}",
        *([f"{row['gpu_mib']:,.0f}"] if on_gpu else []),
    )


def de_lines(found: Found) -> Iterator[str]:
    """Yield the table of DE."""
    de = found["de"]
    yield "### Differential entropy"
    yield ""
    rows = {
        "plain loop over trials, electrodes, bands and windows": "plain",
        "ours, one process": "one_process",
        f"ours, {de['cores']} processes, as `preprocess_de.py` runs by default": "all_cores",
    }
    yield from table(
        ("one DEAP subject", "s", "ratio"),
        [(name, f"{de[key]:.3g}", f"{de['plain'] / de[key]:.0f}x") for name, key in rows.items()],
    )
    yield (
        "Reading the recordings and writing the store are not in it. The published code takes 10 "
        "to 14 s. Before: 24x with one process, 45x with two. Ours and the plain loop's differ by "
        f"at most {de['largest_difference']:.0e} nats."
    )
    yield ""


def help_lines(found: Found) -> Iterator[str]:
    """Yield the table of ``--help``."""
    yield "### Command line"
    yield ""
    rows = [(f"`{command} --help`", f"{s:.2f}") for command, s in found["help"].items()]
    yield from table(("command", "s"), rows)


def scaling_lines(found: Found) -> Iterator[str]:
    """Yield the tables of what grows with the number of subjects."""
    rows, base = found["scaling"]["rows"], found["scaling"]["torch_mib"]
    sizes = list(dict.fromkeys(row["n_subjects"] for row in rows))
    stages = stage_keys(rows)
    keys = [("preprocess", "both"), *stages]
    at = {(row["stage"], row["method"], row["n_subjects"]): row for row in rows}

    def of_sizes(key: tuple[str, str], text: object) -> tuple[str, ...]:
        found = (text(at[*key, size]) if (*key, size) in at else "-" for size in sizes)
        return (_called(key[0]), key[1], *found)

    heads = ("stage", "method", *(f"{size} subjects" for size in sizes))
    yield "### The number of subjects"
    yield ""
    yield (
        "Every stage as a user runs it, from reading to figures, at full widths, for "
        f"{found['scaling']['n_epochs']} epochs. Peak resident memory in MiB above the {base:.0f} "
        "of `import torch`, pages of mapped files included; in brackets, all of the process that "
        "is no page of a file, PyTorch's part included, as seen 20 times a second. Of "
        "preprocessing, that of its largest process."
    )
    yield ""
    yield from table(heads, [of_sizes(key, lambda row: _memory(row, base)) for key in keys])
    if any(row["gpu_mib"] is not None for row in rows):
        yield "Memory of the GPU, MiB allocated at most:"
        yield ""
        yield from table(heads, [of_sizes(k, lambda row: f"{row['gpu_mib']:,.0f}") for k in stages])
    yield (
        "Seconds per epoch, the second one, with validation; and the straight line through them. "
        "(The published critic rests then.)"
    )
    yield ""
    lines = []
    for key in stages:
        fit = epoch_line(rows, key)
        text = f"{fit['start']:.2g} s + {1000 * fit['slope']:.3g} ms per trial"
        quality = f"{fit['r2']:.4f}", f"{fit['residual']:.0%}"
        lines.append((*of_sizes(key, lambda row: f"{row['epochs'][-1]:.3g}"), text, *quality))
    yield from table((*heads, "line", "R²", "largest residual"), lines)
    yield (
        "Seconds from the start of Python to the first training step. Fine-tuning generates the "
        "paired EEG of all training trials before: in brackets, with it. That is work, in "
        "proportion to the trials, and done once per run."
    )
    yield ""
    yield from table(heads, [of_sizes(key, _start) for key in stages])
    features = max(at["preprocess", "both", size]["disk_mib"] / size for size in sizes)
    runs = {key: row["disk_mib"] for row in rows for key in [(row["stage"], row["method"])]}
    runs = [f"{_called(stage)}, {method}: {runs[stage, method]:.0f}" for stage, method in stages]
    yield (
        f"Disk: {features:.1f} MiB of features per subject. Run directories, MiB: "
        f"{'; '.join(runs)}."
    )
    yield ""
    yield from study_lines(found)
    yield from projection_lines(found)


def _memory(row: Found, base: float) -> str:
    anonymous = row["peak_anonymous_mib"]
    return f"{row['peak_mib'] - base:,.0f}" + (f" ({anonymous:,.0f})" if anonymous else "")


def _start(row: Found) -> str:
    alone = row["to_first_step"] - row["paired_eeg"]
    return f"{alone:.1f}" + (f" ({row['to_first_step']:.1f})" if row["paired_eeg"] else "")


def study_lines(found: Found) -> Iterator[str]:
    """Yield how long the paper's study takes."""
    parts = []
    for method, epochs in found["recipe_epochs"].items():
        minutes = study_minutes(found, method)
        if minutes is not None:
            numbers = ", ".join(map(str, epochs.values()))
            parts.append(f"{minutes / 60:,.1f} hours by `--method {method}` ({numbers} epochs)")
    n_subjects = largest_size(found["scaling"]["rows"])
    yield (
        f"A study of {TASKS} tasks, {FOLDS} folds and all stages with {n_subjects} subjects, one "
        "run after another, from these epochs and what comes before and after them: "
        f"{'; '.join(parts) or 'not all stages were measured'}."
    )
    yield ""


def _called(stage: str, kind: str = "") -> str:
    return STAGES.get(stage, "preprocessing") + (f", {kind}" if kind else "")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table, and an empty one."""
    for line in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(line)} |"
    yield ""
