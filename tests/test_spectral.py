"""DE constraints, spectra, recordings and our generator, against the plain computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from de3dgan.eeg.de import BANDS, band_signals, differential_entropy, power_responses
from de3dgan.eeg.montage import DEAP_CHANNELS
from de3dgan.evaluation.measures import Found, de_round_trip, seam_ratio
from de3dgan.models import SpectralGenerator
from de3dgan.models.constraint import DEConstraint, SharedConstraint, between_windows
from de3dgan.models.cross_spectra import CrossSpectra
from de3dgan.models.recordings import (
    Recordings,
    band_of,
    cross_spectra,
    interpolation,
    projection,
    skewed,
    skewness,
    weakening,
)
from de3dgan.models.spectra import LogPower
from tests.helpers import EEGMAT_CHANNELS

N_WINDOWS = 24


def pink(*shape: int, seed: int = 0) -> np.ndarray:
    """Return noise with a 1/f spectrum, about 10 µV, (..., n_times)."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal(shape))
    freqs = np.fft.rfftfreq(shape[-1], 1 / 128)
    x = np.fft.irfft(spectrum / np.maximum(freqs, 1) ** 0.5, n=shape[-1])
    return (10 * x / x.std()).astype(np.float32)


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, np.float32))


def de_of(*shape: int, seed: int = 1) -> torch.Tensor:
    """Return the DE of EEG whose loudness changes, (n_trials, n_bands, n_windows, n_chans)."""
    eeg = pink(*shape, seed=seed)
    swell = 1 + 0.8 * np.sin(np.arange(shape[-1]) / 128 * np.arange(1, shape[-2] + 1)[:, None] / 3)
    return tensor(np.stack([differential_entropy(trial) for trial in eeg * swell]))


def differential_entropy_of(eeg: torch.Tensor) -> torch.Tensor:
    return tensor(np.stack([differential_entropy(trial) for trial in eeg.numpy()]))


# --- DE constraint -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_times", [1536, 7680])
def test_the_bands_are_those_of_the_features(n_times):
    eeg = pink(3, n_times) + 5.0
    expected = np.stack(list(band_signals(eeg.astype(np.float64))))
    found = DEConstraint().bands(tensor(eeg)[None])[0].numpy()
    np.testing.assert_allclose(found, expected, atol=2e-4)


@settings(max_examples=8)
@given(n_chans=st.integers(1, 5), n_windows=st.sampled_from([24, 40, 120]), seed=st.integers(0, 99))
def test_constrained_eeg_has_the_wanted_de_for_any_electrodes_and_length(n_chans, n_windows, seed):
    n_times = 64 * n_windows
    wanted = de_of(2, n_chans, n_times, seed=seed)
    constrained = DEConstraint()(tensor(pink(2, n_chans, n_times, seed=seed + 100)), wanted, 8)
    found = np.stack([differential_entropy(trial) for trial in constrained.numpy()])
    error = np.abs(found - wanted.numpy())
    assert error.mean() < 0.03
    for figures in de_round_trip(found, wanted.numpy()).values():
        assert figures["correlation"] > 0.97


def test_eeg_that_has_the_de_already_stays_as_it_is():
    eeg = tensor(pink(2, 4, 7680))
    constrained = DEConstraint()(eeg, differential_entropy_of(eeg))
    torch.testing.assert_close(constrained, eeg, rtol=1e-7, atol=0.02)


def test_what_is_in_no_band_stays():
    t = np.arange(7680) / 128
    slow = 20 * np.sin(2 * np.pi * 0.5 * t)[None, None]
    eeg = pink(1, 1, 7680, seed=2)
    wanted = tensor(differential_entropy(eeg[0]) + 1.0)[None]
    constrained = DEConstraint()(tensor(eeg + slow), wanted).numpy()
    sos = signal.butter(4, 1.0, fs=128, output="sos")
    inside = slice(1280, -1280)
    before, after = (signal.sosfiltfilt(sos, x)[0, 0, inside] for x in (eeg + slow, constrained))
    assert np.abs(after - before).max() < 1.0


def test_the_constraint_has_no_seams():
    wanted = de_of(4, 6, 7680)
    eeg = tensor(pink(4, 6, 7680, seed=9))
    constrained = DEConstraint()(eeg, wanted)
    assert 0.97 < np.mean([seam_ratio(trial) for trial in constrained.numpy()]) < 1.03
    # A gain that jumps at the border of half-seconds is what is avoided.
    gain = torch.exp(wanted[:, 2] - differential_entropy_of(eeg)[:, 2]).repeat_interleave(64, dim=1)
    jumping = eeg * gain.transpose(1, 2)
    assert np.mean([seam_ratio(trial) for trial in jumping.numpy()]) > 1.03


