"""The figures: valid, deterministic, honest about silence, and labelled for a newcomer."""

from __future__ import annotations

import shutil
import sys
import warnings
from functools import cache
from types import SimpleNamespace

import matplotlib
import matplotlib.text
import numpy as np
import pytest
from matplotlib import image

from de3dgan import figures
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.evaluation.statistics import Estimate
from de3dgan.figures import curves, eeg, scores, stages, style
from de3dgan.figures.style import GENERATED, REAL, save
from tests.conftest import ROOT, run_here
from tests.helpers import fake_store, split_by_trial

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


def noise(n_trials: int, n_chans: int, seconds: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, 10, (n_trials, n_chans, seconds * 128)).astype(np.float32)


def text(figure) -> str:
    """Return all that a figure says, its size having been checked."""
    width, height = figure.get_size_inches()
    assert 6 < width < 15 and 3.4 < height < 11.5
    figure.set_layout_engine("none")  # Where things lie does not matter here, and takes long.
    figure.draw_without_rendering()
    found = figure.findobj(matplotlib.text.Text)
    return " ".join(" ".join(t.get_text().split()) for t in found if t.get_visible())


ONE, TWO = noise(1, 4)[0], noise(2, 4)
DE = np.linspace(0, 3, 16).reshape(4, 4)
MODELS = {"majority class": "baseline", "stage 3": "network", "control: nothing": "control"}
ESTIMATES = [
    Estimate(0.5, np.nan, np.nan, {(0, 0): 0.5}),
    Estimate(0.7, 0.6, 0.8, {(0, 0): 0.65, (0, 1): 0.75}),
    Estimate(np.nan, np.nan, np.nan, {(0, 0): np.nan, (0, 1): np.nan}),
]
RELIABILITY = np.array([0.6, np.nan, 0.9]), np.array([0.5, np.nan, 1.0]), np.array([3, 0, 9])
JUDGED = {
    "real EEG": {"spectra": [0.5, 0.52], "network": [0.49]},
    "generated EEG": {"spectra": [0.6, 0.7], "network": []},
}
CALLS = {
    eeg.traces: (ONE, ONE / 2, FOUR, TITLE),
    eeg.spectra: (TWO, TWO / 2, FOUR, TITLE),
    eeg.spectrogram: (ONE, ONE / 2, FOUR, TITLE),
    eeg.de_maps: (DE, DE + 1, FOUR, TITLE),
    eeg.beside: (TWO, TWO / 2, FOUR, ("rest", "arithmetic"), TITLE),
    curves.learning_curves: (HISTORY, PANELS, 3, TITLE),
    curves.fold_curves: ([HISTORY, HISTORY[:5]], PANELS, [3, 5], TITLE),
    scores.confusion_matrices: (COUNTS, ("low", "high"), TITLE),
    scores.reliability: ({"per trial": RELIABILITY, "per frame": RELIABILITY}, TITLE),
    scores.forest: (MODELS, {"per frame": ESTIMATES, "per trial": ESTIMATES}, 0.5, TITLE),
    scores.judges: ({"Segments of 1 s": JUDGED, "Trials": JUDGED}, TITLE),
}


@cache
def drawn(draw):
    return draw(*CALLS[draw])


@pytest.mark.parametrize("draw", CALLS)
def test_same_input_gives_the_same_valid_png_in_any_style(draw, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "DPI", 50)  # a third of what it is
    path = save(draw(*CALLS[draw]), tmp_path / "a.png")
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "savefig.dpi": 20}):
        before = dict(matplotlib.rcParams)
        again = save(draw(*CALLS[draw]), str(tmp_path / "b.png"))
        assert dict(matplotlib.rcParams) == before
    assert again.read_bytes() == path.read_bytes()
    assert path.read_bytes().startswith(b"\x89PNG") and b"Software" not in path.read_bytes()
    assert path.stat().st_size > 5_000
    height, width, _ = image.imread(path).shape
    assert 170 < height < 570 and 300 < width < 740
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png", "b.png"]
    from matplotlib import pyplot

    assert not pyplot.get_fignums()


