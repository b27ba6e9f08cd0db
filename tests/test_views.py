"""What our classifier is given of a frame, against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import logm, sqrtm

from de3dgan.eeg.montage import Grid
from de3dgan.models import SpectralSASTNet
from de3dgan.models.views import BANDS, PowerMaps, Views
from tests.helpers import EEGMAT_CHANNELS

#: Two pairs of left and right, of five electrodes.
PAIRS = 5, [(0, 2), (3, 4)]
SMALL = {"widths": (8,) * 5, "n_features": 8}


def tensor(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(x, np.float32))


def eeg(rng: np.random.Generator, n: int, n_times: int, mixing: np.ndarray | None = None):
    """Return EEG of five electrodes that have something in common."""
    mixing = np.eye(5) + 0.3 if mixing is None else mixing
    return tensor(40 * mixing @ rng.standard_normal((n, 5, n_times)))


def seen(views: Views, frames: torch.Tensor, baseline: torch.Tensor) -> dict[str, np.ndarray]:
    """Return the views of frames, each (n, n_features)."""
    found = views(views.measure(frames), views.reference(views.measure(baseline)))
    parts = found.split(list(views.sizes), dim=1)
    return {name: part.numpy() for name, part in zip(views.NAMES, parts, strict=True)}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.3, 10))
def test_loudness_that_frame_and_baseline_share_does_not_matter(seed, gain):
    rng = np.random.default_rng(seed)
    views, frames, baseline = Views(*PAIRS), eeg(rng, 2, 128), eeg(rng, 2, 1280)
    plain, loud = seen(views, frames, baseline), seen(views, gain * frames, gain * baseline)
    for name in views.NAMES:
        np.testing.assert_allclose(loud[name], plain[name], atol=2e-3)
    louder = seen(views, 2 * frames, baseline)
    change = (
        louder["power"].reshape(2, 5, 3, 16)[:, :, 0] - plain["power"].reshape(2, 5, 3, 16)[:, :, 0]
    )
    np.testing.assert_allclose(change, np.log(2), atol=1e-3)
    np.testing.assert_allclose(louder["asymmetry"], plain["asymmetry"], atol=1e-3)


def test_the_covariance_of_a_band_is_that_of_its_part_of_the_signal():
    """Of a long recording, whose parts are cut out by an FFT of all of it."""
    rng = np.random.default_rng(0)
    recording = eeg(rng, 1, 128 * 60)
    found = Views(*PAIRS).measure(recording).covariance[0].numpy()
    spectrum, freqs = np.fft.rfft(recording[0].numpy()), np.fft.rfftfreq(128 * 60, 1 / 128)
    for (low, high), of_band in zip(BANDS, found, strict=True):
        # A bin of a second reaches half a hertz to either side.
        inside = np.where((freqs >= low - 0.5) & (freqs < high - 0.5), spectrum, 0)
        part = np.fft.irfft(inside)
        np.testing.assert_allclose(of_band, np.cov(part), rtol=0.08, atol=0.05 * of_band.max())


def test_the_covariance_view_is_nearly_the_logarithm_in_the_baselines_tangent_space():
    rng = np.random.default_rng(1)
    views = Views(*PAIRS)
    mixing = np.eye(5) + 0.1 * rng.standard_normal((5, 5))
    frames, baseline = eeg(rng, 1, 1280, mixing), eeg(rng, 1, 1280, np.eye(5))
    measured, reference = views.measure(frames), views.reference(views.measure(baseline))
    found = views(measured, reference).split(list(views.sizes), dim=1)[1].reshape(len(BANDS), 15)
    for band in range(len(BANDS)):
        whitening = np.linalg.inv(sqrtm(reference.covariance[0, band].double().numpy()))
        m = whitening @ measured.covariance[0, band].double().numpy() @ whitening
        wanted = logm(0.6 * m + 0.4 * np.eye(5))[np.triu_indices(5)]
        np.testing.assert_allclose(found[band], wanted, atol=0.02)


def test_what_other_electrodes_explain_is_left_out():
    """Own power and partial correlations are those of least squares on all other electrodes."""
    rng = np.random.default_rng(2)
    views = Views(*PAIRS)
    x = eeg(rng, 1, 128 * 20, np.eye(5) + 0.5 * rng.random((5, 5)))
    covariance = views.measure(x).covariance
    partial, own = views._partial(covariance)
    c = covariance[0, 3].double().numpy()
    left = []
    for i in range(5):
        others = [j for j in range(5) if j != i]
        left.append(
            c[i, i] - c[i, others] @ np.linalg.solve(c[np.ix_(others, others)], c[others, i])
        )
    np.testing.assert_allclose(own[0, 3], 0.5 * np.log(left), atol=1e-3)
    rest = [1, 3, 4]
    pair = c[np.ix_([0, 2], [0, 2])] - c[np.ix_([0, 2], rest)] @ np.linalg.solve(
        c[np.ix_(rest, rest)], c[np.ix_(rest, [0, 2])]
    )
    wanted = np.arctanh(pair[0, 1] / np.sqrt(pair[0, 0] * pair[1, 1]))
    assert partial[0, 3, 0].item() == pytest.approx(wanted, abs=1e-3)


def test_a_correlation_of_left_and_right_is_seen_where_powers_stay():
    rng = np.random.default_rng(3)
    views = Views(*PAIRS)
    noise = rng.standard_normal((1, 5, 128 * 30))
    together = noise.copy()
    together[:, 2] = 0.6 * noise[:, 0] + 0.8 * noise[:, 2]
    found = seen(views, tensor(10 * together), tensor(10 * noise))
    z, partial = found["mirror"].reshape(len(BANDS), 2, 2).swapaxes(0, 1)
    np.testing.assert_allclose(z[:, 0], np.arctanh(0.6), atol=0.15)  # of electrodes 0 and 2
    assert np.abs(z[:, 1]).max() < 0.15
    assert (partial[:, 0] > 0.2).all()
    assert np.abs(found["power"]).max() < 0.15


def test_electrodes_without_counterparts_have_no_views_of_pairs():
    views = Views(3, [])
    assert views.sizes[3] == views.sizes[5] == 0
    rng = np.random.default_rng(0)
    frames = eeg(rng, 2, 128)[:, :3]
    assert seen(views, frames, eeg(rng, 2, 1280)[:, :3])["mirror"].shape == (2, 0)


@pytest.mark.parametrize("none", [False, True])
def test_silence_and_lacking_directions_give_finite_features(none):
    rng = np.random.default_rng(4)
    views = Views(*PAIRS)
    views.basis[:, 3:] = 0  # recordings that lack two directions
    frames, baseline = eeg(rng, 3, 128), eeg(rng, 3, 1280)
    frames[0], frames[1, 2], baseline[2] = 0, 0, 0
    frames, baseline = torch.cat([frames, frames]), torch.cat([baseline, baseline])
    frames[3:, 1] = frames[3:, 0]  # two electrodes that are the same, and a very loud frame
    frames[4] *= 1e5
    reference = views.reference(views.measure(baseline), none=none)
    assert views(views.measure(frames), reference).isfinite().all()


def test_the_network_is_its_head_and_a_residual_that_starts_at_zero():
    torch.manual_seed(0)
    net = SpectralSASTNet(EEGMAT_CHANNELS, **SMALL).eval()
    assert net.views.pairs.shape[1] == 8
    few = Grid.paper(EEGMAT_CHANNELS[:-4]).pairs()  # without O2, which leaves O1 alone
    assert [(EEGMAT_CHANNELS[i], EEGMAT_CHANNELS[j]) for i, j in few][-1] == ("P3", "P4")
    assert len(few) == 7
    net.head_weight.normal_(0, 0.1)
    net.head_bias.copy_(torch.tensor([0.3, -0.3]))
    rng = np.random.default_rng(5)
    frames, baseline = (tensor(10 * rng.standard_normal((4, 19, n))) for n in (128, 1280))
    measured, reference = net.measure(frames), net.views.reference(net.measure(baseline))
    logits, feature = net(measured, reference)
    torch.testing.assert_close(logits, net.head(net.views(measured, reference)))
    assert feature.shape == (4, 8)
    with torch.no_grad():
        net.net.head.weight.fill_(1.0)
    added, _ = net.residual(measured.level, reference.level)
    torch.testing.assert_close(net(measured, reference)[0], logits + added)
    net.train()  # with noise on maps, which differs from one time to the next
    assert not torch.equal(net(measured, reference)[0], net(measured, reference)[0])
    torch.testing.assert_close(PowerMaps().level(frames), measured.level)
