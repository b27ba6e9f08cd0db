"""The figures: valid, deterministic, honest about silence, and labelled for a newcomer."""

from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path

import matplotlib
import matplotlib.text
import numpy as np
import pytest
from matplotlib import image

from de3dgan.eeg.de import BANDS
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.evaluation.statistics import Estimate
from de3dgan.figures import plots

FOUR = ("FP1", "C3", "P3", "O1")
TITLE = "Valence, protocol trial, fold 0"
HISTORY = [
    {"epoch": epoch, "mse": 1 / epoch, "val": 2 / epoch} | ({"critic": -0.5} if epoch == 5 else {})
    for epoch in range(1, 8)
]
PANELS = {
    "Waveform error (mean square)": [("mse", "training"), ("val", "validation")],
    "Critic": [("critic", "critic's loss")],
}
COUNTS = {"per one-second frame": [[50, 10], [20, 40]], "per trial": [[1, 0], [0, 0]]}


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@cache
def drawn(name: str):
    return getattr(plots, f"_draw_{name}")(*CALLS[name])


def eeg(n_trials: int, n_chans: int, seconds: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, 10, (n_trials, n_chans, seconds * 128)).astype(np.float32)


def text(figure) -> str:
    figure.set_layout_engine("none")  # Where things lie does not matter here, and takes long.
    figure.draw_without_rendering()
    found = figure.findobj(matplotlib.text.Text)
    return " ".join(" ".join(t.get_text().split()) for t in found if t.get_visible())


def check(path: Path) -> None:
    assert path.read_bytes().startswith(b"\x89PNG")
    assert 10_000 < path.stat().st_size < 1_500_000
    height, width, _ = image.imread(path).shape
    assert 500 < height < 1700 and 900 < width < 2200
    assert not [p for p in path.parent.iterdir() if p.suffix != ".png"]


ONE, TWO = eeg(1, 4)[0], eeg(2, 4)
DE = np.linspace(0, 3, 16).reshape(4, 4)
MODELS = {"majority class": "baseline", "stage 3": "network", "control: nothing": "control"}
ESTIMATES = [
    Estimate(0.5, np.nan, np.nan, (0.5,)),
    Estimate(0.7, 0.6, 0.8, (0.65, 0.75)),
    Estimate(np.nan, np.nan, np.nan, (np.nan, np.nan)),
]
CALLS = {
    "traces": (ONE, ONE / 2, FOUR, TITLE),
    "spectra": (TWO, TWO / 2, FOUR, TITLE),
    "spectrogram": (ONE, ONE / 2, FOUR, TITLE),
    "de_maps": (DE, DE + 1, FOUR, TITLE),
    "learning_curves": (HISTORY, PANELS, 3, TITLE),
    "confusion_matrices": (COUNTS, ("low", "high"), TITLE),
    "forest": (MODELS, {"per frame": ESTIMATES, "per trial": ESTIMATES}, 0.5, TITLE),
    "fold_curves": ([HISTORY, HISTORY[:5]], PANELS, [3, 5], TITLE),
}


@pytest.mark.parametrize("name", CALLS)
def test_same_input_gives_the_same_valid_png_in_any_style(name, tmp_path):
    draw = getattr(plots, name)
    path = draw(tmp_path / "a.png", *CALLS[name])
    check(path)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        again = draw(str(tmp_path / "b.png"), *CALLS[name])
        assert dict(matplotlib.rcParams) == before
    assert again.read_bytes() == path.read_bytes()
    assert b"Software" not in path.read_bytes()
    from matplotlib import pyplot

    assert not pyplot.get_fignums()


@pytest.mark.parametrize("name", CALLS)
def test_says_which_run_and_what_to_look_for(name):
    found = text(drawn(name))
    assert TITLE in found
    assert "Look for:" in found


