"""Figures of test predictions: which class for which, how sure, and each model's interval."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from de3dgan.evaluation.statistics import Estimate
from de3dgan.figures.style import GENERATED, REAL, annotate, house_style, legend_above, new_figure

#: People whose names are written below their points, at most.
_NAMED = 50
#: Colour and marker of each kind of model.
_KINDS = {"baseline": ("0.55", "s"), "network": (GENERATED, "o"), "control": ("#0072B2", "D")}


@house_style
def confusion_matrices(
    matrices: Mapping[str, np.ndarray], class_names: Sequence[str], title: str
) -> Figure:
    """Draw which classes were taken for which.

    Parameters
    ----------
    matrices : mapping of str to array, (n_classes, n_classes)
        What was counted ("per one-second frame", "per trial") to the counts, rows the true class.
    class_names : sequence of str, length n_classes
        Names of the classes.
    title : str
        Which run and which trials; the second line of the heading.
    """
    n_classes = len(class_names)
    side = 2.4 + 0.75 * n_classes
    figure, axes = new_figure(max(7, side * len(matrices) + 1.2), side + 1.2, 1, len(matrices))
    labels = [textwrap.fill(name, 14) for name in class_names]
    for ax, (counted, matrix) in zip(axes.flat, matrices.items(), strict=True):
        matrix = np.asarray(matrix)
        totals = matrix.sum(1, keepdims=True)
        per_cent = 100 * matrix / np.maximum(totals, 1)
        image = ax.imshow(per_cent, cmap="Blues", vmin=0, vmax=100)
        for (row, column), count in np.ndenumerate(matrix):
            share = f"{per_cent[row, column]:.0f} %" if totals[row] else "–"
            ax.text(
                column,
                row,
                f"{share}\n{count:,}",
                ha="center",
                va="center",
                color=_readable_on(image.to_rgba(per_cent[row, column])),
                size=11 if n_classes < 4 else 10,
            )
        right = 100 * np.trace(matrix) / max(1, matrix.sum())
        ax.set_title(f"{counted}\n{right:.0f} % of {matrix.sum():,} right", loc="left")
        ax.set_xticks(range(n_classes), labels)
        ax.set_yticks(range(n_classes), labels, rotation=90, va="center")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        ax.set_xlabel("Predicted class")
        ax.set_ylabel("True class")
    bar = figure.colorbar(image, ax=axes, shrink=0.8)
    bar.set_label("Share of the true class (% of the row)")
    bar.outline.set_visible(False)
    annotate(
        figure,
        "Which class is taken for which",
        title,
        "Each row adds up to 100 %; under the share, how many. Look for: a dark diagonal, which "
        "holds the right answers. Rows that look alike mean that the answer does not depend on "
        "the EEG.",
    )
    return figure


@house_style
def reliability(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str
) -> Figure:
    """Draw how often predictions of each confidence are right.

    Parameters
    ----------
    curves : mapping of str to (confidence, accuracy, counts), each (n_bins,)
        What was counted ("per trial") to what `evaluation.metrics.reliability` returns for it.
    title : str
        Which run and which trials; the second line of the heading.
    """
    figure, axes = new_figure(4 * len(curves), 5.6, 1, len(curves), sharey=True)
    for ax, (counted, (confidence, accuracy, counts)) in zip(
        axes.flat, curves.items(), strict=True
    ):
        total = max(1, counts.sum())
        ece = np.nansum(np.abs(accuracy - confidence) * counts) / total
        ax.plot([0, 100], [0, 100], color="0.6", linestyle="--", label="confidence is accuracy")
        ax.scatter(
            100 * confidence,
            100 * accuracy,
            s=30 + 400 * counts / total,
            color=GENERATED,
            edgecolor="black",
            zorder=3,
            label="predictions; the more, the larger",
        )
        ax.set_title(f"{counted} ({counts.sum():,})\nmean distance {100 * ece:.0f} %", loc="left")
        ax.set(xlim=(-5, 105), ylim=(-5, 105), xlabel="Mean confidence (%)", aspect="equal")
    axes.flat[0].set_ylabel("Share that is right (%)")
    legend_above(axes.flat[0], 2)
    annotate(
        figure,
        "How far the classifier's confidence can be believed",
        title,
        "Predictions are gathered by the probability of the class that they name. Look for: points "
        "on the dashed line. Below it, the classifier is surer than it should be. The mean "
        "distance is the expected calibration error (ECE).",
    )
    return figure


@house_style
def forest(
    models: Mapping[str, str], panels: Mapping[str, Sequence[Estimate]], chance: float, title: str
) -> Figure:
    """Draw the balanced accuracy of each model with its interval.

    Parameters
    ----------
    models : mapping of str to str
        Names of the models, from top to bottom, to their kind: "baseline", "network" or "control".
    panels : mapping of str to sequence of Estimate, one per model
        What was counted ("per trial") to the models' balanced accuracies; those of several seeds
        are drawn as well.
    chance : float
        Balanced accuracy of guessing.
    title : str
        Which runs; the second line of the heading.
    """
    height = 2.6 + 0.36 * len(models)
    figure, axes = new_figure(8.5, height, 1, len(panels), sharex=True, sharey=True)
    rows = np.arange(len(models))
    for ax, (counted, estimates) in zip(axes.flat, panels.items(), strict=True):
        ax.axvline(100 * chance, color="0.45", linestyle="--", linewidth=1.2, label="chance")
        for kind, (colour, marker) in _KINDS.items():
            label = kind
            for row, model, estimate in zip(rows, models, estimates, strict=True):
                if models[model] != kind or math.isnan(estimate.value):
                    continue
                interval = [100 * estimate.low, 100 * estimate.high]
                ax.plot(interval, [row, row], color=colour, linewidth=2)
                if len(estimate.per_seed) > 1:
                    seeds = 100 * np.array([*estimate.per_seed.values()])
                    ax.plot(seeds, row + 0.28 + 0 * seeds, "|", color=colour, markersize=5)
                look = {"color": colour, "markersize": 7, "mec": "black", "label": label}
                ax.plot(100 * estimate.value, row, marker, **look)
                label = None
        ax.set_title(counted, loc="left")
        ax.grid(axis="x", color="0.9", linewidth=0.6)
        ax.set_xlabel("Balanced accuracy (%)")
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(rows, [textwrap.fill(name, 34) for name in models])
    axes[0, 0].set_ylim(len(models) - 0.4, -0.6)
    annotate(
        figure,
        "How well each model knows the classes in the test data",
        title,
        "Markers are the test figures, lines their 95 % intervals: how much other groups from the "
        "same population would change them. Look for: orange intervals to the right of chance and "
        "of the best baseline. Intervals overlap even where models differ, since all models are "
        "asked the same: the table of comparisons says which differ. Ticks below a line are seeds.",
    )
    legend_above(axes[0, 0], len(_KINDS) + 1)
    return figure


@house_style
def people(
    names: Sequence[str], rates: Mapping[str, Sequence[float]], chance: float, title: str
) -> Figure:
    """Draw how well each person is read.

    Parameters
    ----------
    names : sequence of str, length n_people
        From left to right.
    rates : mapping of str to sequence of float, each of length n_people
        Balanced accuracy of each model; baselines first, networks after them.
    chance : float
        Balanced accuracy of guessing.
    title : str
        Which runs; the second line of the heading.
    """
    figure, axes = new_figure(min(12, max(7, 2.5 + 0.22 * len(names))), 4.8)
    ax = axes[0, 0]
    ax.axhline(100 * chance, color="0.45", linestyle="--", linewidth=1.2, label="chance")
    looks = [("0.55", "s"), (GENERATED, "o"), ("#0072B2", "D")]
    size = 7 if len(names) <= _NAMED else 3
    for (name, values), (colour, marker) in zip(rates.items(), looks[: len(rates)], strict=True):
        look = {"color": colour, "markersize": size, "linestyle": "", "label": name}
        ax.plot(100 * np.asarray(values), marker=marker, mec="black", mew=0.5, **look)
    named = len(names) <= _NAMED
    ax.set_xticks(range(len(names)) if named else [], names if named else [], rotation=90, size=8)
    ax.set(xlabel="Person" if named else f"{len(names):,} people", ylim=(-3, 103))
    ax.set_ylabel("Balanced accuracy per frame (%)")
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    legend_above(ax, 2)
    annotate(
        figure,
        "Who is read well, and who is not",
        title,
        "Each person's test trials, from whom stage 2 reads best. Look for: who is below chance "
        "with all models, whose EEG differs from the others' in what makes the classes. With few "
        "trials of a person, much of the order is chance.",
    )
    return figure


@house_style
def judges(panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]], title: str) -> Figure:
    """Draw how well each judge tells EEG from real EEG.

    Parameters
    ----------
    panels : mapping of str to mapping
        What is judged ("segments of 1 s") to which EEG is told from real EEG ("generated EEG";
        three at most) to the AUCs of each judge, of which there is one for each fold or none.
    title : str
        Which runs; the second line of the heading.
    """
    names = [*dict.fromkeys(name for eeg in panels.values() for of in eeg.values() for name in of)]
    figure, axes = new_figure(
        8.5, 2.8 + 0.34 * len(names), 1, len(panels), sharex=True, sharey=True
    )
    looks = [(REAL, "s"), (GENERATED, "o"), ("0.55", "D")]
    for ax, (judged, eeg) in zip(axes.flat, panels.items(), strict=True):
        ax.axvline(0.5, color="0.45", linestyle="--", linewidth=1.2, label="not told at all")
        for (kind, aucs), (colour, marker) in zip(eeg.items(), looks[: len(eeg)], strict=True):
            told = [(row, aucs[name]) for row, name in enumerate(names) if aucs.get(name)]
            for row, values in told:
                ax.plot([min(values), max(values)], [row, row], color=colour, linewidth=2)
            rows, means = [row for row, _ in told], [np.mean(values) for _, values in told]
            look = {"color": colour, "markersize": 7, "mec": "black", "linestyle": ""}
            ax.plot(means, rows, marker=marker, label=kind, **look)
        ax.set_title(judged, loc="left")
        ax.grid(axis="x", color="0.9", linewidth=0.6)
        ax.set(xlabel="AUC", xlim=(-0.03, 1.03))
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(range(len(names)), names)
    axes[0, 0].set_ylim(len(names) - 0.4, -0.6)
    annotate(
        figure,
        "Which judges tell EEG from real EEG",
        title,
        "Judges are trained on training people and asked about test people. Markers are means over "
        "folds, lines their range. Look for: orange where black is, which is real EEG told from "
        "other seconds of real EEG. Where it is far to the right, the judge knows something that "
        "the generator does not.",
    )
    legend_above(axes[0, 0], 4)
    return figure


def _readable_on(background: Sequence[float]) -> str:
    """Return black or white, whichever has the higher contrast (WCAG) with an RGB(A) colour."""
    luminance = np.power(background[:3], 2.2) @ (0.2126, 0.7152, 0.0722)
    return "white" if luminance < 0.179 else "black"