#: What each figure has to say besides.
SAYS = {
    eeg.spectra: (
        *("θ", "α", "β", "γ", "dB re 1 µV²/Hz", "Frequency (Hz)", "2 trials"),
        *("whole scalp (4 electrodes)", "occipital (1 electrode)", "10 to 90 %"),
    ),
    eeg.spectrogram: ("electrode O1 (occipital)",),  # one over the back of the head
    eeg.beside: (
        *("rest: real person", "arithmetic: virtual person", "rest: spectra", "µV", "Time (s)"),
        *("Frequency (Hz)", "dB re 1 µV²/Hz", "who does not exist"),
    ),
    eeg.de_maps: (
        *("theta θ 4–8 Hz", "gamma γ 31–45 Hz", "α: DE (nats)", "difference of DE (nats)"),
        *("real EEG", "generated EEG", "generated minus real", "mean +1.00"),
    ),
    curves.learning_curves: (
        *("chosen epoch (best on validation): 3", "Epoch", "mean square", "critic's loss"),
    ),
    curves.fold_curves: ("Learning curves of 2 folds", "mean square"),
    scores.confusion_matrices: (
        *("83 % 50", "17 % 10", "75 % of 120 right", "– 0", "True class", "Predicted class"),
    ),
    scores.forest: (*("chance", "baseline", "network", "control: nothing", "per trial", "95 %"),),
    scores.judges: (*("generated EEG", "not told at all", "spectra", "Segments of 1 s", "AUC"),),
}


@pytest.mark.parametrize("draw", CALLS)
def test_says_which_run_what_to_look_for_and_units(draw):
    found = text(drawn(draw))
    for wanted in (TITLE, "Look for:", *SAYS.get(draw, ())):
        assert wanted in found


@pytest.mark.parametrize("scale", [0, 1e-5, 30])
def test_generated_eeg_of_another_size(scale):
    """What is silent, or too weak for the scale of the real EEG, is said to be."""
    two = slice(None), [0, 3]
    ends = (FOUR[0], FOUR[3])
    text(eeg.traces(ONE[[0, 3]], scale * ONE[[0, 3]], ends, TITLE))
    says = {0: "▼ generated EEG is silent", 1e-5: "▼ generated EEG is too weak", 30: ""}[scale]
    for found in (
        text(eeg.spectra(TWO[two], scale * TWO[two], ends, TITLE)),
        text(eeg.spectrogram(ONE, scale * ONE, FOUR, TITLE)),
    ):
        assert says in found and ("▼" in found) == bool(says)


def test_traces_share_a_scale_and_give_both_sizes():
    figure = eeg.traces(ONE, 0.001 * ONE, FOUR, TITLE)
    found = text(figure)
    assert "real EEG, root mean square 10 µV" in found
    assert "generated EEG, root mean square 0.01 µV" in found
    assert "border between one-second frames" in found
    assert "(s)" in found and "occipital" in found
    (ax,) = figure.findobj(matplotlib.axes.Axes)
    swing = {
        colour: max(np.ptp(line.get_ydata()) for line in ax.lines if line.get_color() == colour)
        for colour in (REAL, GENERATED)
    }
    assert swing[GENERATED] == pytest.approx(0.001 * swing[REAL], rel=0.01)


@pytest.mark.parametrize(
    ("ch_names", "shown"),
    [(DEAP_CHANNELS, ["FP1", "F4", "CZ", "T7", "PZ", "O2"]), (("O1", "FZ"), ["FZ", "O1"])],
)
def test_traces_span_the_scalp_and_may_be_short(ch_names, shown):
    trial = noise(1, len(ch_names), 1)[0]
    (ax,) = eeg.traces(trial, trial, ch_names, TITLE).findobj(matplotlib.axes.Axes)
    assert [label.get_text().split("\n")[0] for label in ax.get_yticklabels()] == shown


