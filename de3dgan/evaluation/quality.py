"""How much made EEG is like real EEG of the same test trials.

Every figure has a row per maker of EEG, and a row "real" that says what a perfect maker would get:
real EEG is measured as if it were made, or one half of a real trial beside its other half.

=========================  =========================================================================
figure                     of what
=========================  =========================================================================
de_round_trip              DE of the made EEG, beside the DE that it was made from
log_spectrum_distance      power spectra; "real": one half of a trial beside the other
channel_correlation_error  correlations between electrodes; "real": likewise
seam_ratio                 steps across the borders of seconds over steps inside them
amplitude_uv               standard deviation in µV
discriminative_score       how well a small network tells made from real EEG; 0.5: not at all
tstr                       train on synthetic, test on real: how well a linear model that learnt
                           the classes from made EEG knows them in real EEG
draws_correlation          two draws from the same DE; "real": the two halves of a trial
nearest_training           how unlike made EEG is to the training frame most like it; far below
                           "real", training frames are being copied
=========================  =========================================================================

All figures are finite. Silence has a DE of -20 nats and correlates with nothing; a class that the
trials looked at lack cannot be learnt (`tstr` is then that of always predicting the other); and a
single electrode has no ``channel_correlation_error``, which is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.errors import UserError
from de3dgan.base.schema import non_finite
from de3dgan.base.seeds import derived_rng, derived_seed
from de3dgan.data.frames import batches, chunks
from de3dgan.data.splits import Split
from de3dgan.data.store import Store
from de3dgan.eeg import noise
from de3dgan.eeg.de import BANDS, FILTER_ORDER, band_signals, trial_de
from de3dgan.eeg.sampling import FRAME, SFREQ
from de3dgan.evaluation.baselines import fitted, linear_model
from de3dgan.evaluation.metrics import balanced_accuracy

#: What makes EEG: from trials and the number of the draw, 0 or 1, to (len(trials), n_chans,
#: n_times) in µV. The two draws of a trial are made from the same DE.
Maker = Callable[[np.ndarray, int], np.ndarray]

#: Training trials, and test trials, that are looked at, at most: memory and time stay the same
#: however large the store. (`nearest_training` goes through all training trials, a few at a time.)
_N_TRIALS = 64
#: Test frames for which the most similar training frame is searched, at most.
_N_QUERIES = 256
#: Hz that frames are filtered to before they are compared as waveforms: where DE says something.
#: What real EEG holds below and above, nobody could make from its DE.
_PASSED = (4.0, 45.0)
#: Samples of the segments that correlations between electrodes are taken over: 5 s.
_SEGMENT = 5 * SFREQ
#: µV that no EEG reaches; powers of much more do not fit into 32-bit numbers.
_LOUDEST = 1e12
#: Standard deviation in nats below which DE does not vary but by rounding.
_CONSTANT = 1e-6
#: Training of the network that tells made from real EEG: more epochs only fit the training frames.
_EPOCHS, _BATCH, _LR = 10, 64, 1e-3


def quality(
    store: Store,
    split: Split,
    labels: np.ndarray,
    real: Callable[[np.ndarray], np.ndarray],
    makers: Mapping[str, Maker],
) -> dict[str, dict[str, Any]]:
    """Measure made EEG, and real EEG in its place.

    Parameters
    ----------
    store, split, labels
        The data, who is trained on and tested on, and the class of each trial.
    real : callable
        From trials to their EEG, (len(trials), n_chans, n_times) in µV; 12 s or more.
    makers : dict of str to callable
        See `Maker`.

    Returns
    -------
    dict of str to dict
        For "real" and each of `makers` the figures of the module's table, means over at most 64
        test trials: numbers, but ``de_round_trip`` (per band, see there) and
        ``channel_correlation_error`` (per band).

    Raises
    ------
    UserError
        If EEG is not finite, or as loud as none is, saying who made it, and of which trial.
    """
    train, test = (_some_trials(split, part) for part in ("train", "test"))
    learn, ask = _of_part(split, "train", train), _of_part(split, "test", test)
    rng = derived_rng(split.seed, 0, "queries of quality")
    queries = tuple(rng.permutation(np.argwhere(ask))[:_N_QUERIES].T)

    real = _checked(real, "real", store)
    makers = {name: _checked(make, name, store) for name, make in makers.items()}
    real_eeg = real(test)
    spectra, correlations = log_spectra(real_eeg), channel_correlations(real_eeg)
    real_train, real_test = passed_frames(real(train)), passed_frames(real_eeg)

    def measured(name: str, make: Callable[..., np.ndarray]) -> tuple[dict[str, Any], np.ndarray]:
        """Return the figures of what `make` makes, and the frames of it that are looked for.

        A function, so that EEG of so many trials is forgotten before that of the next is made.
        """
        eeg, train_eeg = make(test, 0), make(train, 0)
        train_de = trial_de(train_eeg) - store.baseline_de[store.baseline_index[train]][:, :, None]
        train_frames, test_frames = passed_frames(train_eeg), passed_frames(eeg)
        del train_eeg
        # Made EEG is compared with real EEG half by half, so that its spectra and correlations are
        # as noisy as those of the halves of a real trial, which are compared with each other.
        like = slice(None, None, -1 if name == "real" else 1)
        figures = {
            "de_round_trip": de_round_trip(trial_de(eeg), store.absolute_de(test)),
            "log_spectrum_distance": float(np.abs(log_spectra(eeg) - spectra[:, like]).mean()),
            "channel_correlation_error": _by_band(
                np.abs(channel_correlations(eeg) - correlations[:, like])
            ),
            "seam_ratio": float(np.mean([seam_ratio(trial) for trial in eeg])),
            "amplitude_uv": float(np.mean([trial.std() for trial in eeg])),
            "discriminative_score": discriminative_score(
                _mixed(real_train, train_frames, learn),
                _mixed(real_test, test_frames, ask),
                split.seed,
            ),
            "tstr": linear_score(
                (_frame_de(train_de)[learn], _frame_labels(labels[train], learn)),
                (_frame_de(store.de[test])[ask], _frame_labels(labels[test], ask)),
            ),
        }
        del train_frames
        draws = halves(eeg).swapaxes(0, 1) if name == "real" else (eeg, make(test, 1))
        correlation = [_correlation(*pair).mean() for pair in zip(*draws, strict=True)]
        figures["draws_correlation"] = float(np.mean(correlation))
        return figures, test_frames[queries]

    rows, queried = {}, []
    for name, make in {"real": lambda trials, _: real(trials), **makers}.items():
        rows[name], frames = measured(name, make)
        queried.append(frames)
    for row, distance in zip(rows.values(), _to_training(queried, split, real), strict=True):
        row["nearest_training"] = float(distance.mean())
    for figure, value in non_finite(rows):  # a result file must not have it, whatever the cause
        raise UserError(
            f"The quality of EEG cannot be measured: {figure} is {value}. See whether the features "
            "are those of EEG in µV, or make them anew with preprocess_de.py."
        )
    return rows


def matched_noise(store: Store, seed: int) -> Maker:
    """Return the maker of noise with the DE of each trial, `de3dgan.eeg.noise.matched_noise`."""
    return lambda trials, draw: noise.matched_noise(
        store.absolute_de(trials), trials, seed, f"matched noise, draw {draw}"
    )


def de_round_trip(made: np.ndarray, wanted: np.ndarray) -> dict[str, dict[str, float]]:
    """Compare the DE of made EEG with the DE it was made from.

    Parameters
    ----------
    made, wanted : array, (n_trials, n_bands, n_windows, n_chans)
        Absolute DE in nats.

    Returns
    -------
    dict
        Per band: ``correlation`` over all windows, electrodes and trials (0 where the made EEG
        does not vary); ``mae``, the mean absolute error in nats; ``bias``, the mean error, below 0
        where the made EEG is too quiet.
    """
    out = {}
    for index, band in enumerate(BANDS):
        a, b = made[:, index].ravel(), wanted[:, index].ravel().astype(np.float64)
        varies = min(a.std(), b.std()) > _CONSTANT
        out[band] = {
            "correlation": float(np.corrcoef(a, b)[0, 1]) if varies else 0.0,
            "mae": float(np.abs(a - b).mean()),
            "bias": float((a - b).mean()),
        }
    return out


def seam_ratio(eeg: np.ndarray) -> float:
    """Return the mean absolute step across one-second frame borders over that inside frames.

    1 for EEG that does not know where the borders are, and for silence.

    Parameters
    ----------
    eeg : array, (..., n_times)
        EEG in µV.
    """
    steps = np.abs(np.diff(eeg, axis=-1))
    across = np.arange(FRAME - 1, steps.shape[-1], FRAME)
    inside = np.delete(steps, across, axis=-1).mean()
    return float(steps[..., across].mean() / inside) if inside > 0 else 1.0


def halves(eeg: np.ndarray) -> np.ndarray:
    """Cut EEG (..., n_chans, n_times) into its first and second half, (..., 2, n_chans, half)."""
    half = eeg.shape[-1] // 2
    return np.stack([eeg[..., :half], eeg[..., -half:]], axis=-3)


def log_spectra(eeg: np.ndarray) -> np.ndarray:
    """Return the log power spectra of the halves of trials, 4-46 Hz, by Welch's method.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, (n_trials, 2, n_chans, n_freqs)
        In nats; of 2-s Hann windows.
    """
    from scipy import signal  # a second's import, which training does not need

    freqs = np.fft.rfftfreq(2 * SFREQ, 1 / SFREQ)
    inside = (freqs >= 4) & (freqs <= 46)
    floor = 1e-12  # µV²/Hz, so that silence has a logarithm
    # Trial by trial: overlapping windows take several times the memory of the EEG.
    power = [signal.welch(halves(trial), SFREQ, nperseg=2 * SFREQ)[1][..., inside] for trial in eeg]
    return np.log(np.stack(power) + floor)


def channel_correlations(eeg: np.ndarray) -> np.ndarray:
    """Return the correlations between electrodes in the halves of trials, per band.

    They are taken over 5 s at a time and averaged, so that loud moments do not decide.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, (n_trials, 2, n_bands, n_chans, n_chans)
        0 where an electrode is silent.
    """
    out = []
    for trial in eeg:
        both = halves(np.stack(list(band_signals(trial)))).swapaxes(0, 1)
        n_segments = both.shape[-1] // _SEGMENT
        segments = both[..., : n_segments * _SEGMENT]
        segments = _unit(segments.reshape(*both.shape[:-1], n_segments, _SEGMENT).swapaxes(-3, -2))
        out.append((segments @ segments.swapaxes(-2, -1)).mean(-3))
    return np.stack(out)


def passed_frames(eeg: np.ndarray) -> np.ndarray:
    """Filter trials to 4-45 Hz with zero phase and cut them into frames.

    Parameters
    ----------
    eeg : array, (n_trials, n_chans, n_times)
        In µV.

    Returns
    -------
    array, float32 (n_trials, n_frames, n_chans, FRAME)
        In µV.
    """
    from scipy import signal  # see `log_spectra`

    sos = signal.butter(FILTER_ORDER, _PASSED, "bandpass", fs=SFREQ, output="sos")
    n_trials, n_chans, n_times = eeg.shape
    out = np.empty((n_trials, n_times // FRAME, n_chans, FRAME), np.float32)
    for frames, trial in zip(out, eeg, strict=True):
        passed = signal.sosfiltfilt(sos, trial)
        frames[:] = passed.reshape(n_chans, -1, FRAME).swapaxes(0, 1)
    return out


def discriminative_score(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray], seed: int
) -> float:
    """Return how well a small convolutional network tells made from real frames.

    Parameters
    ----------
    train, test : (frames, made)
        Frames (n, n_chans, FRAME) in µV, and whether each is made, (n,): what the network learns
        from, and what it is asked.
    seed : int
        Decides its initial weights and the order of frames. PyTorch's generator stays as it is.

    Returns
    -------
    float
        Balanced accuracy: 0.5 where made EEG cannot be told from real EEG, or only by what a small
        network does not learn from so few frames.
    """
    frames, made = train
    scale = float(frames[~made].std()) or 1.0  # one for all: loudness is a thing to judge by
    x, y = torch.from_numpy(frames), torch.from_numpy(made).float()
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derived_seed(seed, 0, "judge: initial weights"))
        judge = _Judge(x.shape[1], scale)
    optimiser = torch.optim.Adam(judge.parameters(), _LR)
    for epoch in range(_EPOCHS):
        for batch in batches(np.arange(len(x)), _BATCH, seed, epoch, "judge: batches"):
            loss = F.binary_cross_entropy_with_logits(judge(x[batch]), y[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    judge.eval()
    with torch.inference_mode():
        scores = torch.cat([judge(some) for some in torch.from_numpy(test[0]).split(8 * _BATCH)])
    return balanced_accuracy(test[1], scores.numpy() > 0)


def linear_score(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> float:
    """Return the balanced accuracy of the linear baseline (`baselines.linear_model`).

    Trained on a single class it predicts that one always, see `baselines.fitted`.

    Parameters
    ----------
    train, test : (features, classes)
        Arrays (n, n_features) and (n,).
    """
    return balanced_accuracy(test[1], fitted(linear_model(), *train).predict(test[0]))


class _Judge(nn.Module):
    """Scores frames, (n, n_chans, FRAME) in µV to (n,): above 0 for those it takes to be made.

    It is given the mean power of what it filters as well as its mean, since amplitudes tell EEG
    from noise, but the sign of a wave says nothing.
    """

    def __init__(self, n_chans: int, scale: float):
        super().__init__()
        self.scale = scale
        width, kernel = 24, 9
        self.first = nn.Conv1d(n_chans, width, kernel, stride=2, padding=kernel // 2)
        self.second = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(2))
        self.last = nn.Linear(2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.elu(self.norms[0](self.first(x / self.scale)))
        x = F.elu(self.norms[1](self.second(F.avg_pool1d(x, 2))))
        return self.last(torch.cat([x.mean(-1), x.square().mean(-1)], dim=1))[:, 0]


def _checked(make: Callable[..., np.ndarray], name: str, store: Store) -> Callable[..., np.ndarray]:
    """Return what makes EEG, or gives the real one, and refuses what cannot be measured."""
    remedy = "train the generator anew with a lower learning rate and --restart."
    if name == "real":
        remedy = "make the features anew with preprocess_de.py, from recordings in µV."

    def checked(trials: np.ndarray, *draw: int) -> np.ndarray:
        eeg = make(trials, *draw)
        bad = trials[~(np.abs(eeg).max((1, 2)) <= _LOUDEST)]  # NaN is not below anything
        if len(bad):
            store.refuse_non_finite_eeg(bad.tolist())
            raise UserError(
                f"The {name} EEG of trial {bad[0]} has values that are not finite, or beyond "
                f"{_LOUDEST:g} µV: {remedy}"
            )
        return eeg

    return checked


def _some_trials(split: Split, part: str) -> np.ndarray:
    """Return the trials of a part, or a random 64 of them, sorted."""
    rng = derived_rng(split.seed, 0, f"{part} trials of quality")
    return np.sort(rng.permutation(split.trials(part))[:_N_TRIALS])


def _of_part(split: Split, part: str, trials: np.ndarray) -> np.ndarray:
    """Return which frames of `trials` are in a part, bool (len(trials), n_frames).

    All or none, but in the leaky protocol, where every trial is in every part.
    """
    return np.isin(
        trials[:, None] * split.n_frames + np.arange(split.n_frames), getattr(split, part)
    )


def _mixed(real: np.ndarray, made: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the real frames of even seconds and the made ones of odd seconds.

    Both are of the same trials, none is of the same second, and where `made` is real as well the
    seconds are told apart by a label without meaning.

    Parameters
    ----------
    real, made : array, (n_trials, n_frames, n_chans, FRAME)
        EEG of the same trials.
    wanted : array of bool, (n_trials, n_frames)
        Frames to return.

    Returns
    -------
    frames : array, (n, n_chans, FRAME)
    is_made : array of bool, (n,)
    """
    odd = np.arange(wanted.shape[1]) % 2 == 1
    parts = real[wanted & ~odd], made[wanted & odd]
    return np.concatenate(parts), np.repeat([False, True], [len(part) for part in parts])


