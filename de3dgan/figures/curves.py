"""Learning curves: what was measured in each epoch, of one training or of all folds."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from de3dgan.figures.style import PALETTE, annotate, count, house_style, new_figure, note

_LINE_STYLES = ("-", "--", "-.", ":")
_MARKERS = "os^D"
_EPOCHS = "Epoch (pass over the training data)"

#: Panels of learning curves, as `learning_curves` and `fold_curves` take them.
GENERATOR_PANELS = {
    "published": {
        "Reconstruction (mean squared error of z-scored EEG)": [("reconstruction", "training")],
        "Critic, on the epochs in which it steps (score, no unit)": [
            ("critic_gap", "real minus generated"),
            ("generated_score", "generated"),
        ],
        "DE round trip (mean absolute error, nats)": [("val_de_mae", "validation")],
    },
    "spectral": {
        "Log likelihood of spectra (nats per coefficient)": [
            ("log_likelihood", "training"),
            ("val_log_likelihood", "validation"),
        ],
    },
}
CLASSIFIER_PANELS = {
    "Loss (nats)": [
        ("loss", "training: what is minimised"),
        ("cross_entropy", "training: cross entropy of real EEG"),
        ("paired_cross_entropy", "training: cross entropy of the EEG beside it"),
        ("val_loss", "validation: cross entropy"),
    ],
    "Balanced accuracy (share of one-second frames)": [("val_balanced_accuracy", "validation")],
}


@house_style
def learning_curves(
    history: Sequence[Mapping[str, Any]],
    panels: Mapping[str, Sequence[tuple[str, str]]],
    best_epoch: int | None,
    title: str,
) -> Figure:
    """Draw what was measured in each epoch of a training.

    Parameters
    ----------
    history : sequence of dict
        One per epoch, with key "epoch" and scalars. A key that some epochs lack is drawn as
        markers at the epochs that have it.
    panels : mapping of str to sequence of (str, str)
        Panel title to the keys it shows, each with its legend label. A unit in parentheses at the
        title's end, as in "Accuracy on validation (%)", becomes the label of the vertical axis.
    best_epoch : int or None
        The epoch that was chosen; None if none was.
    title : str
        Which run; the second line of the heading.
    """
    n_columns = len(panels) if len(panels) <= 3 else 2
    n_rows = math.ceil(len(panels) / n_columns)
    width = {1: 7.5, 2: 10.8, 3: 12.9}[n_columns]
    figure, axes = new_figure(width, 1.7 + 2.9 * n_rows, n_rows, n_columns, sharex=True)
    for ax, (panel, curves) in zip(axes.flat, panels.items(), strict=False):
        values = []
        for number, (key, label) in enumerate(curves):
            values += _curve(ax, history, key, number, label, markersize=4, linewidth=1.6)
        if best_epoch is not None:
            chosen = ax.axvline(best_epoch, color="0.45", linewidth=1.4, linestyle=(0, (1, 1.5)))
        _label(ax, panel, values, int(9.5 * width / n_columns))
        if not values:
            note(ax, 0.5, 0.7, "not measured in any epoch")
            ax.set_yticks([])
        ax.tick_params(labelbottom=True)
    first, last = history[0]["epoch"], history[-1]["epoch"]
    pad = max(0.5, 0.02 * (last - first))
    axes[0, 0].set_xlim(first - pad, last + pad)
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, len(panels) - n_columns) : len(panels)]:
        ax.set_xlabel(_EPOCHS)
    annotate(
        figure,
        f"Learning curves over {count(len(history), 'epoch')}",
        title,
        "Look for: curves that have become flat by the end. Training that still improves while "
        "validation gets worse is overfitting. Markers without a line: measured in those epochs "
        "only.",
    )
    if best_epoch is not None:
        label = f"chosen epoch (best on validation): {best_epoch}"
        chosen.figure.legend([chosen], [label], loc="outside upper left")
    return figure


@house_style
def fold_curves(
    histories: Sequence[Sequence[Mapping[str, Any]]],
    panels: Mapping[str, Sequence[tuple[str, str]]],
    best_epochs: Sequence[int],
    title: str,
) -> Figure:
    """Draw the learning curves of all folds of a stage over each other.

    Parameters
    ----------
    histories : sequence of sequence of dict
        Per fold, what `learning_curves` is given.
    panels : mapping of str to sequence of (str, str)
        As for `learning_curves`.
    best_epochs : sequence of int
        The epoch that each fold chose.
    title : str
        Which runs; the second line of the heading.
    """
    figure, axes = new_figure(4.3 * len(panels), 5, 1, len(panels))
    for ax, (panel, curves) in zip(axes.flat, panels.items(), strict=True):
        values = []
        for number, (key, label) in enumerate(curves):
            for history in histories:
                look = {"markersize": 3.5, "linewidth": 1.1, "alpha": 0.75}
                found = _curve(ax, history, key, number, label, **look)
                values += found
                label = None if found else label
        ax.plot(
            best_epochs,
            np.zeros(len(best_epochs)),
            "^",
            color="black",
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label="chosen epochs",
        )
        _label(ax, panel, values, 40)
        ax.set_xlabel(_EPOCHS)
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    annotate(
        figure,
        f"Learning curves of {count(len(histories), 'fold')}, a line each",
        title,
        "Look for: folds that agree, curves that have become flat by the end, and validation that "
        "follows training: where training still improves and validation gets worse, the network "
        "learns its training data by heart. Triangles below: the epochs that validation chose.",
    )
    return figure


def _curve(
    ax: Axes,
    history: Sequence[Mapping[str, Any]],
    key: str,
    number: int,
    label: str | None,
    **look: float,
) -> list[float]:
    """Draw one key of a history in the colour and dashes of its `number`; return its values."""
    measured = [row for row in history if row.get(key) is not None]
    values = [float(row[key]) for row in measured]
    if values:
        rare = len(measured) < len(history)
        ax.plot(
            [row["epoch"] for row in measured],
            values,
            color=PALETTE[number],
            linestyle="none" if rare else _LINE_STYLES[number],
            marker=_MARKERS[number] if rare or len(measured) == 1 else None,
            label=label,
            **look,
        )
    return values


def _label(ax: Axes, panel: str, values: Sequence[float], width: int) -> None:
    """Give `ax` the title, unit, scale and legend of a panel."""
    name, _, unit = panel.removesuffix(")").partition(" (")
    unit = unit or "value (no unit)"
    if values and min(values) > 0 and max(values) > 100 * min(values):
        ax.set_yscale("log")
        unit += ", log scale"
    ax.set_title(textwrap.fill(name, width), loc="left")
    ax.set_ylabel(unit)
    ax.grid(axis="y", color="0.9", linewidth=0.6)
    if values:
        ax.legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")
