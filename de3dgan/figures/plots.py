"""The figures that lie beside a run's results, each to be understood without the paper.

Every figure says in its heading what is seen, and below it what to look for. Real EEG is black,
generated EEG orange (of the Okabe-Ito palette), and dashed where one lies over the other, so that
both survive colour blindness and a grey print. The same input gives the same bytes.

Each public function writes one PNG. What it draws is made by the `_draw_*` function of the same
name, which returns a `matplotlib.figure.Figure` and touches neither disk nor pyplot.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import matplotlib.style
import mne
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import signal

from de3dgan.base.files import write_bytes
from de3dgan.data.export import mne_info
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.montage import REGIONS
from de3dgan.eeg.sampling import FRAME, SFREQ
from de3dgan.evaluation.statistics import Estimate

DPI = 150
REAL, GENERATED = "#000000", "#D55E00"
_PALETTE = ("#000000", "#D55E00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9")
_LINE_STYLES = ("-", "--", "-.", ":")
#: Colour and marker of each kind of model.
_KINDS = {"baseline": ("0.55", "s"), "network": (GENERATED, "o"), "control": ("#0072B2", "D")}
_STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.constrained_layout.use": True,
}

_GREEK = {"delta": "δ", "theta": "θ", "alpha": "α", "beta": "β", "gamma": "γ"}
_SECONDS_OF_TRACES, _N_TRACES = 4, 6
#: Drawn first where a region has them: front and back, left and right, and the midline.
_PREFERRED = ("FP1", "F4", "CZ", "T7", "PZ", "O2")
_FREQ_LIMITS = (1.0, 46.0)

_REGION_OF = {name: region for region, members in REGIONS.items() for name in members}

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
        "Log likelihood of amplitudes (nats per coefficient)": [
            ("amplitude", "training"),
            ("val_amplitude", "validation"),
        ],
        "Log likelihood gained by coherence (nats per pair of coefficients)": [
            ("coherence", "training"),
            ("val_coherence", "validation"),
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

#: What counts as silence, so that a logarithm exists: 1e-6 µV in a band, as a power and as a DE.
_NO_POWER = 1e-12
_NO_DE = 0.5 * math.log(2 * math.pi * math.e * _NO_POWER)


def traces(
    path: str | Path,
    real: np.ndarray,
    generated: np.ndarray,
    ch_names: Sequence[str],
    title: str,
) -> Path:
    """Draw four seconds of real and generated EEG of one test trial, on one µV scale.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    real, generated : array, (n_chans, n_times)
        EEG of the same trial, in µV at 128 Hz, starting at a frame border.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trial it is; it becomes the second line of the heading.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_traces, real, generated, ch_names, title)


def spectra(
    path: str | Path,
    real: np.ndarray,
    generated: np.ndarray,
    ch_names: Sequence[str],
    title: str,
) -> Path:
    """Draw the power spectra of real and generated EEG, of the whole scalp and of each region.

    Welch's method, 2-s Hann windows. A trial's power is the mean over the region's electrodes;
    drawn are the mean over trials of its decibels, and their 10 to 90 % range.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    real, generated : array, (n_trials, n_chans, n_times)
        EEG of the same trials, in µV at 128 Hz.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trials; the second line of the heading.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_spectra, real, generated, ch_names, title)


def spectrogram(
    path: str | Path,
    real: np.ndarray,
    generated: np.ndarray,
    ch_names: Sequence[str],
    title: str,
    channel: str | None = None,
) -> Path:
    """Draw how the spectrum of one electrode changes over a trial, real above generated.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    real, generated : array, (n_chans, n_times)
        EEG of the same trial, in µV at 128 Hz.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trial; the second line of the heading.
    channel : str, optional
        The electrode, by default the first of O1, OZ, PZ, P3 that there is (over the back of the
        head, where alpha is strongest), else the first channel.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_spectrogram, real, generated, ch_names, title, channel)