def test_spectra_have_the_power_of_white_noise():
    trials = noise(2, 4, 60)
    ax = eeg.spectra(trials, trials, FOUR, TITLE).findobj(matplotlib.axes.Axes)[0]
    freqs, decibels = ax.lines[0].get_data()
    assert freqs[0] == 1 and freqs[-1] == 46
    assert np.mean(decibels) == pytest.approx(10 * np.log10(10**2 / 64), abs=0.1)


def test_spectrogram_chooses_an_electrode_where_there_is_none_over_the_back_of_the_head():
    assert "electrode F3" in text(eeg.spectrogram(ONE[:2], ONE[:2], ("F3", "F4"), ""))


@pytest.mark.parametrize(
    "ch_names", [("FZ", "CZ", "PZ", "OZ"), DEAP_CHANNELS], ids=["in a line", "32"]
)
def test_de_maps_of_any_montage(ch_names):
    de = np.random.default_rng(0).normal(2, 0.3, (len(BANDS), len(ch_names)))
    assert "mean −0.20" in text(eeg.de_maps(de, de - 0.2, ch_names, TITLE))


def test_de_maps_survive_silence():
    assert "mean −" in text(eeg.de_maps(DE, np.full_like(DE, -np.inf), FOUR, TITLE))


def test_two_people_are_drawn_on_one_scale_and_may_have_trials_of_other_length():
    noise = np.random.default_rng(0).standard_normal((2, 4, 10 * 128))
    figure = eeg.beside(noise, 2 * noise[..., : 6 * 128], FOUR, ("rest", "arithmetic"), TITLE)
    real, virtual, spectra = figure.findobj(matplotlib.axes.Axes)[:3]
    assert real.get_ylim() == virtual.get_ylim() and real.get_xlim() == (0, 4)
    drawn = [[line for line in ax.lines if len(line.get_xdata()) == 512] for ax in (real, virtual)]
    assert len(drawn[0]) == 4
    np.testing.assert_allclose(drawn[0][0].get_ydata(), noise[0, 0, 384:896], atol=1e-6)
    # Twice the amplitude are 6 dB.
    means = [line.get_ydata().mean() for line in spectra.lines if line.get_linewidth() == 2]
    assert means[1] - means[0] == pytest.approx(6.02, abs=0.5)


def test_a_virtual_person_of_a_fold_is_drawn(finished_runs, little_store, tmp_path):
    shutil.copytree(finished_runs / "valence/subject/fold0", tmp_path / "fold0")
    args = ("--fold-dir", tmp_path / "fold0", "--data-dir", little_store)
    done = run_here(ROOT / "de3dgan" / "figures" / "virtual.py", *args)
    assert done.returncode == 0, done.stderr
    assert "virtual.png" in done.stdout
    assert image.imread(tmp_path / "fold0" / "virtual.png").shape[1] == 1950
    (tmp_path / "fold0" / "gan" / "model.pt").unlink()
    done = run_here(ROOT / "de3dgan" / "figures" / "virtual.py", *args)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1


def test_learning_curves_mark_rare_values():
    figure = drawn(curves.learning_curves)
    lines = {line.get_label(): line for line in figure.findobj(matplotlib.lines.Line2D)}
    assert lines["critic's loss"].get_linestyle() == "None"
    assert lines["critic's loss"].get_marker() != "None"
    assert lines["training"].get_linestyle() != lines["validation"].get_linestyle()


@pytest.mark.parametrize(("n_panels", "best_epoch"), [(1, 1), (4, None)])
def test_learning_curves_of_one_epoch_with_missing_keys(n_panels, best_epoch):
    panels = {f"Panel {n}": [("mse", "training"), ("absent", "x")] for n in range(n_panels)}
    panels["Panel 0"] = [("absent", "x")]
    found = text(curves.learning_curves(HISTORY[:1], panels, best_epoch, TITLE))
    assert "not measured in any epoch" in found and "over 1 epoch" in found


