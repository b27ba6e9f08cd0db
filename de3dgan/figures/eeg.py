"""Figures of EEG: real against generated, as waves, as spectra and as DE over the scalp."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import zip_longest

import mne
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import signal

from de3dgan.data.montages import HEAD, mne_info
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.montage import regions
from de3dgan.eeg.sampling import FRAME, SFREQ
from de3dgan.figures.style import (
    GENERATED,
    REAL,
    annotate,
    count,
    house_style,
    legend_above,
    new_figure,
    note,
)

_GREEK = {"delta": "δ", "theta": "θ", "alpha": "α", "beta": "β", "gamma": "γ"}
_BAND_EDGES = sorted({edge for edges in BANDS.values() for edge in edges})
_SECONDS_OF_TRACES, _N_TRACES = 4, 6
#: Drawn first where a region has them: front and back, left and right, and the midline.
_PREFERRED = ("FP1", "F4", "CZ", "T7", "PZ", "O2")
_FREQ_LIMITS = (1.0, 46.0)
_POWER_LABEL = "Power (dB re 1 µV²/Hz)"

#: What counts as silence, so that a logarithm exists: 1e-6 µV in a band, as a power and as a DE.
_NO_POWER = 1e-12
_NO_DE = 0.5 * math.log(2 * math.pi * math.e * _NO_POWER)


@house_style
def traces(real: np.ndarray, generated: np.ndarray, ch_names: Sequence[str], title: str) -> Figure:
    """Draw four seconds of real and generated EEG of one test trial, on one µV scale.

    Parameters
    ----------
    real, generated : array, (n_chans, n_times)
        EEG of the same trial, in µV at 128 Hz, starting at a frame border.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trial it is; it becomes the second line of the heading.
    """
    names = [name.upper() for name in ch_names]
    shown = _spread_over_scalp(names)
    n_frames = max(1, min(_SECONDS_OF_TRACES, real.shape[-1] // FRAME))
    start = max(0, (real.shape[-1] // FRAME - n_frames) // 2 * FRAME)
    span = slice(start, start + n_frames * FRAME)
    rows = [names.index(name) for name in shown]
    pair = [np.asarray(eeg, dtype=np.float64)[rows, span] for eeg in (real, generated)]
    seconds = (start + np.arange(pair[0].shape[1])) / SFREQ

    # One µV scale for all, chosen so that only a rare artefact runs over its neighbours' lines.
    space = 1.3 * max(1e-3, *(np.quantile(np.abs(eeg), 0.97) for eeg in pair))
    figure, axes = new_figure(10.5, 1.6 + 0.95 * len(shown))
    ax = axes[0, 0]
    zero_lines = -2.4 * space * np.arange(len(shown))
    styles = (("real", REAL, 1.0), ("generated", GENERATED, 1.6))
    for (name, colour, width), eeg, shift in zip(styles, pair, (0, space), strict=True):
        rms = np.sqrt(np.mean(eeg**2))
        label = f"{name} EEG, root mean square {_brief(rms)} µV"
        for zero, trace in zip(zero_lines - shift, eeg, strict=True):
            ax.axhline(zero, color="0.85", linewidth=0.6, zorder=0)
            ax.plot(seconds, zero + trace, color=colour, linewidth=width, label=label)
            label = None  # one entry in the legend
    border = {"color": "0.55", "linestyle": (0, (4, 3)), "linewidth": 0.9, "zorder": 0}
    label = "border between one-second frames"
    for second in range(round(seconds[0]), round(seconds[0]) + n_frames + 1):
        ax.axvline(second, label=label, **border)
        label = None

    region_of = {name: region for region, some in regions(names).items() for name in some}
    ax.set_yticks(zero_lines - space / 2, [f"{name}\n{region_of[name]}" for name in shown])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlim(seconds[0], seconds[0] + n_frames)
    ax.xaxis.get_major_locator().set_params(integer=True)
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, zero_lines[-1] - 2.1 * space), max(top, 1.1 * space))
    ax.set_xlabel("Time since the start of the trial (s)")
    ax.set_ylabel("Electrode and scalp region")
    _scale_bar(ax, space)
    annotate(
        figure,
        "Real and generated EEG of the same trial, on the same scale",
        title,
        "In each pair of lines real EEG is above, generated EEG below. Look for: waves of like "
        "size and speed, rather than the very same waves. A jump or a change of rhythm at a dashed "
        "border would show that the generator draws each second on its own.",
    )
    legend_above(ax)
    return figure


@house_style
def beside(
    real: np.ndarray,
    virtual: np.ndarray,
    ch_names: Sequence[str],
    class_names: Sequence[str],
    title: str,
) -> Figure:
    """Draw a real person's EEG beside a virtual one's: four seconds and the spectra, by class.

    The middle of each trial is drawn, on one µV scale. Spectra are of the whole trial, by Welch's
    method with 2-s Hann windows: of each electrode that is drawn, and the mean of their decibels.

    Parameters
    ----------
    real, virtual : array, (n_classes, n_chans, n_times)
        A trial of each class, in µV at 128 Hz. They may be of different length.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    class_names : sequence of str, length n_classes
        What a trial is of.
    title : str
        Who they are; the second line of the heading.
    """
    names = [name.upper() for name in ch_names]
    shown = _spread_over_scalp(names)
    rows = [names.index(name) for name in shown]
    people = (("real person", REAL, real), ("virtual person", GENERATED, virtual))
    n = max(1, min(_SECONDS_OF_TRACES, *(eeg.shape[-1] // FRAME for *_, eeg in people))) * FRAME
    parts = []
    for *_, eeg in people:
        first = (eeg.shape[-1] - n) // 2
        parts.append(np.asarray(eeg, np.float64)[:, rows, first : first + n])
    space = 2.6 * max(1e-3, *(np.quantile(np.abs(part), 0.97) for part in parts))
    levels = [_welch(np.asarray(eeg)[:, rows]) for *_, eeg in people]
    levels = [(freqs, _decibels(power)) for freqs, power in levels]

    figure, axes = new_figure(
        13,
        1.7 + 3.3 * len(class_names),
        len(class_names),
        3,
        sharex="col",
        width_ratios=(4, 4, 3.2),
    )
    seconds = np.arange(n) / SFREQ
    zero_lines = -space * np.arange(len(shown))
    for row, name in enumerate(class_names):
        for ax, (who, colour, _), part in zip(axes[row], people, parts, strict=False):
            for zero, trace in zip(zero_lines, part[row], strict=True):
                ax.axhline(zero, color="0.85", linewidth=0.6, zorder=0)
                ax.plot(seconds, zero + trace, color=colour, linewidth=0.9)
            ax.set_yticks(zero_lines, shown)
            ax.tick_params(axis="y", length=0)
            ax.spines["left"].set_visible(False)
            ax.set_xlim(0, n / SFREQ)
            ax.set_ylim(zero_lines[-1] - 1.2 * space, 0.9 * space)
            ax.set_title(f"{name}: {who}", loc="left", color=colour)
            ax.tick_params(labelbottom=True)
            ax.set_xlabel("Time (s) in the middle of the trial")
        axes[row, 0].set_ylabel("Electrode")
        _scale_bar(axes[row, 1], space / 2)
        ax = axes[row, 2]
        for (who, colour, _), (freqs, level) in zip(people, levels, strict=True):
            style = "-" if colour == REAL else "--"
            ax.plot(freqs, level[row].T, color=colour, linewidth=0.7, alpha=0.35)
            ax.plot(
                freqs, level[row].mean(0), style, color=colour, linewidth=2, label=f"{who}, mean"
            )
        ax.set_title(f"{name}: spectra", loc="left", pad=18)
        ax.set_xlim(*_FREQ_LIMITS)
        lowest, highest = (
            limit([limit(level) for _, level in levels]) for limit in (np.min, np.max)
        )
        ax.set_ylim(max(lowest, highest - 70) - 2, highest + 2)
        band_edges(ax)
        ax.tick_params(labelbottom=True)
        ax.set_xlabel("Frequency (Hz)")
        ax.set_ylabel(_POWER_LABEL)
        ax.legend(loc="upper right")
    annotate(
        figure,
        "EEG of a person who does not exist, beside that of one who does",
        title,
        "They are two people, so that nothing has to agree in detail. Look for: waves of like size "
        "and speed, and as much in common between electrodes; spectra with the same slope, and "
        "perhaps an alpha peak near 10 Hz of another height. Thin lines are single electrodes, "
        "thick ones their mean. 10 dB are a factor of 10 in power.",
    )
    return figure


@house_style
def spectra(real: np.ndarray, generated: np.ndarray, ch_names: Sequence[str], title: str) -> Figure:
    """Draw the power spectra of real and generated EEG, of the whole scalp and of each region.

    Welch's method, 2-s Hann windows. A trial's power is the mean over the region's electrodes;
    drawn are the mean over trials of its decibels, and their 10 to 90 % range.

    Parameters
    ----------
    real, generated : array, (n_trials, n_chans, n_times)
        EEG of the same trials, in µV at 128 Hz.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trials; the second line of the heading.
    """
    names = [name.upper() for name in ch_names]
    groups = {"whole scalp": names} | regions(names)
    freqs, real_power = _welch(real)
    _, generated_power = _welch(generated)

    # Decibels before the mean over trials: a trial with an artefact then weighs as one, and the
    # mean is that of the DE. After the mean over electrodes: one of them may be dead.
    levels = {
        region: [
            _decibels(power[:, [names.index(name) for name in members]].mean(1))
            for power in (real_power, generated_power)
        ]
        for region, members in groups.items()
    }
    ranges = {
        region: [np.quantile(level, (0.1, 0.9), axis=0) for level in pair]
        for region, pair in levels.items()
    }
    # Silence lies far below everything: an axis down to it would flatten what is to be compared.
    floor = min(real.min() for real, _ in ranges.values()) - 60
    lowest = max(floor, min(low_high.min() for pair in ranges.values() for low_high in pair))
    highest = max(low_high.max() for pair in ranges.values() for low_high in pair)

    n_rows = math.ceil(len(groups) / 3)
    figure, axes = new_figure(
        11, 1.9 + 2.7 * n_rows, n_rows, min(3, len(groups)), sharex=True, sharey=True
    )
    styles = (("real EEG", REAL, "-"), ("generated EEG", GENERATED, "--"))
    for ax, (region, members) in zip(axes.flat, groups.items(), strict=False):
        for (name, colour, line_style), level, low_high in zip(
            styles, levels[region], ranges[region], strict=True
        ):
            mean = level.mean(0)
            ax.plot(freqs, mean, line_style, color=colour, linewidth=1.8, label=f"{name}, mean")
            ax.fill_between(
                freqs,
                *low_high,
                color=colour,
                alpha=0.2,
                linewidth=0,
                label=f"{name}, 10 to 90 % of the trials",
            )
            if mean.max() < lowest:
                note(ax, 0.5, 0.06, _below(name, mean), colour)
        ax.set_xlabel("Frequency (Hz)")
        ax.tick_params(labelbottom=True)
        ax.set_title(f"{region} ({count(len(members), 'electrode')})", loc="left", pad=18)
        band_edges(ax)
    axes[0, 0].set_ylim(lowest - 2, highest + 2)
    axes[0, 0].set_xlim(*_FREQ_LIMITS)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel(_POWER_LABEL)
    annotate(
        figure,
        f"Power spectra of real and generated EEG ({count(len(real), 'trial')})",
        title,
        "Look for: the orange line within the grey band, with the same slope and the same alpha "
        "peak near 10 Hz. 10 dB are a factor of 10 in power. Peaks at every whole Hz would come "
        "from the borders between one-second frames. Dotted: edges of the bands theta (θ), alpha "
        "(α), beta (β) and gamma (γ).",
    )
    legend_above(axes[0, 0], n_columns=4)
    return figure


@house_style
def spectrogram(
    real: np.ndarray, generated: np.ndarray, ch_names: Sequence[str], title: str
) -> Figure:
    """Draw how the spectrum of one electrode changes over a trial, real above generated.

    The electrode is the first of O1, OZ, PZ, P3 that there is (over the back of the head, where
    alpha is strongest), else the first channel.

    Parameters
    ----------
    real, generated : array, (n_chans, n_times)
        EEG of the same trial, in µV at 128 Hz.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trial; the second line of the heading.
    """
    names = [name.upper() for name in ch_names]
    channel = next(name for name in ("O1", "OZ", "PZ", "P3", names[0]) if name in names)
    region = next(region for region, some in regions(names).items() if channel in some)
    levels = []
    for eeg in (real, generated):
        trace = np.asarray(eeg[names.index(channel)], dtype=np.float64)
        n = min(FRAME, len(trace))
        freqs, seconds, power = signal.spectrogram(trace, SFREQ, "hann", n, n * 7 // 8)
        kept = (freqs >= _FREQ_LIMITS[0]) & (freqs <= _FREQ_LIMITS[1])
        levels.append(_decibels(power[kept]))
    freqs = freqs[kept]

    # The scale is the real EEG's alone, so that generated EEG of another strength looks it.
    low, high = np.quantile(levels[0], (0.02, 0.995))
    figure, axes = new_figure(10.5, 6.4, 2, 1, sharex=True, sharey=True)
    for ax, name, level in zip(axes.flat, ("real", "generated"), levels, strict=True):
        image = ax.pcolormesh(
            seconds, freqs, level, vmin=low, vmax=max(high, low + 1), cmap="viridis"
        )
        ax.set_title(f"{name} EEG at electrode {channel} ({region})", loc="left")
        ax.set_ylabel("Frequency (Hz)")
        ax.set_yticks(_BAND_EDGES)
        ax.yaxis.set_major_formatter("{x:g}")
        for band, edges in BANDS.items():
            for edge in edges:
                ax.axhline(edge, color="white", linewidth=0.7, linestyle=(0, (1, 3)))
            where = {"transform": ax.get_yaxis_transform(), "va": "center"}
            ax.text(1.008, sum(edges) / 2, _GREEK.get(band, band), size=12, **where)
        if level.max() < low:
            note(ax, 0.5, 0.5, _below("generated EEG", level), "white")
    axes[0, 0].set_ylim(*_FREQ_LIMITS)
    axes[1, 0].set_xlabel("Time since the start of the trial (s)")
    bar = figure.colorbar(image, ax=axes, extend="both", pad=0.04, aspect=30)
    bar.set_label(_POWER_LABEL)
    annotate(
        figure,
        "How the spectrum changes over one trial: real above generated",
        title,
        "Look for: bright bursts that come and go at the same times and frequencies, alpha (α) "
        "above all. Vertical stripes at every second would come from the borders between "
        "one-second frames. Dotted: edges of the bands theta (θ), alpha (α), beta (β) and gamma "
        "(γ).",
    )
    return figure


@house_style
def de_maps(
    real_de: np.ndarray,
    generated_de: np.ndarray,
    ch_names: Sequence[str],
    title: str,
    montage: str = HEAD,
) -> Figure:
    """Draw scalp maps of the DE of real and generated EEG and of their difference, band by band.

    Parameters
    ----------
    real_de, generated_de : array, (n_bands, n_chans)
        Mean DE over trials and windows, in nats; -inf for silence.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trials; the second line of the heading.
    montage : str
        MNE's name of the montage that the electrodes are of.
    """
    real_de, generated_de = (
        np.maximum(np.asarray(de, dtype=np.float64), _NO_DE) for de in (real_de, generated_de)
    )
    difference = generated_de - real_de
    info = mne_info(ch_names, montage)
    figure, axes = new_figure(10, 9.4, 3, len(BANDS))
    names = ("real EEG", "generated EEG", "generated\nminus real")
    # A difference of no consequence shall look like none, hence at least half a nat.
    largest = max(0.5, np.abs(difference).max())

    for column, (band, (low, high)) in enumerate(BANDS.items()):
        values = (real_de[column], generated_de[column], difference[column])
        scale = _shared_limits(values[0], values[1])
        for row, value in enumerate(values):
            ax = axes[row, column]
            limits = (-largest, largest) if row == 2 else scale
            image, _ = mne.viz.plot_topomap(
                value,
                info,
                axes=ax,
                show=False,
                cmap="RdBu_r" if row == 2 else "viridis",
                vlim=limits,
                contours=_contours(value, limits),
                extrapolate="head",
            )
            mean = f"mean {value.mean():{'+' if row == 2 else ''}.2f}"
            ax.set_xlabel(mean.replace("-", "\N{MINUS SIGN}"))
            if column == 0:
                ax.set_ylabel(names[row], size=11)
            if row == 1:
                bar = figure.colorbar(
                    image,
                    ax=axes[:2, column],
                    location="bottom",
                    extend=_extend(values[:2], scale),
                    shrink=0.9,
                    aspect=14,
                )
                bar.set_label(f"{_GREEK.get(band, band)}: DE (nats)")
        axes[0, column].set_title(f"{band} {_GREEK.get(band, '')}\n{low:g}–{high:g} Hz")
    bar = figure.colorbar(image, ax=axes[2], location="bottom", shrink=0.5, aspect=30)
    bar.set_label("difference of DE (nats), one scale for all bands")
    annotate(
        figure,
        "Strength of each frequency band over the scalp, seen from above (nose up)",
        title,
        "DE (differential entropy) grows with the logarithm of a band's amplitude: +1 nat is an "
        "amplitude 2.7 times as large. Look for: the same pattern in the two upper rows, which "
        "share colours and contours in each band, and a pale third row; there, red and a mean "
        "above 0 say that the generated EEG is too strong, blue and below 0 too weak. Dots are "
        "electrodes.",
    )
    return figure


def _spread_over_scalp(names: Sequence[str]) -> list[str]:
    """Return up to six of `names`, region by region in turn, in the order of the regions."""
    by_region = [
        sorted(members, key=lambda name: name not in _PREFERRED)
        for members in regions(names).values()
    ]
    turns = [name for turn in zip_longest(*by_region) for name in turn if name]
    return [name for region in by_region for name in region if name in turns[:_N_TRACES]]


def _welch(eeg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies in Hz and the power in µV²/Hz, (n_trials, n_chans, n_freqs)."""
    n = min(2 * SFREQ, eeg.shape[-1])
    # Trial by trial, because `eeg` may be a memory map of many.
    pairs = [signal.welch(np.asarray(t, dtype=np.float64), SFREQ, nperseg=n) for t in eeg]
    freqs = pairs[0][0]
    kept = (freqs >= _FREQ_LIMITS[0]) & (freqs <= _FREQ_LIMITS[1])
    return freqs[kept], np.stack([power[:, kept] for _, power in pairs])