def de_maps(
    path: str | Path,
    real_de: np.ndarray,
    generated_de: np.ndarray,
    ch_names: Sequence[str],
    title: str,
) -> Path:
    """Draw scalp maps of the DE of real and generated EEG and of their difference, band by band.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    real_de, generated_de : array, (n_bands, n_chans)
        Mean DE over trials and windows, in nats; -inf for silence.
    ch_names : sequence of str, length n_chans
        Names of electrodes on the grid.
    title : str
        Which run and which trials; the second line of the heading.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_de_maps, real_de, generated_de, ch_names, title)


def learning_curves(
    path: str | Path,
    history: Sequence[Mapping[str, Any]],
    panels: Mapping[str, Sequence[tuple[str, str]]],
    best_epoch: int | None,
    title: str,
) -> Path:
    """Draw what was measured in each epoch of a training.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
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

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_learning_curves, history, panels, best_epoch, title)


def confusion_matrices(
    path: str | Path,
    matrices: Mapping[str, np.ndarray],
    class_names: Sequence[str],
    title: str,
) -> Path:
    """Draw which classes were taken for which.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    matrices : mapping of str to array, (n_classes, n_classes)
        What was counted ("per one-second frame", "per trial") to the counts, rows the true class.
    class_names : sequence of str, length n_classes
        Names of the classes.
    title : str
        Which run and which trials; the second line of the heading.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_confusion_matrices, matrices, class_names, title)


def reliability(
    path: str | Path,
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    title: str,
) -> Path:
    """Draw how often predictions of each confidence are right.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    curves : mapping of str to (confidence, accuracy, counts), each (n_bins,)
        What was counted ("per trial") to what `de3dgan.evaluation.metrics.reliability` returns for it.
    title : str
        Which run and which trials; the second line of the heading.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_reliability, curves, title)