def test_fold_curves_have_a_line_per_fold_and_the_chosen_epochs():
    ax = drawn(curves.fold_curves).findobj(matplotlib.axes.Axes)[0]
    assert [len(line.get_xdata()) for line in ax.lines] == [7, 5, 7, 5, 2]
    assert list(ax.lines[-1].get_xdata()) == [3, 5]


def test_shares_can_be_read_on_any_blue():
    n = 7
    counts = np.stack([np.arange(n), np.arange(n)[::-1], *[np.ones(n, int)] * (n - 2)])
    figure = scores.confusion_matrices({"per trial": counts}, "abcdefg", TITLE)
    ax = figure.findobj(matplotlib.axes.Axes)[0]
    for share, label in zip(ax.images[0].get_array().ravel(), ax.texts, strict=True):
        blue = matplotlib.colormaps["Blues"](share / 100)
        luminance = np.power(blue[:3], 2.2) @ (0.2126, 0.7152, 0.0722)
        white = label.get_color() == "white"
        contrast = 1.05 / (luminance + 0.05) if white else (luminance + 0.05) / 0.05
        assert contrast > 4.5


def test_forest_shows_intervals_seeds_and_kinds_without_colour():
    ax = drawn(scores.forest).findobj(matplotlib.axes.Axes)[0]
    drawn_x = [line.get_xdata() for line in ax.lines if len(line.get_xdata()) == 2]
    assert any(np.allclose(x, [60, 80]) for x in drawn_x)
    assert any(np.allclose(x, [65, 75]) for x in drawn_x)
    markers = {
        line.get_color(): line.get_marker() for line in ax.lines if len(line.get_xdata()) == 1
    }
    assert len(markers) == len(set(markers.values())) == 2


# --- beside a stage's results


@pytest.fixture
def run(tmp_path):
    """Return what `draw_generator` and `draw_classifier` need of a run, and what it logs."""
    store = fake_store(n_frames=4)
    logged = []
    return SimpleNamespace(
        store=store,
        split=split_by_trial(store, 0, 1),
        labels=np.arange(store.n_trials) % 2,
        config=SimpleNamespace(method="spectral", class_names=("low", "high")),
        title=TITLE,
        dir=tmp_path,
        figure=lambda name: tmp_path / f"{name}.png",
        log=logged.append,
        logged=logged,
    )


def draw_both(run) -> set[str]:
    """Draw what both kinds of stages do, and return the names of the files."""
    frames = SimpleNamespace(continuous=lambda trials: run.store.eeg[trials])
    history = [{"epoch": 0, "amplitude": 1.0, "loss": 0.7}]
    stages.draw_generator(run, lambda de, trials: run.store.eeg[trials] / 2, frames, history, 0)
    probabilities = np.tile([0.4, 0.6], (len(run.split.test), 1))
    stages.draw_classifier(run, probabilities, history, 0, 1.0)
    return {path.stem for path in run.dir.iterdir()}


def test_stages_draw_their_figures(run, monkeypatch):
    titles = []
    monkeypatch.setattr(style, "png", lambda figure: titles.append(figure.get_suptitle()) or b"")
    assert draw_both(run) == {
        *("traces", "spectrogram", "spectra", "de_maps", "learning_curves"),
        *("confusion_matrix", "reliability"),
    }
    assert len(titles) == 8 and all(TITLE in title for title in titles)
    assert run.logged == []


def test_without_a_library_nothing_is_drawn_and_that_is_said(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "mne", None)
    monkeypatch.delitem(sys.modules, "de3dgan.figures.eeg")
    monkeypatch.delattr(figures, "eeg")
    assert draw_both(run) == set()
    assert set(run.logged) == {"mne is not installed: there will be no figures."}


def test_of_several_processes_the_main_one_draws(run, monkeypatch):
    monkeypatch.setattr(stages, "is_main_process", lambda: False)
    assert draw_both(run) == set() and run.logged == []