def _decibels(power: np.ndarray) -> np.ndarray:
    return 10 * np.log10(np.maximum(power, _NO_POWER))


def _below(name: str, level: np.ndarray) -> str:
    """Return what is said of EEG whose decibels all lie below the axis."""
    if level.max() <= _decibels(np.zeros(1))[0]:
        return f"▼ {name} is silent: no power at all"
    return f"▼ {name} is too weak for this scale: {level.mean():.0f} dB on average"


def _scale_bar(ax: Axes, space: float) -> None:
    """Draw a bar of a round number of µV at the right of `ax`, whose unit is the µV."""
    exponent = math.floor(math.log10(2 * space))
    size = max(n * 10**exponent for n in (1, 2, 5) if n * 10**exponent <= 2 * space)
    top = ax.get_ylim()[1] - 0.1 * space
    x, kwargs = 1.012, {"transform": ax.get_yaxis_transform(), "clip_on": False}
    ax.plot([x, x], [top - size, top], color="black", linewidth=3, solid_capstyle="butt", **kwargs)
    ax.text(x + 0.008, top - size / 2, f"{size:g} µV", va="center", **kwargs)


def band_edges(ax: Axes) -> None:
    """Mark the bands on a horizontal frequency axis, with their Greek letters above it."""
    for band, edges in BANDS.items():
        for edge in edges:
            ax.axvline(edge, color="0.7", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        where = {"transform": ax.get_xaxis_transform(), "ha": "center"}
        ax.text(sum(edges) / 2, 1.01, _GREEK.get(band, band), size=12, **where)
    ax.set_xticks(_BAND_EDGES)
    ax.xaxis.set_major_formatter("{x:g}")


def _shared_limits(real: np.ndarray, generated: np.ndarray) -> tuple[float, float]:
    """Return the limits of a colour scale for both, at most 1.5 nats beyond the real values.

    A scale down to silence would leave one colour to all that is real.
    """
    low = max(min(real.min(), generated.min()), real.min() - 1.5)
    high = min(max(real.max(), generated.max()), real.max() + 1.5)
    # Room for what the interpolation between electrodes adds, and for values that are all equal.
    room = 0.05 * max(0.1, high - low)
    return low - room, high + room


def _contours(value: np.ndarray, limits: tuple[float, float]) -> list[float] | int:
    """Return those of nine even levels between `limits` that occur in `value`; 0 for none.

    Levels that hang on the scale alone mean the same in every map that shares it.
    """
    levels = np.linspace(*limits, 11)[1:-1]
    return levels[(levels > value.min()) & (levels < value.max())].tolist() or 0


def _extend(values: Sequence[np.ndarray], limits: tuple[float, float]) -> str:
    """Return at which ends of a colour bar an arrow says that values lie beyond."""
    below = min(value.min() for value in values) < limits[0]
    above = max(value.max() for value in values) > limits[1]
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[below, above]


def _brief(value: float) -> str:
    """Return a number with two significant digits, in plain notation down to 0.001."""
    return "0" if value == 0 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