def forest(
    path: str | Path,
    models: Mapping[str, str],
    panels: Mapping[str, Sequence[Estimate]],
    chance: float,
    title: str,
) -> Path:
    """Draw the balanced accuracy of each model with its interval.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    models : mapping of str to str
        Names of the models, from top to bottom, to their kind: "baseline", "network" or "control".
    panels : mapping of str to sequence of Estimate, one per model
        What was counted ("per trial") to the models' balanced accuracies; those of several seeds
        are drawn as well.
    chance : float
        Balanced accuracy of guessing.
    title : str
        Which runs; the second line of the heading.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_forest, models, panels, chance, title)


def fold_curves(
    path: str | Path,
    histories: Sequence[Sequence[Mapping[str, Any]]],
    panels: Mapping[str, Sequence[tuple[str, str]]],
    best_epochs: Sequence[int],
    title: str,
) -> Path:
    """Draw the learning curves of all folds of a stage over each other.

    Parameters
    ----------
    path : str or Path
        The PNG to write.
    histories : sequence of sequence of dict
        What `learning_curves` is given, per fold.
    panels : mapping of str to sequence of (str, str)
        As for `learning_curves`.
    best_epochs : sequence of int
        The epoch that each fold chose.
    title : str
        Which runs; the second line of the heading.

    Returns
    -------
    Path
        The file written.
    """
    return _write(path, _draw_fold_curves, histories, panels, best_epochs, title)


def _draw_traces(
    real: np.ndarray, generated: np.ndarray, ch_names: Sequence[str], title: str
) -> Figure:
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
    figure, axes = _figure(10.5, 1.6 + 0.95 * len(shown))
    ax = axes[0, 0]
    zero_lines = -2.4 * space * np.arange(len(shown))
    styles = (("real", REAL, 1.0), ("generated", GENERATED, 1.6))
    for (name, colour, width), eeg, shift in zip(styles, pair, (0, space), strict=True):
        rms = np.sqrt(np.mean(eeg**2))
        label = f"{name} EEG, root mean square {_brief(rms)} µV"
        for zero, trace in zip(zero_lines - shift, eeg, strict=True):
            ax.axhline(zero, color="0.85", linewidth=0.6, zorder=0)
            ax.plot(seconds, zero + trace, color=colour, linewidth=width, label=label)
            label = None
    label = "border between one-second frames"
    for second in range(round(seconds[0]), round(seconds[0]) + n_frames + 1):
        ax.axvline(
            second, color="0.55", linestyle=(0, (4, 3)), linewidth=0.9, zorder=0, label=label
        )
        label = None

    ax.set_yticks(zero_lines - space / 2, [f"{name}\n{_REGION_OF[name]}" for name in shown])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlim(seconds[0], seconds[0] + n_frames)
    ax.xaxis.get_major_locator().set_params(integer=True)
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, zero_lines[-1] - 2.1 * space), max(top, 1.1 * space))
    ax.set_xlabel("Time since the start of the trial (s)")
    ax.set_ylabel("Electrode and scalp region")
    _scale_bar(ax, space)
    _head(
        figure,
        "Real and generated EEG of the same trial, on the same scale",
        title,
        "In each pair of lines real EEG is above, generated EEG below. Look for: waves of like "
        "size and speed, rather than the very same waves. A jump or a change of rhythm at a dashed "
        "border would show that the generator draws each second on its own.",
    )
    _legend(ax)
    return figure


def _draw_spectra(
    real: np.ndarray, generated: np.ndarray, ch_names: Sequence[str], title: str
) -> Figure:
    names = [name.upper() for name in ch_names]
    groups = {"whole scalp": names} | {
        region: [name for name in names if name in members] for region, members in REGIONS.items()
    }
    groups = {region: members for region, members in groups.items() if members}
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
    figure, axes = _figure(
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
                ax.text(0.5, 0.06, _below(name, mean), color=colour, **_inside(ax))
        ax.set_xlabel("Frequency (Hz)")
        ax.tick_params(labelbottom=True)
        ax.set_title(f"{region} ({_count(len(members), 'electrode')})", loc="left", pad=18)
        _band_edges(ax)
    axes[0, 0].set_ylim(lowest - 2, highest + 2)
    axes[0, 0].set_xlim(*_FREQ_LIMITS)
    for ax in axes.flat[len(groups) :]:
        ax.set_visible(False)
    for ax in axes[:, 0]:
        ax.set_ylabel("Power (dB re 1 µV²/Hz)")
    _head(
        figure,
        f"Power spectra of real and generated EEG ({_count(len(real), 'trial')})",
        title,
        "Look for: the orange line within the grey band, with the same slope and the same alpha "
        "peak near 10 Hz. 10 dB are a factor of 10 in power. Peaks at every whole Hz would come "
        "from the borders between one-second frames. Dotted: edges of the bands theta (θ), alpha "
        "(α), beta (β) and gamma (γ).",
    )
    _legend(axes[0, 0], n_columns=4)
    return figure


def _draw_spectrogram(
    real: np.ndarray,
    generated: np.ndarray,
    ch_names: Sequence[str],
    title: str,
    channel: str | None = None,
) -> Figure:
    names = [name.upper() for name in ch_names]
    wanted = [channel.upper()] if channel else ["O1", "OZ", "PZ", "P3", names[0]]
    channel = next(name for name in wanted if name in names)
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
    figure, axes = _figure(10.5, 6.4, 2, 1, sharex=True, sharey=True)
    for ax, name, level in zip(axes.flat, ("real", "generated"), levels, strict=True):
        image = ax.pcolormesh(
            seconds, freqs, level, vmin=low, vmax=max(high, low + 1), cmap="viridis"
        )
        ax.set_title(f"{name} EEG at electrode {channel} ({_REGION_OF[channel]})", loc="left")
        ax.set_ylabel("Frequency (Hz)")
        ax.set_yticks(sorted({edge for edges in BANDS.values() for edge in edges}))
        ax.yaxis.set_major_formatter("{x:g}")
        for name_of_band, edges in BANDS.items():
            for edge in edges:
                ax.axhline(edge, color="white", linewidth=0.7, linestyle=(0, (1, 3)))
            ax.text(
                1.008,
                math.fsum(edges) / 2,
                _GREEK.get(name_of_band, name_of_band),
                transform=ax.get_yaxis_transform(),
                va="center",
                size=12,
            )
        if level.max() < low:
            ax.text(0.5, 0.5, _below("generated EEG", level), color="white", **_inside(ax))
    axes[0, 0].set_ylim(*_FREQ_LIMITS)
    axes[1, 0].set_xlabel("Time since the start of the trial (s)")
    bar = figure.colorbar(image, ax=axes, extend="both", pad=0.04, aspect=30)
    bar.set_label("Power (dB re 1 µV²/Hz)")
    _head(
        figure,
        "How the spectrum changes over one trial: real above generated",
        title,
        "Look for: bright bursts that come and go at the same times and frequencies, alpha (α) "
        "above all. Vertical stripes at every second would come from the borders between "
        "one-second frames. Dotted: edges of the bands theta (θ), alpha (α), beta (β) and gamma "
        "(γ).",
    )
    return figure


def _draw_de_maps(
    real_de: np.ndarray, generated_de: np.ndarray, ch_names: Sequence[str], title: str
) -> Figure:
    real_de, generated_de = (
        np.maximum(np.asarray(de, dtype=np.float64), _NO_DE) for de in (real_de, generated_de)
    )
    difference = generated_de - real_de
    info = mne_info(ch_names)
    figure, axes = _figure(10, 9.4, 3, len(BANDS))
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
    _head(
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


def _draw_learning_curves(
    history: Sequence[Mapping[str, Any]],
    panels: Mapping[str, Sequence[tuple[str, str]]],
    best_epoch: int | None,
    title: str,
) -> Figure:
    n_columns = len(panels) if len(panels) <= 3 else 2
    n_rows = math.ceil(len(panels) / n_columns)
    width = {1: 7.5, 2: 10.8, 3: 12.9}[n_columns]
    figure, axes = _figure(width, 1.7 + 2.9 * n_rows, n_rows, n_columns, sharex=True)
    epochs = [row["epoch"] for row in history]
    for ax, (panel, curves) in zip(axes.flat, panels.items(), strict=False):
        drawn = []
        for number, (key, label) in enumerate(curves):
            points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
            if not points:
                continue
            x, y = np.array(points, dtype=np.float64).T
            rare = len(points) < len(history)
            ax.plot(
                x,
                y,
                color=_PALETTE[number % len(_PALETTE)],
                linestyle="none" if rare else _LINE_STYLES[number % len(_LINE_STYLES)],
                marker="os^Dvx"[number % 6] if rare or len(points) == 1 else None,
                markersize=4,
                linewidth=1.6,
                label=label,
            )
            drawn.append(y)
        if best_epoch is not None:
            chosen = ax.axvline(best_epoch, color="0.45", linewidth=1.4, linestyle=(0, (1, 1.5)))
        name, _, unit = panel.removesuffix(")").partition(" (")
        unit = unit or "value (no unit)"
        if drawn:
            values = np.concatenate(drawn)
            if values.min() > 0 and values.max() > 100 * values.min():
                ax.set_yscale("log")
                unit += ", log scale"
            ax.legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")
        else:
            ax.text(0.5, 0.7, "not measured in any epoch", **_inside(ax))
            ax.set_yticks([])
        ax.set_title(textwrap.fill(name, int(9.5 * width / n_columns)), loc="left")
        ax.set_ylabel(unit)
        ax.grid(axis="y", color="0.9", linewidth=0.6)
        ax.tick_params(labelbottom=True)
    pad = max(0.5, 0.02 * (epochs[-1] - epochs[0]))
    axes[0, 0].set_xlim(epochs[0] - pad, epochs[-1] + pad)
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    for ax in axes.flat[max(0, len(panels) - n_columns) : len(panels)]:
        ax.set_xlabel("Epoch (pass over the training data)")
    _head(
        figure,
        f"Learning curves over {_count(len(history), 'epoch')}",
        title,
        "Look for: curves that have become flat by the end. Training that still improves while "
        "validation gets worse is overfitting. Markers without a line: measured in those epochs "
        "only.",
    )
    if best_epoch is not None:
        label = f"chosen epoch (best on validation): {best_epoch}"
        chosen.figure.legend([chosen], [label], loc="outside upper left")
    return figure


def _draw_confusion_matrices(
    matrices: Mapping[str, np.ndarray], class_names: Sequence[str], title: str
) -> Figure:
    n_classes = len(class_names)
    side = 2.4 + 0.75 * n_classes
    figure, axes = _figure(max(7, side * len(matrices) + 1.2), side + 1.2, 1, len(matrices))
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
    _head(
        figure,
        "Which class is taken for which",
        title,
        "Each row adds up to 100 %; under the share, how many. Look for: a dark diagonal, which "
        "holds the right answers. Rows that look alike mean that the answer does not depend on "
        "the EEG.",
    )
    return figure


def _draw_reliability(
    curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], title: str
) -> Figure:
    figure, axes = _figure(4 * len(curves), 5.6, 1, len(curves), sharey=True)
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
    _legend(axes.flat[0], 2)
    _head(
        figure,
        "How far the classifier's confidence can be believed",
        title,
        "Predictions are gathered by the probability of the class that they name. Look for: points "
        "on the dashed line. Below it, the classifier is surer than it should be. The mean "
        "distance is the expected calibration error (ECE).",
    )
    return figure


def _draw_forest(
    models: Mapping[str, str],
    panels: Mapping[str, Sequence[Estimate]],
    chance: float,
    title: str,
) -> Figure:
    figure, axes = _figure(8.5, 2.6 + 0.36 * len(models), 1, len(panels), sharex=True, sharey=True)
    rows = np.arange(len(models))
    for ax, (counted, estimates) in zip(axes.flat, panels.items(), strict=True):
        ax.axvline(100 * chance, color="0.45", linestyle="--", linewidth=1.2, label="chance")
        for kind, (colour, marker) in _KINDS.items():
            label = kind
            for row, of_kind, found in zip(rows, models.values(), estimates, strict=True):
                if of_kind != kind or math.isnan(found.value):
                    continue
                ax.plot([100 * found.low, 100 * found.high], [row, row], color=colour, linewidth=2)
                if len(found.per_seed) > 1:
                    seeds = 100 * np.array(found.per_seed)
                    ax.plot(seeds, row + 0.28 + 0 * seeds, "|", color=colour, markersize=5)
                ax.plot(
                    100 * found.value,
                    row,
                    marker,
                    color=colour,
                    markersize=7,
                    mec="black",
                    label=label,
                )
                label = None
        ax.set_title(counted, loc="left")
        ax.grid(axis="x", color="0.9", linewidth=0.6)
        ax.set_xlabel("Balanced accuracy (%)")
        ax.tick_params(axis="y", length=0)
    axes[0, 0].set_yticks(rows, [textwrap.fill(name, 34) for name in models])
    axes[0, 0].set_ylim(len(models) - 0.4, -0.6)
    _head(
        figure,
        "How well each model knows the classes in the test data",
        title,
        "Markers are the test figures, lines their 95 % intervals: how much other groups from the "
        "same population would change them. Look for: orange intervals to the right of chance and "
        "of the linear model. Intervals overlap even where models differ, since all models are "
        "asked the same: the table of comparisons says which differ. Ticks below a line are seeds.",
    )
    _legend(axes[0, 0], len(_KINDS) + 1)
    return figure


def _draw_fold_curves(
    histories: Sequence[Sequence[Mapping[str, Any]]],
    panels: Mapping[str, Sequence[tuple[str, str]]],
    best_epochs: Sequence[int],
    title: str,
) -> Figure:
    figure, axes = _figure(4.3 * len(panels), 5, 1, len(panels))
    for ax, (panel, curves) in zip(axes.flat, panels.items(), strict=True):
        lowest, highest = math.inf, -math.inf
        for number, (key, label) in enumerate(curves):
            colour, dashes = _PALETTE[number], _LINE_STYLES[number]
            for history in histories:
                points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
                if not points:
                    continue
                x, y = np.array(points, dtype=np.float64).T
                rare = len(points) < len(history) or len(points) == 1
                ax.plot(
                    x,
                    y,
                    color=colour,
                    linestyle="none" if rare else dashes,
                    marker="os^D"[number] if rare else None,
                    markersize=3.5,
                    linewidth=1.1,
                    alpha=0.75,
                    label=label,
                )
                lowest, highest, label = min(lowest, y.min()), max(highest, y.max()), None
        name, _, unit = panel.removesuffix(")").partition(" (")
        if lowest > 0 and highest > 100 * lowest:
            ax.set_yscale("log")
            unit += ", log scale"
        ax.plot(
            best_epochs,
            np.zeros(len(best_epochs)),
            "^",
            color="black",
            transform=ax.get_xaxis_transform(),
            clip_on=False,
            label="chosen epochs",
        )
        ax.set_title(textwrap.fill(name, 40), loc="left")
        ax.set(ylabel=unit, xlabel="Epoch (pass over the training data)")
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.grid(axis="y", color="0.9", linewidth=0.6)
        ax.legend(loc="best", frameon=True, framealpha=0.8, edgecolor="none")
    _head(
        figure,
        f"Learning curves of {_count(len(histories), 'fold')}, a line each",
        title,
        "Look for: folds that agree, curves that have become flat by the end, and validation that "
        "follows training: where training still improves and validation gets worse, the network "
        "learns its training data by heart. Triangles below: the epochs that validation chose.",
    )
    return figure


def _write(path: str | Path, draw: Callable[..., Figure], *args: Any) -> Path:
    """Write what `draw(*args)` returns, whatever style the caller or a matplotlibrc has set."""
    with matplotlib.style.context(["default", _STYLE]):
        figure = draw(*args)
        heading = figure.get_suptitle().replace("\n", " ")  # which run, and whether it is leaky
        about = {"Software": None, "Title": heading}
        png = io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI, metadata=about)
        write_bytes(path, png.getbuffer())
    return Path(path)


def _figure(
    width: float, height: float, n_rows: int = 1, n_columns: int = 1, **shared: bool
) -> tuple[Figure, np.ndarray]:
    """Return an empty figure of `width` by `height` inches, and its axes (n_rows, n_columns)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    # A body of its own keeps a legend outside the axes clear of the heading.
    return figure, figure.subfigures().subplots(n_rows, n_columns, squeeze=False, **shared)


