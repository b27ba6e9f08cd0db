"""Whether generated EEG copies the EEG that its generator was trained on.

Segments of 4 s are sought in all training recordings. Likeness is a correlation in each of three
ways, and the highest that any place of any recording has:

- *waveform*: that of the samples of up to eight electrodes together, at any shift, gain and sign.
- *spectrum*: that of the log power spectra of all electrodes, whatever their gain, second by
  second.
- *covariance*: that of the correlations between electrodes, second by second.

Real segments show what likeness means nothing: those of training people are sought in everything
but their own seconds, those of test people everywhere. Spectrum and covariance of a segment follow
from its DE in part, so that EEG generated from *training* DE is like the real EEG of its own place;
noise of the same DE shows how far. A waveform does not follow from DE.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from de3dgan.base.seeds import derived_rng
from de3dgan.eeg.sampling import FRAME
from de3dgan.evaluation.measures import unit_length
from de3dgan.evaluation.segments import passed

#: Seconds of a segment that is sought.
_SECONDS = 4
#: Segments that are sought of each kind of EEG, at most.
N_SOUGHT = 32
#: Electrodes whose waveforms are compared, evenly spread over the list, at most.
_N_CHANS = 8
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Sought:
    """Segments to be sought.

    Attributes
    ----------
    waveforms : array, (n, n_chans, 4 s)
        Filtered to 4-45 Hz, of up to eight electrodes.
    spectra, covariances : array, (n, n_features)
        Of length 1.
    trials, starts : array of int, (n,)
        The trial and second that each begins at, which it is not compared with; -1 for none.
    """

    waveforms: np.ndarray
    spectra: np.ndarray
    covariances: np.ndarray
    trials: np.ndarray
    starts: np.ndarray


def sought(
    eeg: np.ndarray, trials: np.ndarray, wanted: np.ndarray, seed: int, itself: bool = False
) -> Sought | None:
    """Choose segments of EEG.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.
    trials : array of int, (n_trials,)
        Which these are.
    wanted : array of bool, (n_trials, n_frames)
        Segments are chosen of which all frames are wanted.
    seed : int
        For the choice, which is the same for all EEG of the same trials.
    itself : bool
        The EEG is training EEG: a segment is not compared with its own seconds.

    Returns
    -------
    Sought or None
        None if there is no such segment.
    """
    whole = np.lib.stride_tricks.sliding_window_view(wanted, _SECONDS, axis=1).all(-1)
    places = np.argwhere(whole)
    rng = derived_rng(seed, 0, "segments sought in training EEG")
    places = places[np.sort(rng.permutation(len(places))[:N_SOUGHT])]
    if not len(places):
        return None
    waveforms, spectra, covariances = [], [], []
    for row in np.unique(places[:, 0]):
        trial = _Recording.of(eeg[row])
        starts = places[places[:, 0] == row, 1]
        spectra.append(trial.spectra[starts])
        covariances.append(trial.covariances[starts])
        waveforms += [trial.waveform[:, s * FRAME : (s + _SECONDS) * FRAME] for s in starts]
    own = trials[places[:, 0]] if itself else np.full(len(places), -1)
    return Sought(
        np.stack(waveforms), np.concatenate(spectra), np.concatenate(covariances), own, places[:, 1]
    )


def likeness(
    kinds: Mapping[str, Sought], recordings: Iterable[tuple[int, np.ndarray, np.ndarray]]
) -> dict[str, dict[str, np.ndarray]]:
    """Seek segments in recordings.

    Parameters
    ----------
    kinds : dict of str to Sought
        The segments of several kinds of EEG.
    recordings : iterable of (trial, eeg, wanted)
        Number, EEG (n_chans, n_times) in µV, and which frames (n_frames,) are training EEG.

    Returns
    -------
    dict
        Per kind, ``waveform``, ``spectrum`` and ``covariance``: the highest likeness of each
        segment, (n,).
    """
    out = {
        name: {way: np.full(len(s.trials), -1.0) for way in ("waveform", "spectrum", "covariance")}
        for name, s in kinds.items()
    }
    conjugates: dict[str, np.ndarray] = {}
    for number, eeg, wanted in recordings:
        places = np.lib.stride_tricks.sliding_window_view(wanted, _SECONDS).all(-1)
        if not places.any():
            continue
        # At any shift between places that are training EEG throughout.
        shifts = np.repeat(places[:-1] & places[1:], FRAME)
        shifts = np.append(shifts, places[-1])
        shifts[::FRAME] = places
        recording = _Recording.of(eeg)
        for name, s in kinds.items():
            own = s.trials == number
            if name not in conjugates:
                conjugates[name] = recording.transform(s.waveforms).conj()
            found = {
                "waveform": np.abs(recording.correlations(s.waveforms, conjugates[name])),
                "spectrum": s.spectra @ recording.spectra.T,
                "covariance": s.covariances @ recording.covariances.T,
            }
            for way, values in found.items():
                step, valid = (1, shifts) if way == "waveform" else (FRAME, places)
                distance = np.abs(np.arange(len(valid)) * step - s.starts[:, None] * FRAME)
                near = own[:, None] & (distance < _SECONDS * FRAME)
                values = np.where(valid & ~near, values, -1.0)
                out[name][way] = np.maximum(out[name][way], values.max(1))
    return out


def figures(found: Mapping[str, np.ndarray], real: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return the mean likeness in each way, and how much seems copied.

    Parameters
    ----------
    found, real : dict
        `likeness` of the EEG in question, and of real EEG that is no copy.

    Returns
    -------
    dict
        ``waveform``, ``spectrum``, ``covariance``, and ``copied``: the share of segments whose
        waveform is more like training EEG than that of any real segment.
    """
    means = {way: float(values.mean()) for way, values in found.items()}
    beyond = found["waveform"] > real["waveform"].max() + _ROUNDING
    return {**means, "copied": float(beyond.mean())}


