"""Stage 1, our method: a Gaussian process that depends on DE, trained by its likelihood."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from de3dgan.base import draws
from de3dgan.base.seeds import derived_rng, seed_torch
from de3dgan.data.frames import chunks
from de3dgan.eeg.sampling import FRAME, WINDOW
from de3dgan.stages.generation import SpectralSampler
from de3dgan.stages.trials import BATCHES, N_VAL_TRIALS, Trials, spread
from de3dgan.training import loop
from de3dgan.training.ema import EMA
from de3dgan.training.means import Means
from de3dgan.training.run import Run
from models import SpectralGenerator
from models.constraint import band_correlations

#: Training trials that the closed-form start is computed from, at most.
_N_START_TRIALS = 64
#: Training trials per step of the calibration.
_N_CALIBRATION_TRIALS = 4
#: Times that the calibration compares spectra; each comes closer.
_SPECTRAL_ROUNDS = 2


def train(
    run: Run,
    data: Trials,
    generator: SpectralGenerator,
    optimiser: Optimizer,
    gain_sd: float,
    calibration_steps: int,
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
            amplitude, coherence = generator.log_likelihood(de, eeg)
        loop.step(optimiser, -amplitude - coherence, len(trials), max_norm=1.0)
        ema.update(generator)
        return {"amplitude": amplitude, "coherence": coherence}

    def validate() -> dict[str, float]:
        values = Means()
        for trials in chunks(val_trials, config.batch_size):
            with run.compute.autocast():
                amplitude, coherence = ema.module.log_likelihood(*data.whole(trials))
            values.add(len(trials), val_amplitude=amplitude, val_coherence=coherence)
        parts = values.get()
        return {**parts, "val_log_likelihood": sum(parts.values())}

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
        calibrate(run, data, ema.module, calibration_steps)
    return SpectralSampler(ema.module, run.compute), history, best_epoch


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


def calibrate(run: Run, data: Trials, generator: SpectralGenerator, n_steps: int) -> None:
    """Make up for what the DE constraint does to correlations and spectra, on training trials.

    It gives each electrode gains of its own, which pull apart what was drawn together, and which
    spread what is loud over its neighbours in frequency. Correlations are strengthened, per knot of
    frequency, and amplitudes lowered, per frequency, until generated EEG has those of real EEG.
    """
    train_trials = run.split.trials("train")
    strength = generator.coherence.strength
    optimiser = torch.optim.Adam([strength], 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(n_steps, 1))
    row, column = generator.coherence.pairs
    seed_torch(run.config.seed, 0, "gan: calibration")

    def generate(de: Tensor) -> Tensor:
        noise = torch.randn(len(de), *generator.noise_shape(de.shape[2]), device=run.device)
        with run.compute.autocast():
            return generator(de, noise)

    generator.requires_grad_(False)
    strength.requires_grad_(True)
    for step in range(n_steps):
        rng = derived_rng(run.config.seed, step, "calibration batch")
        n_trials = min(len(train_trials), _N_CALIBRATION_TRIALS)
        de, real = data.whole(rng.choice(train_trials, n_trials, replace=False))
        generated, real = (
            band_correlations(generator.constraint.bands(x)) for x in (generate(de), real)
        )
        loop.step(optimiser, (generated - real)[..., row, column].abs().mean(), n_trials)
        schedule.step()
    generator.requires_grad_(True)

    def level(eeg: Tensor) -> Tensor:
        power = generator.stft.power(eeg).mean(2)
        return 0.5 * power.log().mean(1).sum(0)

    if n_steps:
        trials = spread(train_trials, _N_START_TRIALS)
        with torch.inference_mode():
            for _ in range(_SPECTRAL_ROUNDS):
                too_loud = 0
                for some in chunks(trials, _N_CALIBRATION_TRIALS):
                    de, real = data.whole(some)
                    too_loud = too_loud + level(generate(de)) - level(real)
                generator.make_softer(too_loud / len(trials))