def _head(figure: Figure, seen: str, title: str, advice: str) -> None:
    """Put what is seen and `title` above the figure, and what to look for below it."""
    width = figure.get_figwidth()
    heading = "\n".join(textwrap.fill(line, int(11 * width)) for line in (seen, title))
    figure.suptitle(heading, x=0.01, ha="left", size=12)
    advice = textwrap.fill(advice, int(14 * width))
    figure.supxlabel(advice, x=0.01, ha="left", size=9.5, color="0.25", style="italic")


def _legend(ax: Axes, n_columns: int = 3) -> None:
    """Put the legend of `ax` between the heading and the axes."""
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside upper left", ncols=n_columns)


def _inside(ax: Axes) -> dict[str, Any]:
    """Return how a note inside `ax` is written."""
    return {"transform": ax.transAxes, "ha": "center", "va": "center", "size": 9}


def _below(name: str, level: np.ndarray) -> str:
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


def _band_edges(ax: Axes) -> None:
    """Mark the bands on a horizontal frequency axis, with their Greek letters above it."""
    for band, edges in BANDS.items():
        for edge in edges:
            ax.axvline(edge, color="0.7", linewidth=0.8, linestyle=(0, (1, 2)), zorder=0)
        letter = _GREEK.get(band, band)
        ax.text(
            sum(edges) / 2, 1.01, letter, transform=ax.get_xaxis_transform(), ha="center", size=12
        )
    ax.set_xticks(sorted({edge for edges in BANDS.values() for edge in edges}))
    ax.xaxis.set_major_formatter("{x:g}")


def _spread_over_scalp(names: Sequence[str]) -> list[str]:
    """Return up to six of `names`, region by region in turn, in the order of the regions."""
    by_region = [
        sorted((name for name in members if name in names), key=lambda n: n not in _PREFERRED)
        for members in REGIONS.values()
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


def _readable_on(background: Sequence[float]) -> str:
    """Return black or white, whichever has the higher contrast (WCAG) with an RGB(A) colour."""
    luminance = np.power(background[:3], 2.2) @ (0.2126, 0.7152, 0.0722)
    return "white" if luminance < 0.179 else "black"


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _brief(value: float) -> str:
    """Return a number with two significant digits, in plain notation down to 0.001."""
    return "0" if value == 0 else f"{value:.2g}" if value < 10 else f"{value:.0f}"