def test_gradients_of_the_constraint_are_those_of_differences():
    torch.manual_seed(0)
    constraint = DEConstraint().double()
    wanted = de_of(1, 2, 1536).double()
    eeg = tensor(pink(1, 2, 1536, seed=4)).double().requires_grad_()
    weight = torch.randn(1, 2, 1536, dtype=torch.float64)

    def value(x: torch.Tensor) -> torch.Tensor:
        return (constraint(x, wanted, 2) * weight).sum()

    (gradient,) = torch.autograd.grad(value(eeg), eeg)
    for seed in range(3):
        direction = torch.randn(eeg.shape, generator=torch.Generator().manual_seed(seed)).double()
        step = 1e-5 * direction
        slope = (value(eeg + step) - value(eeg - step)) / 2e-5
        torch.testing.assert_close((gradient * direction).sum(), slope, rtol=1e-5, atol=1e-5)


def test_cross_spectra_in_factors_are_their_products():
    torch.manual_seed(0)
    n_trials, n_groups, n_chans, n_freqs = 2, 5, 3, 150
    amplitude = torch.rand(n_trials, n_freqs, n_chans)
    roots = torch.randn(n_trials, n_groups, n_chans, n_chans, dtype=torch.complex64)
    weakening = torch.randn(n_trials, n_groups, n_chans, n_chans)
    weakening = weakening + weakening.mT
    group = torch.randint(n_groups, (n_trials, n_freqs))
    group[1] = group[1].clamp_max(2)  # some are empty
    spectra = CrossSpectra(amplitude, roots, weakening, group)
    x = torch.randn(n_trials, n_chans, n_freqs, dtype=torch.complex64)
    coloured, product, every = spectra.coloured(x), spectra @ x, spectra.every(7)
    for trial in range(n_trials):
        for freq in range(n_freqs):
            of_group = group[trial, freq]
            mixing = weakening[trial, of_group].to(x.dtype) @ (
                amplitude[trial, freq, :, None] * roots[trial, of_group]
            )
            at = trial, slice(None), freq
            torch.testing.assert_close(coloured[at], mixing @ x[at])
            torch.testing.assert_close(product[at], mixing @ mixing.mH @ x[at])
            if freq % 7 == 0:
                torch.testing.assert_close(every[trial, freq // 7], mixing @ mixing.mH)


def test_the_shared_constraint_reaches_the_de_and_leaves_lacking_directions_lacking():
    n_times, mixing = 2560, np.random.default_rng(3).standard_normal((6, 4))
    real = tensor(mixing @ pink(1, 4, n_times, seed=3))
    freqs = torch.fft.rfftfreq(n_times, 1 / 128)
    amplitude = (60 / freqs.clamp_min(1) * (freqs < 60)).sqrt()[None, :, None].expand(-1, -1, 6)
    root = torch.nn.functional.pad(tensor(mixing), (0, 2)).to(torch.complex64)[None, None]
    group = torch.zeros(1, len(freqs), dtype=torch.long)
    spectra = CrossSpectra(amplitude, root, torch.eye(6)[None, None], group)
    torch.manual_seed(0)
    white = torch.randn(1, 6, len(freqs), dtype=torch.complex64)
    drawn = torch.fft.irfft(n_times**0.5 * spectra.coloured(white), n=n_times)
    de = differential_entropy_of(real)
    eeg = SharedConstraint()(drawn, de, spectra)
    error = (differential_entropy_of(eeg) - de).abs().mean()
    assert error < 0.05
    assert error < 0.2 * (differential_entropy_of(drawn) - de).abs().mean()
    kept = torch.linalg.eigvalsh(torch.cov(eeg[0].double()))
    assert kept[1] < 1e-5 * kept[2]
    # Gains of single electrodes do not leave them.
    gains = DEConstraint()(drawn, de)
    assert torch.linalg.eigvalsh(torch.cov(gains[0].double()))[1] > 1e-3 * kept[2]


def test_gains_between_windows_are_interpolated_linearly():
    values = np.random.default_rng(0).standard_normal((2, 3, 7))
    centres = 64 * np.arange(7) + 31.5
    expected = [[np.interp(np.arange(448), centres, row) for row in rows] for rows in values]
    np.testing.assert_allclose(between_windows(tensor(values)).numpy(), expected, atol=1e-5)


# --- Log power ---------------------------------------------------------------------------------


@settings(max_examples=20)
@given(freq=st.floats(6, 40), phase=st.floats(0, 2 * np.pi))
def test_log_power_does_not_depend_on_phase(freq, phase):
    t = np.arange(128) / 128
    powers = [LogPower()(tensor(10 * np.sin(2 * np.pi * freq * t + p))) for p in (0.0, phase)]
    strongest = powers[0].mean(0).argmax()
    difference = (powers[1] - powers[0]).mean(0)[strongest].abs()
    assert difference < 0.06


def test_log_power_of_band_limited_noise_changes_as_its_de():
    rng = np.random.default_rng(0)
    n_filters = LogPower().bands.shape[0]
    centres = np.geomspace(5, 42, n_filters)
    for index, (low, high) in enumerate(BANDS.values()):
        sos = signal.butter(4, (low + 1, high - 1), "bandpass", fs=128, output="sos")
        noise = 10 * signal.sosfiltfilt(sos, rng.standard_normal((8, 7680)))
        loud = noise * np.exp(rng.normal(0, 0.7, (8, 1)))
        inside = (centres > low + 1) & (centres < high - 1)
        power = LogPower()(tensor(loud)).mean(1)[:, inside].mean(1)
        reference = LogPower()(tensor(noise)).mean(1)[:, inside].mean(1)
        de = differential_entropy(loud)[index].mean(0) - differential_entropy(noise)[index].mean(0)
        np.testing.assert_allclose((power - reference).numpy(), de, atol=0.05)


def test_tapered_spectra_are_those_of_numpy():
    log_power, frames = LogPower(), pink(4, 128)
    tapered = frames[:, None] * log_power.tapers.numpy()
    expected = np.fft.rfft(tapered)[..., :47]
    found = log_power.spectra(tensor(frames)).unflatten(1, (3, 2)).numpy()
    np.testing.assert_allclose(found[:, :, 0] + 1j * found[:, :, 1], expected, atol=1e-5)


def test_the_filters_of_log_power_add_up_and_leave_out_what_is_no_eeg():
    bands = LogPower().bands
    torch.testing.assert_close(bands.sum(1), torch.ones(len(bands)))
    freqs = np.arange(bands.shape[1])
    assert freqs.max() == 46
    assert bands[:, freqs < 3].abs().max() == 0
    line = LogPower()(tensor(1000 * np.sin(2 * np.pi * 60 * np.arange(128) / 128)))
    assert line.max() < 0.5 * math.log(1000**2 / 2) - 3


# --- Recordings --------------------------------------------------------------------------------


def test_interpolation_is_that_of_numpy():
    knots, freqs = torch.tensor([2.0, 5.0, 9.0, 20.0]), torch.arange(1.0, 31.0)
    values = torch.tensor([1.0, -2.0, 0.5, 3.0])
    expected = np.interp(freqs.numpy(), knots.numpy(), values.numpy())
    np.testing.assert_allclose((interpolation(knots, freqs) @ values).numpy(), expected, atol=1e-6)


def test_cross_spectra_are_those_of_scipy():
    eeg = pink(3, 2560)
    found = cross_spectra(tensor(eeg)).numpy()
    for a, b in ((0, 0), (0, 2), (1, 2)):
        _, expected = signal.csd(eeg[b], eeg[a], 128, "hann", 256, detrend="constant")
        expected[[0, -1]] *= 2  # which are not doubled there, and not used here
        np.testing.assert_allclose(found[:, a, b], expected, rtol=1e-3, atol=1e-3)


def kept(*recordings: np.ndarray, n: int | None = None) -> Recordings:
    """Return what is kept of recordings, each (n_pieces, n_chans, n_times)."""
    found = Recordings(n or len(recordings), recordings[0].shape[1])
    pieces = map(tensor, recordings)
    found.keep((eeg, DEConstraint().bands(eeg)) for eeg in pieces)
    return found


def test_a_drawn_recording_has_the_power_and_the_directions_it_is_to_have():
    eeg = np.einsum(
        "cs,nst->nct", np.random.default_rng(1).standard_normal((5, 4)), pink(2, 4, 3840)
    )
    recordings = kept(eeg[:1], eeg[1:])
    torch.testing.assert_close(recordings.ranges[1, -1], projection(tensor(eeg[1])))
    for of_band in recordings.ranges[0]:
        assert torch.linalg.eigvalsh(of_band)[0].abs() < 1e-3
    levels, roots, ranges, _ = recordings.draw(torch.randn(4))
    power = torch.exp(0.2 * torch.randn(4, 4, 5))
    levels = recordings.fitted(levels, roots, ranges, power)
    spectra = recordings.spectra(levels, roots, ranges, torch.randn(4, 1921)).every(1)
    response = tensor(np.stack(list(power_responses(3840))))
    density = spectra.diagonal(dim1=-2, dim2=-1).real
    found = response.square() @ density * 128 / 3840
    # Directions that are lacking may not allow for it.
    assert (0.5 * (found / power).log()).abs().mean() < 0.1
    assert torch.linalg.eigvalsh(spectra[0, 300])[0].abs() < 1e-4 * density[0, 300].max()


def test_weak_directions_of_a_band_are_weakened_and_no_others():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    deviations = np.array([0.02, 0.1, 1.0, 1.0, 1.2, 3.0])
    band = turn @ (deviations[:, None] * rng.standard_normal((6, 20000)))
    other = turn.T @ weakening(tensor(band)).numpy() @ turn
    # 0.1 is the least share of the median variance, which is 1, that is left as it is.
    np.testing.assert_allclose(other, np.diag(np.minimum(1, deviations / 0.1**0.5)), atol=0.03)
    assert not weakening(torch.zeros(3, 100)).any()


def test_each_frequency_has_the_directions_of_its_band():
    freqs = torch.tensor([1.0, 3.9, 4.0, 7.9, 8.0, 13.9, 14.0, 31.0, 44.9, 45.0, 60.0])
    assert band_of(freqs).tolist() == [4, 4, 0, 0, 1, 1, 2, 3, 3, 4, 4]


def test_spectra_of_a_recording_in_pieces_are_their_mean():
    eeg = pink(3, 4, 3840)
    one = kept(eeg)
    powers = [kept(piece[None]).levels.mul(2).exp() for piece in eeg]
    torch.testing.assert_close(one.levels.mul(2).exp(), torch.stack(powers).mean(0))
    torch.testing.assert_close(one.ranges, kept(eeg[:1]).ranges)


def test_corrections_move_spectra_and_correlations_of_what_is_drawn():
    recordings = kept(pink(1, 3, 3840))
    chance = torch.zeros(1)
    levels, roots, *_ = recordings.draw(chance)
    recordings.louder += 0.5
    recordings.turn[:, 0, 1] = recordings.turn[:, 1, 0] = 1.0
    corrected, turned, *_ = recordings.draw(chance)
    torch.testing.assert_close(corrected, levels + 0.5)
    before, after = ((r @ r.mH)[0].real for r in (roots, turned))
    assert (after[:, 0, 1] > before[:, 0, 1] + 0.3).all()
    torch.testing.assert_close(after.diagonal(dim1=-2, dim2=-1), torch.ones(len(after), 3))


def test_skewness_is_that_of_scipy_and_is_given_to_eeg():
    eeg = pink(2, 3, 7680)
    found = skewness(tensor(eeg))
    np.testing.assert_allclose(found.numpy(), stats.skew(eeg, axis=-1), atol=1e-4)
    wanted = torch.tensor([[-0.2, 0.0, 0.2]]).expand(2, -1)
    given = skewness(tensor(eeg) + skewed(tensor(eeg), wanted)) - found
    assert given[:, 0].max() < -0.2
    assert given[:, 2].min() > 0.2
    assert given[:, 1].abs().max() < 1e-5


def test_eeg_takes_after_the_recordings_that_are_asked_for():
    net = SpectralGenerator(EEGMAT_CHANNELS, widths=(8, 8, 8, 8))
    n = len(net.recordings)
    net.recordings.levels += torch.arange(n)[:, None, None]
    rows = np.random.default_rng(0).permutation(n)
    noise = torch.randn(n, *net.noise_shape(8))
    asked = net.taking_after(rows, noise)
    levels, *_ = net.recordings.draw(asked[:, -1, 0, 0])
    assert levels[:, 0, 0].tolist() == rows.tolist()
    assert (asked != noise).sum() == n  # nothing else is touched


def test_recordings_are_kept_twice_if_there_are_too_few():
    eeg = pink(2, 3, 1536)
    recordings = kept(eeg[:1], eeg[1:], n=5)
    for each in (recordings.levels, recordings.skewness, recordings.ranges):
        assert torch.equal(each[0], each[4])
    assert not torch.equal(recordings.levels[0], recordings.levels[1])


# --- Generator ---------------------------------------------------------------------------------


def trained_on(eeg: np.ndarray, ch_names=EEGMAT_CHANNELS) -> tuple[SpectralGenerator, torch.Tensor]:
    """Return a generator that has been started from trials, and their DE."""
    torch.manual_seed(0)
    net = SpectralGenerator(ch_names, widths=(8, 8, 8, 8))
    de = differential_entropy_of(tensor(eeg))
    net.init_closed_form(de, tensor(eeg))
    net.remember(zip(de.split(1), tensor(eeg).split(1), strict=True))
    return net.eval(), de


def mixed(n_trials: int, seed: int = 0, n_windows: int = 120) -> np.ndarray:
    """Return EEG of 19 electrodes that hear three common sources and something of their own."""
    rng = np.random.default_rng(seed)
    sources = pink(n_trials, 3, 64 * n_windows, seed=seed)
    mixing = np.random.default_rng(7).standard_normal((19, 3))
    own = pink(n_trials, 19, 64 * n_windows, seed=seed + 1)
    loudness = np.exp(rng.normal(0, 0.3, (n_trials, 1, 1)))
    return (loudness * (mixing @ sources + own)).astype(np.float32)


def test_a_generator_starts_from_trials_as_from_all_at_once(monkeypatch):
    eeg = mixed(5)
    some, _ = trained_on(eeg)
    monkeypatch.setattr("de3dgan.models.spectral_generator._START_BATCH", 2)
    fewer, _ = trained_on(eeg)
    for name, value in some.state_dict().items():
        torch.testing.assert_close(fewer.state_dict()[name], value, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("ch_names", [DEAP_CHANNELS, EEGMAT_CHANNELS], ids=["32", "19"])
def test_generated_eeg_has_the_de_it_is_generated_from(ch_names):
    net, de = trained_on(pink(2, len(ch_names), 64 * N_WINDOWS), ch_names)
    noise = torch.randn(2, *net.noise_shape(N_WINDOWS))
    with torch.inference_mode():
        eeg = net(de, noise)
    assert eeg.shape == (2, len(ch_names), 64 * N_WINDOWS)
    assert (differential_entropy_of(eeg) - de).abs().mean() < 0.03


def test_the_closed_form_start_knows_spectra_and_mean_correlations():
    eeg = mixed(6)
    net, de = trained_on(eeg)
    test = mixed(3, seed=50)
    test_de = differential_entropy_of(tensor(test))
    with torch.inference_mode():
        generated = net(test_de, torch.randn(3, *net.noise_shape(120))).numpy()
    _, real_power = signal.welch(test, 128, nperseg=256)
    freqs, generated_power = signal.welch(generated, 128, nperseg=256)
    inside = (freqs >= 4) & (freqs <= 46)
    distance = np.abs(np.log(generated_power) - np.log(real_power))[..., inside].mean()
    assert distance < 0.35
    error = np.abs(Found.of(generated).correlations.mean(1) - Found.of(test).correlations.mean(1))
    assert error.mean() < 0.1


def test_learning_raises_the_likelihood_of_unseen_eeg():
    eeg, test = mixed(6, n_windows=N_WINDOWS), mixed(3, seed=50, n_windows=N_WINDOWS)
    net, de = trained_on(eeg)
    eeg, test, test_de = tensor(eeg), tensor(test), differential_entropy_of(tensor(test))
    with torch.no_grad():
        net.intercept += 0.3 * torch.randn(net.intercept.shape)
        before = float(net.log_likelihood(test_de, test))
    optimiser = torch.optim.AdamW(net.parameters(), 1e-3)
    for _ in range(15):
        loss = -net.log_likelihood(de, eeg)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        after = float(net.log_likelihood(test_de, test))
    assert after > before + 0.02


def test_the_amplitude_likelihood_is_highest_at_the_power_that_is_there():
    net, de = trained_on(mixed(4))
    eeg = tensor(mixed(4))
    values = []
    with torch.no_grad():
        for shift in (-0.3, 0.0, 0.3):
            net.intercept += shift
            values.append(float(net.log_likelihood(de, eeg)))
            net.intercept -= shift
    assert values[1] > max(values[0], values[2])
