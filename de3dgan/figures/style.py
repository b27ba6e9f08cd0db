"""The style that all figures share, and how they are written.

Every figure says in its heading what is shown, and below it what to look for. Real EEG is black,
generated EEG orange (of the Okabe-Ito palette), and dashed where one lies over the other. Both can
be told apart with colour blindness and in a grey print.

A function that draws has the decorator `house_style` and returns a `matplotlib.figure.Figure`;
`save` writes it as PNG. Neither depends on a matplotlibrc or touches pyplot: the same input gives
the same bytes.
"""

from __future__ import annotations

import io
import textwrap
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from de3dgan.base.files import write_bytes

DPI = 150
REAL, GENERATED = "#000000", "#D55E00"
PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9")

#: Decorator of what draws or writes: nothing that the user or a matplotlibrc has set has a part.
house_style = matplotlib.style.context(
    [
        "default",
        {
            "font.size": 10,
            "axes.titlesize": 10.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        },
    ]
)


def save(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, atomically, and return `path`."""
    write_bytes(path, png(figure))
    return Path(path)


@house_style
def png(figure: Figure) -> bytes:
    """Return a figure as the content of a PNG file."""
    heading = figure.get_suptitle().replace("\n", " ")  # which run, and whether it is leaky
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None, "Title": heading})
    return content.getvalue()


def new_figure(
    width: float, height: float, n_rows: int = 1, n_columns: int = 1, **shared: Any
) -> tuple[Figure, np.ndarray]:
    """Return an empty figure of `width` by `height` inches, and its axes (n_rows, n_columns).

    What is `shared`, and other things, are told to `Figure.subplots`.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    # A body of its own keeps a legend outside the axes clear of the heading.
    return figure, figure.subfigures().subplots(n_rows, n_columns, squeeze=False, **shared)


def annotate(figure: Figure, shown: str, title: str, advice: str) -> None:
    """Put what is shown and `title` above the figure, and what to look for below it."""
    width = figure.get_figwidth()
    heading = "\n".join(textwrap.fill(line, int(11 * width)) for line in (shown, title))
    figure.suptitle(heading, x=0.01, ha="left", size=12)
    advice = textwrap.fill(advice, int(14 * width))
    figure.supxlabel(advice, x=0.01, ha="left", size=9.5, color="0.25", style="italic")


def legend_above(ax: Axes, n_columns: int = 3) -> None:
    """Put the legend of `ax` between the heading and the axes."""
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=n_columns)


def note(ax: Axes, x: float, y: float, text: str, colour: str | None = None) -> None:
    """Write a note inside `ax`, at a place given as shares of its width and height."""
    ax.text(x, y, text, transform=ax.transAxes, ha="center", va="center", size=9, color=colour)


def count(n: int, thing: str) -> str:
    """Return "1 trial", "2 trials"."""
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"