@pytest.mark.parametrize("scale", [0, 30])
def test_generated_eeg_of_another_size(scale, tmp_path):
    rows = slice(None), [0, 3]
    names = [FOUR[0], FOUR[3]]
    check(plots.traces(tmp_path / "t.png", ONE[[0, 3]], scale * ONE[[0, 3]], names, TITLE))
    check(plots.spectra(tmp_path / "s.png", TWO[rows], scale * TWO[rows], names, TITLE))
    check(plots.spectrogram(tmp_path / "g.png", ONE, scale * ONE, FOUR, TITLE))


def test_traces_share_a_scale_and_give_both_sizes():
    figure = plots._draw_traces(ONE, 0.001 * ONE, FOUR, TITLE)
    found = text(figure)
    assert "real EEG, root mean square 10 µV" in found
    assert "generated EEG, root mean square 0.01 µV" in found
    assert "border between one-second frames" in found
    assert "(s)" in found and "occipital" in found
    (ax,) = figure.findobj(matplotlib.axes.Axes)
    swing = {
        colour: max(np.ptp(line.get_ydata()) for line in ax.lines if line.get_color() == colour)
        for colour in (plots.REAL, plots.GENERATED)
    }
    assert swing[plots.GENERATED] == pytest.approx(0.001 * swing[plots.REAL], rel=0.01)


def test_traces_span_the_scalp():
    shown = plots._spread_over_scalp(DEAP_CHANNELS)
    assert shown == ["FP1", "F4", "CZ", "T7", "PZ", "O2"]
    assert plots._spread_over_scalp(("O1", "FZ")) == ["FZ", "O1"]


def test_traces_of_a_short_trial(tmp_path):
    check(plots.traces(tmp_path / "a.png", ONE[:, :128], ONE[:, :128], FOUR, TITLE))


def test_spectra_name_bands_regions_and_units():
    found = text(drawn("spectra"))
    for wanted in ("θ", "α", "β", "γ", "dB re 1 µV²/Hz", "Frequency (Hz)", "2 trials"):
        assert wanted in found
    for wanted in ("whole scalp (4 electrodes)", "occipital (1 electrode)", "10 to 90 %"):
        assert wanted in found
    assert "temporal" not in found


def test_spectra_have_the_power_of_white_noise():
    freqs, power = plots._welch(eeg(2, 4, 60))
    assert freqs[0] == 1 and freqs[-1] == 46
    assert power.mean() == pytest.approx(10**2 / 64, rel=0.02)


@pytest.mark.parametrize("draw", [plots._draw_spectra, plots._draw_spectrogram])
def test_silence_is_said(draw):
    real = TWO if draw is plots._draw_spectra else ONE
    assert "generated EEG is silent" in text(draw(real, 0 * real, FOUR, TITLE))
    assert "too weak for this scale" in text(draw(real, 1e-5 * real, FOUR, TITLE))
    assert "▼" not in text(draw(real, real, FOUR, TITLE))


def test_spectrogram_chooses_an_electrode_over_the_back_of_the_head():
    assert "electrode O1 (occipital)" in text(drawn("spectrogram"))
    assert "electrode C3" in text(plots._draw_spectrogram(*CALLS["spectrogram"], "c3"))
    assert "electrode F3" in text(plots._draw_spectrogram(ONE[:2], ONE[:2], ("F3", "F4"), ""))


@pytest.mark.parametrize(
    "ch_names", [("FZ", "CZ", "PZ", "OZ"), DEAP_CHANNELS], ids=["in a line", "32"]
)
def test_de_maps_of_any_montage(ch_names, tmp_path):
    de = np.random.default_rng(0).normal(2, 0.3, (len(BANDS), len(ch_names)))
    check(plots.de_maps(tmp_path / "a.png", de, de - 0.2, ch_names, TITLE))


