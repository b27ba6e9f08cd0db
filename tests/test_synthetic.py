"""The simulation: what is planted is there, of the size it says, and nothing else is."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import welch

from de3dgan.base.errors import UserError
from de3dgan.data.simulation import AROUSAL_CHANNELS, Signal, simulate_subject
from de3dgan.data.sources.deap import BASELINE
from de3dgan.data.synthetic import Config, main, write_deap
from de3dgan.eeg.de import BANDS, differential_entropy
from de3dgan.eeg.montage import DEAP_CHANNELS

BAND_NAMES = list(BANDS)


def indices(channels: tuple[str, ...]) -> list[int]:
    """Return where `channels` are among DEAP's."""
    return [DEAP_CHANNELS.index(name) for name in channels]


def trial_de(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean DE of the baselines and of the trials, each (n_trials, n_bands, n_chans)."""
    de = np.stack([differential_entropy(recording[:32]) for recording in data])
    n_baseline = BASELINE // 64
    # The window to either side of the onset has some of the other in it, by the filters.
    return de[:, :, : n_baseline - 1].mean(2), de[:, :, n_baseline + 1 :].mean(2)


def test_the_same_call_writes_the_same_bytes(tmp_path):
    """And one subject's do not depend on how many others there are."""
    signal = Signal(n_trials=2, fingerprint=True)
    first = [path.read_bytes() for path in write_deap(tmp_path / "a", 2, signal)]
    again = [path.read_bytes() for path in write_deap(tmp_path / "b", 3, signal)]
    assert first == again[:2]
    assert len(set(again)) == 3
    assert first[0] != write_deap(tmp_path / "a", 1, replace(signal, seed=1))[0].read_bytes()
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["SIMULATED.txt", "s01.dat", "s02.dat"]


def test_real_recordings_are_not_overwritten(tmp_path):
    (tmp_path / "s07.dat").write_bytes(b"real")
    with pytest.raises(UserError, match="not simulated"):
        write_deap(tmp_path, 1, Signal(n_trials=1))
    assert [path.name for path in tmp_path.iterdir()] == ["s07.dat"]


def test_files_are_what_readers_of_deap_expect(tmp_path):
    signal = Signal(n_trials=2)
    (path,) = write_deap(tmp_path, 1, signal)
    content = pickle.loads(path.read_bytes(), encoding="latin1")
    data, labels = simulate_subject(1, signal)
    assert list(content) == ["labels", "data"]
    assert content["data"].dtype == content["labels"].dtype == np.float64
    np.testing.assert_array_equal(content["data"], data)
    np.testing.assert_array_equal(content["labels"], labels)


def test_main_writes_every_subject(tmp_path, capsys):
    main(Config(out_dir=tmp_path / "new" / "folder", n_subjects=2, n_trials=1))
    assert len(list((tmp_path / "new" / "folder").glob("s0?.dat"))) == 2
    assert "2 subjects" in capsys.readouterr().out


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: write_deap(folder, 0),
        lambda folder: write_deap(folder, 1, Signal(n_trials=0)),
        lambda folder: write_deap(folder, 1, Signal(seed=-1)),
        lambda folder: write_deap(folder, 1, Signal(effect_channels=("XY",))),
        lambda folder: write_deap(folder, 1, Signal(effect_band="delta")),
    ],
)
def test_impossible_settings_are_refused(tmp_path, call):
    with pytest.raises(UserError):
        call(tmp_path)
    assert not list(tmp_path.iterdir())


def test_labels_are_balanced_and_valence_tells_nothing_of_arousal():
    """Ten trials of each of the four classes; a video's class is not the same for everyone."""
    high = []
    for subject in (1, 2, 3):
        labels = simulate_subject(subject)[1]
        assert labels.shape == (40, 4)
        assert labels.min() >= 1
        assert labels.max() <= 9
        assert not (labels == 5).any()
        high.append(labels[:, :2] > 5)
        classes = high[-1] @ [1, 2]
        assert np.bincount(classes).tolist() == [10, 10, 10, 10]
    agreement = np.mean([high[a] == high[b] for a, b in ((0, 1), (0, 2), (1, 2))])
    assert 0.55 < agreement < 0.85


