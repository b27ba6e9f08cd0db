"""The data set card as a figure: one page on what is in a store."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from de3dgan.evaluation.card import ABOVE_HZ, Card, Label
from de3dgan.figures.eeg import band_edges
from de3dgan.figures.style import PALETTE, annotate, count, house_style, new_figure, note

_SIZE = (12.6, 9.4)
#: Names along an axis, at most; of more, every second, third, ... is written.
_MOST_NAMES = 32
#: Shares are written into cells of a table of so many columns, at most.
_MOST_WRITTEN = 8
#: Colours of trials of people in turn, and of what is suspicious.
_IN_TURN, _BAD = ("0.25", "0.6"), PALETTE[1]
_MARKERS = {"flat": "v", "loud": "^", "duplicated": "s"}
#: dB below the median of the bands where the axis of spectra ends.
_LOWEST = 50.0


@house_style
def data_card(card: Card, title: str) -> Figure:
    """Draw what is in a store: labels, amplitude, spectra, rank and power above 46 Hz.

    Parameters
    ----------
    card : Card
        From `de3dgan.evaluation.card.describe`.
    title : str
        Which store it is; the second line of the heading.
    """
    figure, axes = new_figure(*_SIZE, 2, 3)
    stimuli = sorted(set(card.stimuli.tolist()))
    shares = [("person", card.subjects, card.people), ("stimulus", card.stimuli, stimuli)]
    for ax, (kind, of_trials, names) in zip(axes[0], shares, strict=False):
        _shares(ax, card.labels, of_trials, names, kind)
    _amplitudes(axes[0, 2], card)
    _spectra(axes[1, 0], card)
    _ranks(axes[1, 1], card)
    _above(axes[1, 2], card)
    annotate(
        figure,
        f"What is in the data: {count(len(card.people), 'person').replace('persons', 'people')}, "
        f"{count(len(card.subjects), 'trial')} of {card.store.n_frames} s",
        title,
        "Look for: people or stimuli of one class only (dark cells); a row or column of amplitudes "
        "unlike the others; a spectrum with peaks or far from the rest; orange trials, which lack "
        "directions between electrodes that others of that person have; and boxes that differ "
        "between the classes, where muscles or the amplifier tell the class.",
    )
    return figure


def _shares(
    ax: Axes, labels: Sequence[Label], of_trials: np.ndarray, names: Sequence[str], kind: str
) -> None:
    """Draw the share of each class in the trials of each person, or stimulus."""
    numbers = np.array([(of_trials == name).sum() for name in names])
    rows, table = [], []
    for label in labels:
        # The share of one of two classes is known from the other's.
        for value in range(1 if len(label.classes) == 2 else 0, len(label.classes)):
            rows.append(f"{label.name}: {label.classes[value]}")
            table.append(
                [100 * (label.values[of_trials == name] == value).mean() for name in names]
            )
    low, high = numbers.min(), numbers.max()
    each = f"{count(high, 'trial')} each" if low == high else f"{low} to {high} trials"
    ax.set_title(f"Classes per {kind} ({each})", loc="left")
    if not rows:
        note(ax, 0.5, 0.5, "no labels that are classes")
        ax.set_axis_off()
        return
    image = ax.imshow(table, cmap="PuOr_r", vmin=0, vmax=100, aspect="auto")
    if len(names) <= _MOST_WRITTEN:
        for (row, column), share in np.ndenumerate(table):
            colour = "white" if abs(share - 50) > 35 else "black"
            ax.text(column, row, f"{share:.0f}", ha="center", va="center", color=colour, size=8)
    texts = names if low == high else [f"{n} ({m})" for n, m in zip(names, numbers, strict=True)]
    _name(ax.xaxis, texts)
    _name(ax.yaxis, rows)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", aspect=30, pad=0.02)
    bar.set_label("trials of the class (%)")
    bar.outline.set_visible(False)


def _amplitudes(ax: Axes, card: Card) -> None:
    """Draw the amplitude of each channel of each person, and mark what is suspicious."""
    values = card.amplitudes().T
    typical = float(np.median(values))
    floor = max(typical / 30, 1e-6)
    scale = LogNorm(
        vmin=min(max(values.min(), floor), typical / 2 + 1e-6),
        vmax=max(min(values.max(), 30 * typical), 2 * typical, 2e-6),
    )
    shown = np.maximum(values, scale.vmin)  # 0 has no logarithm
    image = ax.imshow(shown, cmap="viridis", norm=scale, aspect="auto", interpolation="none")
    for kind, marker in _MARKERS.items():
        found = [
            (card.people.index(channel.subject), card.store.ch_names.index(name))
            for channel in card.channels
            if channel.kind == kind
            for name in channel.name.split(" and ")
        ]
        if found:
            style = {"s": 34, "facecolor": "none", "edgecolor": _BAD, "linewidth": 1.6}
            ax.scatter(*zip(*found, strict=True), marker=marker, label=kind, **style)
    if card.channels:
        ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderaxespad=0.1, fontsize=8)
    ax.set_title("Amplitude", loc="left", pad=20 if card.channels else None)
    _name(ax.xaxis, card.people)
    _name(ax.yaxis, card.store.ch_names)
    ax.spines[:].set_visible(False)
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", aspect=30, pad=0.02, extend="both")
    bar.set_label("standard deviation (µV)")
    bar.outline.set_visible(False)
    ticks = [n * 10.0**e for e in range(-6, 7) for n in (1, 2, 5)]
    bar.set_ticks([tick for tick in ticks if scale.vmin <= tick <= scale.vmax], minor=False)
    bar.ax.xaxis.set_major_formatter("{x:g}")
    bar.ax.minorticks_off()


def _spectra(ax: Axes, card: Card) -> None:
    """Draw each person's spectrum, with the names of those loudest and quietest above 46 Hz."""
    spectra = np.stack(list(card.spectra.values()))
    ax.plot(card.freqs, spectra.T, color="black", linewidth=1, alpha=max(0.25, 1 / len(spectra)))
    ax.axvspan(*ABOVE_HZ, color="0.93", zorder=-1)
    band_edges(ax)
    above = (card.freqs >= ABOVE_HZ[0]) & (card.freqs < ABOVE_HZ[1])
    inside = (card.freqs >= 4) & (card.freqs <= 45)
    if above.any() and len(spectra) > 1:
        levels = spectra[:, above].mean(1)
        for row, colour in ((levels.argmax(), PALETTE[1]), (levels.argmin(), PALETTE[2])):
            ax.plot(card.freqs, spectra[row], color=colour, linewidth=1.5, label=card.people[row])
        ax.legend(title="loudest and quietest\nfrom 46 to 64 Hz", fontsize=8, title_fontsize=8)
    middle = np.median(spectra[:, inside])
    ax.set_ylim(max(spectra.min(), middle - _LOWEST) - 2, spectra[:, card.freqs >= 1].max() + 3)
    ax.set_xlim(1, 64)
    ax.set_xlabel("Frequency (Hz)")
    ax.set_ylabel("Power (dB re 1 µV²/Hz)")
    ax.set_title("Spectra: a line per person, median of channels", loc="left", pad=18)