def _frame_de(de: np.ndarray) -> np.ndarray:
    """Return the DE of frames: (n_trials, n_bands, n_windows, n_chans) to (n_trials, n_frames, -1).

    The mean of a second's two windows, like `baselines.frame_de`.
    """
    n_trials, n_bands, n_windows, n_chans = de.shape
    of_frame = de.reshape(n_trials, n_bands, n_windows // 2, 2, n_chans).mean(3)
    return of_frame.swapaxes(1, 2).reshape(n_trials, n_windows // 2, -1)


def _frame_labels(labels: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the label of each frame that is true in `wanted`, (n_trials, n_frames)."""
    return np.broadcast_to(labels[:, None], wanted.shape)[wanted]


def _by_band(error: np.ndarray) -> dict[str, float | None]:
    """Return the mean per band of (n_trials, 2, n_bands, n_chans, n_chans) off the diagonal.

    None for a single electrode, for which there is nothing off the diagonal.
    """
    others = ~np.eye(error.shape[-1], dtype=bool)
    if not others.any():
        return dict.fromkeys(BANDS)
    return dict(zip(BANDS, error[..., others].mean((0, 1, 3)).tolist(), strict=True))


def _to_training(
    queried: list[np.ndarray], split: Split, real: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Return 1 minus the correlation with the training frame that correlates most.

    Parameters
    ----------
    queried : list of array, each (n_queries, n_chans, FRAME)
        Frames that are searched for.
    split, real
        As for `quality`.

    Returns
    -------
    array, (len(queried), n_queries)
    """
    sought = _unit(np.stack(queried).reshape(len(queried) * len(queried[0]), -1))
    highest = np.full(len(sought), -1.0)
    for trials in chunks(split.trials("train"), 8):
        frames = passed_frames(real(trials))[_of_part(split, "train", trials)]
        found = sought @ _unit(frames.reshape(len(frames), -1)).T
        highest = np.maximum(highest, found.max(1))
    return 1 - highest.reshape(len(queried), -1)


def _correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlations along the last axis, 0 with silence."""
    return (_unit(a) * _unit(b)).sum(-1)


def _unit(x: np.ndarray) -> np.ndarray:
    """Centre along the last axis and scale to length 1, or to 0 if there is only rounding error."""
    mean = x.mean(-1, keepdims=True)
    x = x - mean
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    rounding = 1e-6 * np.abs(mean) * np.sqrt(x.shape[-1])  # of 32-bit numbers
    varies = length > np.maximum(rounding, 1e-9)
    return np.divide(x, length, out=np.zeros_like(x), where=varies)