def test_signals_look_like_eeg():
    """Amplitude, slope, alpha at the back, and neighbours that are more alike than strangers."""
    data, _ = simulate_subject(1, Signal(n_trials=8, effect_strength=0))
    eeg = data[:, :32]
    assert data.shape == (8, 40, 8064)
    assert data.dtype == np.float64
    assert 4 < eeg.std() < 25
    freqs, power = welch(eeg, fs=128, nperseg=512)
    power = power.mean(0)
    frontal, occipital = power[indices(("FP1", "FP2"))], power[indices(("O1", "O2"))]

    def at(spectrum: np.ndarray, low: float, high: float) -> float:
        return spectrum[:, (freqs >= low) & (freqs <= high)].mean()

    in_background = ((freqs > 16) & (freqs < 36)) | ((freqs > 5) & (freqs < 6.5))
    slope = np.polyfit(np.log(freqs[in_background]), np.log(frontal.mean(0)[in_background]), 1)[0]
    assert -1.5 < slope < -0.7
    assert at(power, 4, 45) > 100 * at(power, 0, 1.5)
    assert at(power, 4, 45) > 100 * at(power, 58, 64)
    peak = freqs[occipital.mean(0).argmax()]
    assert 8.5 <= peak <= 11.5
    prominence = [at(place, 9, 11) / at(place, 16, 20) for place in (frontal, occipital)]
    assert prominence[1] > 2 * prominence[0]
    correlation = np.corrcoef(eeg.swapaxes(0, 1).reshape(32, -1))
    near, far = correlation[indices(("C3",)), indices(("FC1",))], correlation[8, 16]
    assert near > 0.4
    assert abs(far) < 0.2


@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("band", ["alpha", "theta"])
def test_the_effect_is_where_and_as_large_as_it_says(band, strength):
    """DE at the planted electrodes and band rises by the strength, elsewhere and before not."""
    signal = Signal(n_trials=24, effect_strength=strength, effect_band=band)
    data, labels = simulate_subject(1, signal)
    before, within = trial_de(data)
    planted = {0: (band, signal.effect_channels), 1: ("beta", AROUSAL_CHANNELS)}
    for rating, (its_band, channels) in planted.items():
        high = labels[:, rating] > 5
        difference = within[high].mean(0) - within[~high].mean(0)
        its_band, channels = BAND_NAMES.index(its_band), indices(channels)
        assert difference[its_band, channels].mean() == pytest.approx(strength, abs=0.04)
        elsewhere = np.delete(difference, channels, axis=1)
        assert np.abs(elsewhere).max() < 0.08
        other_bands = np.delete(difference[:, channels], its_band, axis=0)
        assert np.abs(other_bands.mean(1)).max() < 0.06  # what the filters let through
        baseline = before[high].mean(0) - before[~high].mean(0)
        assert np.abs(baseline.mean(1)).max() < 0.12


def test_strength_and_fingerprint_change_nothing_else():
    plain, labels = simulate_subject(3, Signal(n_trials=4, effect_strength=0))
    for settings in ({"effect_strength": 0.8}, {"effect_strength": 0, "fingerprint": True}):
        data, same = simulate_subject(3, Signal(n_trials=4, **settings))
        np.testing.assert_array_equal(labels, same)
        np.testing.assert_array_equal(data[..., :BASELINE], plain[..., :BASELINE])
        np.testing.assert_array_equal(data[:, 32:], plain[:, 32:])
        assert not np.array_equal(data, plain)


def test_the_fingerprint_repeats_every_second_and_differs_between_trials():
    """It is one waveform of 1 s per trial and electrode, of the variance asked for."""
    signal = Signal(n_trials=6, effect_strength=0)
    plain, _ = simulate_subject(1, signal)
    marked, _ = simulate_subject(1, replace(signal, fingerprint=True))
    seconds = (marked - plain)[:, :32, BASELINE:].reshape(6, 32, 60, 128)
    np.testing.assert_allclose(seconds, seconds[:, :, :1].repeat(60, axis=2), atol=1e-9)
    waveforms = seconds[:, :, 0].reshape(6, -1)
    assert np.abs(np.corrcoef(waveforms) - np.eye(6)).max() < 0.15
    ratio = waveforms.std() / plain[:, :32].std()
    assert ratio == pytest.approx(signal.fingerprint_strength, rel=0.15)