def _ranks(ax: Axes, card: Card) -> None:
    """Draw the directions with power of each trial, people in turn black and grey."""
    numbers = np.arange(len(card.rank))
    turn = np.array([card.people.index(subject) % 2 for subject in card.subjects])
    for value, colour in enumerate(_IN_TURN):
        some = (turn == value) & ~card.lacks
        ax.scatter(numbers[some], card.rank[some], s=12, color=colour, linewidth=0)
    if card.lacks.any():
        text = "lacks what others have"
        ax.scatter(
            numbers[card.lacks], card.rank[card.lacks], s=22, color=_BAD, linewidth=0, label=text
        )
        ax.legend(loc="lower left", fontsize=8)
    n_chans = len(card.store.ch_names)
    ax.axhline(n_chans, color="0.6", linestyle="--", linewidth=1)
    ax.set_ylim(min(card.rank.min(), 0.6 * n_chans) - 1, n_chans + 1)
    ax.yaxis.get_major_locator().set_params(integer=True)
    starts = [int(np.flatnonzero(card.subjects == subject)[0]) for subject in card.people]
    _name(ax.xaxis, card.people, starts)
    ax.set_ylabel("Directions with power")
    ax.set_title(f"Rank of each trial ({count(n_chans, 'electrode')})", loc="left")


def _above(ax: Axes, card: Card) -> None:
    """Draw the power above 46 Hz of each class, less the mean of the person's trials."""
    level = 20 * np.log10(card.above + 1e-6)
    for subject in card.people:
        level[card.subjects == subject] -= level[card.subjects == subject].mean()
    place, places, names = 0.0, [], []
    for label in card.labels:
        for value, name in enumerate(label.classes):
            some = level[label.values == value]
            box = ax.boxplot(
                some, positions=[place], widths=0.7, patch_artist=True, flierprops={"markersize": 3}
            )
            for part in box["boxes"]:
                part.set_facecolor(f"{0.95 - 0.4 * value / max(1, len(label.classes) - 1):.2f}")
            for part in box["medians"]:
                part.set(color=_BAD, linewidth=1.6)
            places.append(place)
            names.append(f"{label.name}: {name}")
            place += 1
        if label.classes and not math.isnan(label.told_above):
            middle = place - (len(label.classes) + 1) / 2
            where = {"transform": ax.get_xaxis_transform(), "ha": "center", "va": "bottom"}
            ax.text(middle, 1.0, f"AUC\n{label.told_above:.2f}", size=8, **where)
        place += 0.6 if label.classes else 0
    ax.set_title("Power from 46 to 64 Hz", loc="left", pad=30)
    if not places:
        note(ax, 0.5, 0.5, "no labels that are classes")
        ax.set_axis_off()
        return
    ax.axhline(0, color="0.6", linewidth=0.8, zorder=0)
    ax.set_xlim(-0.8, places[-1] + 0.8)
    _name(ax.xaxis, names, places)
    ax.set_ylabel("Trials, less the person's mean (dB)")


def _name(axis: Axis, names: Sequence[str], places: Sequence[float] | None = None) -> None:
    """Write names along an axis, small and thinned out if they are many."""
    step = math.ceil(len(names) / _MOST_NAMES)
    places = range(len(names)) if places is None else places
    small = 8 if len(names) <= 16 else 6
    axis.set_ticks(places[::step], names[::step], size=small)
    axis.set_tick_params(length=2)
    if axis.axis_name == "x":
        axis.set_tick_params(rotation=90)