@dataclass(frozen=True)
class _Recording:
    """A recording: filtered, and the spectra and correlations of 4 s from every second on."""

    waveform: np.ndarray
    spectra: np.ndarray
    covariances: np.ndarray

    @classmethod
    def of(cls, eeg: np.ndarray) -> _Recording:
        filtered = passed(eeg)
        n_chans = len(filtered)
        frames = filtered.reshape(n_chans, -1, FRAME)
        power = np.abs(np.fft.rfft(frames * np.hanning(FRAME)))[..., 4:46] ** 2
        level = np.log(_sliding_mean(power.swapaxes(0, 1)) + _ROUNDING)
        level -= level.mean(-1, keepdims=True)  # whatever the gain
        frames = frames.swapaxes(0, 1)
        covariance = _sliding_mean(frames @ frames.swapaxes(-2, -1))
        sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1)) + _ROUNDING
        correlation = covariance / (sd[..., None] * sd[..., None, :])
        row, column = np.triu_indices(n_chans, min(1, n_chans - 1))
        return cls(
            filtered[np.linspace(0, n_chans - 1, min(n_chans, _N_CHANS)).round().astype(int)],
            unit_length(level.reshape(len(level), -1)),
            unit_length(correlation[..., row, column].reshape(len(level), -1)),
        )

    def transform(self, segments: np.ndarray) -> np.ndarray:
        """Return the Fourier transforms of waveforms as long as this or shorter."""
        from scipy import fft

        return fft.rfft(segments, fft.next_fast_len(self.waveform.shape[-1], real=True))

    def correlations(self, segments: np.ndarray, conjugates: np.ndarray) -> np.ndarray:
        """Return the correlations of segments with this at any shift, (n, n_times - 4 s + 1).

        Parameters
        ----------
        segments : array, (n, n_chans, 4 s)
        conjugates : array of complex, (n, n_chans, n_freqs)
            The conjugates of what `transform` makes of them.
        """
        from scipy import fft

        n_times, length = self.waveform.shape[-1], segments.shape[-1]
        n_fft = fft.next_fast_len(n_times, real=True)
        cross = np.einsum("cf,ncf->nf", self.transform(self.waveform), conjugates)
        products = fft.irfft(cross, n_fft)[:, : n_times - length + 1]
        energy = np.append(0, np.cumsum(np.square(self.waveform, dtype=np.float64).sum(0)))
        own = np.square(segments, dtype=np.float64).sum((1, 2))
        scale = np.sqrt(own[:, None] * (energy[length:] - energy[:-length]).clip(0))
        audible = scale > 1e-6 * scale.max()
        return np.divide(products, scale, out=np.zeros_like(scale), where=audible)


def _sliding_mean(x: np.ndarray) -> np.ndarray:
    """Return the means over 4 s from every second on, (n_frames, ...) to (n_frames - 3, ...)."""
    sums = np.cumsum(np.concatenate([np.zeros_like(x[:1]), x]), axis=0, dtype=np.float64)
    return (sums[_SECONDS:] - sums[:-_SECONDS]) / _SECONDS
