"""Stage 1, our method: a Gaussian process that depends on DE, trained by its likelihood."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from de3dgan.base import draws
from de3dgan.base.seeds import seed_torch
from de3dgan.data.frames import chunks
from de3dgan.data.store import Store
from de3dgan.eeg.sampling import FRAME, WINDOW
from de3dgan.models import SpectralGenerator
from de3dgan.models.recordings import log_correlations, log_levels
from de3dgan.stages.generation import SpectralSampler
from de3dgan.stages.trials import BATCHES, N_VAL_TRIALS, Trials, spread
from de3dgan.training import loop
from de3dgan.training.ema import EMA
from de3dgan.training.means import Means
from de3dgan.training.run import Run

#: Training trials that the closed-form start is computed from, at most.
_N_START_TRIALS = 64
#: Seconds of EEG that the spectra of a recording are estimated from.
_SECONDS = 60
#: Trials that the calibration generates EEG for at a time, and how often.
_AT_A_TIME, _ROUNDS = 4, 2


def train(
    run: Run,
    data: Trials,
    generator: SpectralGenerator,
    optimiser: Optimizer,
    gain_sd: float,
) -> tuple[SpectralSampler, list[dict[str, float]], int]:
    """Train the generator by the likelihood of real EEG, given its DE.

    The generator that is handed over has averaged weights, and the epoch of the highest likelihood
    of validation trials.

    Returns
    -------
    generator : SpectralSampler
    history : list of dict
    best_epoch : int
    """
    config, split = run.config, run.split
    train_trials, val_trials = split.trials("train"), spread(split.trials("val"), N_VAL_TRIALS)
    mirror = torch.tensor(run.store.grid.mirrored(), device=run.device)
    with run.ledger.reading_for("generator"):
        start = spread(train_trials, _N_START_TRIALS)
        run.store.refuse_non_finite_eeg(start)
        generator.init_closed_form(*data.whole(start))
    ema = EMA(generator, config.ema_decay)
    windows = (split.n_frames * FRAME // WINDOW, *run.store.grid.shape)
    example = torch.zeros(1, generator.n_maps, *windows, device=run.device)
    run.compute.compiled(generator.unet, example, run.log)

    def train_step(_: int, trials: np.ndarray) -> dict[str, Tensor]:
        de, eeg = augment(*data.whole(trials), mirror, gain_sd)
        with run.compute.autocast():
            likelihood = generator.log_likelihood(de, eeg)
        loop.step(optimiser, -likelihood, len(trials), max_norm=1.0)
        ema.update(generator)
        return {"log_likelihood": likelihood}

    def validate() -> dict[str, float]:
        values = Means()
        for trials in chunks(val_trials, config.batch_size):
            with run.compute.autocast():
                likelihood = ema.module.log_likelihood(*data.whole(trials))
            values.add(len(trials), val_log_likelihood=likelihood)
        return values.get()

    history, best_epoch = loop.fit(
        run,
        {"generator EMA": ema, "generator": generator},
        {"generator": optimiser},
        train_trials,
        BATCHES,
        train_step,
        validate,
        handed_over="generator EMA",
        artefacts=["generator"],
        monitor="val_log_likelihood",
        higher_is_better=True,
    )
    with run.ledger.reading_for("generator"):
        pieces = recordings(run.store, train_trials, len(ema.module.recordings))
        ema.module.remember(map(data.whole, pieces))
        calibrate(run, data, ema.module, np.array([trials[0] for trials in pieces]))
    return SpectralSampler(ema.module, run.compute), history, best_epoch


def recordings(store: Store, trials: np.ndarray, n: int) -> list[np.ndarray]:
    """Return the trials that recordings to take after are pieced together from, of one person each.

    Spectra of a short trial are as much chance as they are those of a person; EEG that took after
    it would have that chance, and its own.

    Parameters
    ----------
    store : Store
    trials : array of int
        Training trials.
    n : int
        Recordings, at most.

    Returns
    -------
    list of array of int
        Trials of each recording, which last about a minute together, or one longer trial.
    """
    subjects = np.array(store.columns["subject"])[trials]
    pieces = []
    for subject in dict.fromkeys(subjects.tolist()):
        own = trials[subjects == subject]
        n_pieces = round(len(own) * store.n_frames / _SECONDS)
        pieces += np.array_split(own, np.clip(n_pieces, 1, len(own)))
    return [pieces[i] for i in spread(np.arange(len(pieces)), n)]


def augment(de: Tensor, eeg: Tensor, mirror: Tensor, gain_sd: float) -> tuple[Tensor, Tensor]:
    """Return trials as they might have been: louder or softer, mirrored, played backwards.

    DE follows exactly: a gain adds its logarithm, and the other two permute.

    Parameters
    ----------
    de : Tensor, (B, n_bands, n_windows, n_chans)
        Absolute DE in nats.
    eeg : Tensor, (B, n_chans, n_times)
        In µV.
    mirror : Tensor of int, (n_chans,)
        Each electrode's counterpart on the other side of the head.
    gain_sd : float
        Standard deviation of log gains, in nats: of the whole head, and of each electrode.
    """
    n_trials, n_chans = eeg.shape[:2]
    head, electrode = (
        draws.rows(lambda n, n_gains=n_gains: torch.randn(n, n_gains, device=eeg.device), n_trials)
        for n_gains in (1, n_chans)
    )
    gain = gain_sd * (head + electrode)
    de, eeg = de + gain[:, None, None], eeg * gain.exp()[..., None]
    swap, reverse = (torch.rand(2) < 0.5).tolist()
    if swap:
        de, eeg = de[..., mirror], eeg[:, mirror]
    if reverse:
        de, eeg = de.flip(2), eeg.flip(2)
    return de, eeg


def calibrate(run: Run, data: Trials, generator: SpectralGenerator, kept: np.ndarray) -> None:
    """Make up for what giving EEG its DE does to spectra and correlations, on training trials.

    It smears peaks, and pulls apart what one recording has together and another has not. EEG
    generated for each of the recordings that are kept takes after another one of them, each of
    which has its turn: recordings differ by more than is to be made up for, and drawn by chance
    they would not have the mean of those they are compared with.

    Parameters
    ----------
    run : Run
    data : Trials
    generator : SpectralGenerator
        That remembers recordings; changed in place.
    kept : array of int
        A trial of each of these recordings, in their order.
    """
    seed_torch(run.config.seed, 0, "gan: calibration")
    rows = np.arange(len(kept))
    with torch.inference_mode():
        for done in range(_ROUNDS):
            others = np.roll(rows, max(1, (done + 1) * len(rows) // (_ROUNDS + 1)))
            louder, turn = 0, 0
            for some in chunks(rows, _AT_A_TIME):
                de, real = data.whole(kept[some])
                noise = torch.randn(len(de), *generator.noise_shape(de.shape[2]), device=de.device)
                noise = generator.taking_after(others[some], noise)
                with run.compute.autocast():
                    both = real, generator(de, noise)
                levels = [log_levels(eeg) for eeg in both]
                logarithms = [log_correlations(generator.gains.bands(eeg)) for eeg in both]
                share = len(some) / len(rows)
                louder = louder + share * (levels[0] - levels[1])
                turn = turn + share * (logarithms[0] - logarithms[1])
            generator.recordings.louder += louder
            generator.recordings.turn += turn