def test_de_maps_have_units_and_survive_silence():
    assert "mean −" in text(plots._draw_de_maps(DE, np.full_like(DE, -np.inf), FOUR, TITLE))
    found = text(drawn("de_maps"))
    for wanted in ("theta θ 4–8 Hz", "gamma γ 31–45 Hz", "α: DE (nats)", "difference of DE (nats)"):
        assert wanted in found
    for wanted in ("real EEG", "generated EEG", "generated minus real", "mean +1.00"):
        assert wanted in found


def test_learning_curves_mark_rare_values_and_the_chosen_epoch():
    figure = drawn("learning_curves")
    found = text(figure)
    assert "chosen epoch (best on validation): 3" in found
    assert "Epoch" in found and "mean square" in found and "critic's loss" in found
    lines = {line.get_label(): line for line in figure.findobj(matplotlib.lines.Line2D)}
    assert lines["critic's loss"].get_linestyle() == "None"
    assert lines["critic's loss"].get_marker() != "None"
    assert lines["training"].get_linestyle() != lines["validation"].get_linestyle()


@pytest.mark.parametrize("n_panels", [1, 4])
def test_learning_curves_of_one_epoch_with_missing_keys(n_panels, tmp_path):
    panels = {f"Panel {n}": [("mse", "training"), ("absent", "x")] for n in range(n_panels)}
    panels["Panel 0"] = [("absent", "x")]
    check(plots.learning_curves(tmp_path / "a.png", HISTORY[:1], panels, None, TITLE))
    found = text(plots._draw_learning_curves(HISTORY[:1], panels, 1, TITLE))
    assert "not measured in any epoch" in found and "over 1 epoch" in found


@pytest.mark.parametrize("n_classes", [2, 4])
def test_confusion_matrices_are_readable(n_classes, tmp_path):
    matrix = np.diag(range(n_classes)) + np.triu(np.full((n_classes, n_classes), 3), 1)
    names = [f"valence {n}, arousal {n}" for n in range(n_classes)]
    check(plots.confusion_matrices(tmp_path / "a.png", {"per trial": matrix}, names, TITLE))
    found = text(plots._draw_confusion_matrices({"per trial": 0 * matrix}, names, TITLE))
    assert "– 0" in found


def test_confusion_matrices_give_shares_and_counts():
    found = text(drawn("confusion_matrices"))
    for wanted in ("83 % 50", "17 % 10", "75 % of 120 right", "True class", "Predicted class"):
        assert wanted in found


def test_text_on_any_blue_has_enough_contrast():
    for colour in matplotlib.colormaps["Blues"](np.linspace(0, 1, 50)):
        luminance = np.power(colour[:3], 2.2) @ (0.2126, 0.7152, 0.0722)
        white = plots._readable_on(colour) == "white"
        contrast = 1.05 / (luminance + 0.05) if white else (luminance + 0.05) / 0.05
        assert contrast > 4.5


def test_forest_shows_intervals_seeds_and_kinds_without_colour():
    figure = drawn("forest")
    found = text(figure)
    for wanted in ("chance", "baseline", "network", "control: nothing", "per trial", "95 %"):
        assert wanted in found
    lines = [line for ax in figure.findobj(matplotlib.axes.Axes)[:1] for line in ax.lines]
    drawn_x = [line.get_xdata() for line in lines]
    assert any(np.allclose(x, [60, 80]) for x in drawn_x if len(x) == 2)
    assert any(np.allclose(x, [65, 75]) for x in drawn_x if len(x) == 2)
    assert len({marker for _, marker in plots._KINDS.values()}) == len(plots._KINDS)


def test_fold_curves_have_a_line_per_fold_and_the_chosen_epochs():
    figure = drawn("fold_curves")
    found = text(figure)
    assert "Learning curves of 2 folds" in found and "mean square" in found
    ax = figure.findobj(matplotlib.axes.Axes)[0]
    assert [len(line.get_xdata()) for line in ax.lines] == [7, 5, 7, 5, 2]
    assert list(ax.lines[-1].get_xdata()) == [3, 5]
