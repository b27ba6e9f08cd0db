"""Stage 1: a generator of EEG and its critic."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer

from de3dgan import draws, engine, processes
from de3dgan.compute import moved
from de3dgan.data import Frames, chunks, resident
from de3dgan.errors import UserError
from de3dgan.features import BANDS, FRAME, WINDOW
from de3dgan.generation import TrainedGenerator
from de3dgan.losses import critic_loss
from de3dgan.montage import GRID_SHAPE, mirrored
from de3dgan.normalisation import RobustScaler, fit_de_scaler, fit_eeg_scaler
from de3dgan.paths import shown
from de3dgan.quality import matched_noise, quality, trial_de
from de3dgan.run import Run
from de3dgan.seeds import derived_rng, seed_torch
from de3dgan.store import give_back
from models import Discriminator, Generator, SpectralGenerator
from models.spectral import band_correlations

#: What the order of batches is drawn for.
_PURPOSE = "gan batches"
#: Trials that validation looks at, at most: enough to tell epochs apart.
_N_VAL_TRIALS = 32
#: Test trials drawn in the figures of spectra and scalp maps, at most.
_N_FIGURE_TRIALS = 16
#: Training trials that the closed-form start is computed from, at most.
_N_START_TRIALS = 64
#: Training trials per step of the calibration.
_N_CALIBRATION_TRIALS = 4
#: Times that the calibration compares spectra; each comes closer.
_SPECTRAL_ROUNDS = 2


class Trials:
    """DE and EEG of whole trials.

    The generator is given and judged by *absolute* DE (the baseline's added back), because the
    amplitude of an EEG signal is not in its baseline-removed DE.

    Attributes
    ----------
    frames : Frames
        The EEG.
    scalers : dict of str to RobustScaler
        The published normalisation, of the training split; see `normalise`.
    """

    def __init__(self, run: Run):
        store, self.split = run.store, run.split
        # Three halvings of the DE windows; and PyTorch's bfloat16 convolutions read memory that
        # is not theirs when a volume is 2 x 1 x 1, the bottom of the U-Net for trials of 8 s.
        if store.n_frames % 4 or store.n_frames < 12:
            raise UserError(
                f"Trials of {shown(store.path)} last {store.n_frames} s, and the generator needs "
                "a multiple of 4 s, 12 s or more: cut them so in the source's `read`."
            )
        self.frames = run.frames()
        self.scalers: dict[str, RobustScaler] = {}
        parts = (store.de, store.baseline_de, store.baseline_index)
        self._de, self._baseline_de, self._baseline_index = (
            resident(torch.from_numpy(part), run.device) for part in parts
        )
        self.trained_on = np.zeros(self.frames.shape[0], bool)
        self.trained_on[self.split.train] = True

    def normalise(self) -> None:
        """Fit the normalisation that `batch` applies."""
        self.scalers["de_scaler"] = fit_de_scaler(self.frames, self.split)
        self.scalers["eeg_scaler"] = fit_eeg_scaler(self.frames, self.split)

    def de(self, trials: np.ndarray) -> Tensor:
        """Return `Store.absolute_de` of `trials` on the device."""
        rows = moved(torch.from_numpy(trials), self._de.device)
        baseline = self._baseline_de[self._baseline_index[rows]]
        give_back(self.frames.store.de)
        return moved(self._de[rows] + baseline[:, :, None], self.frames.device)

    def whole(self, trials: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return DE in nats and EEG in µV of `trials`.

        Returns
        -------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Absolute.
        eeg : Tensor, (B, n_chans, n_times)
        """
        return self.de(trials), self.frames.trials(trials)

    def batch(self, trials: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
        """Return what a step of the published training needs of `trials`.

        Returns
        -------
        de : Tensor, (B, n_bands, n_windows, n_chans)
            Normalised absolute DE.
        real : Tensor, (N, n_chans, FRAME)
            Normalised EEG of those frames of the trials that are trained on: all of them, but in
            the leaky protocol.
        kept : Tensor of int, (N,)
            Which of the trials' frames these are.
        """
        numbers = self.frames.numbers(trials)
        kept = np.flatnonzero(self.trained_on[numbers])
        self.frames.ledger.note(numbers)  # of DE, which is read past the frames
        real = self.scalers["eeg_scaler"].normalise(self.frames[numbers[kept]])
        de = self.scalers["de_scaler"].normalise(self.de(trials))
        return de, real, moved(torch.from_numpy(kept), self.frames.device)


def train_spectral(
    run: Run, data: Trials, generator: SpectralGenerator, optimiser: Optimizer
) -> tuple[TrainedGenerator, list[dict[str, float]], int]:
    """Train the generator by the likelihood of real EEG, given its DE.

    The generator that is handed over has averaged weights, and the epoch of the highest likelihood
    of validation trials.

    Returns
    -------
    generator : TrainedGenerator
    history : list of dict
    best_epoch : int
    """
    config, split = run.config, run.split
    train_trials, val_trials = split.trials("train"), _spread(split.trials("val"), _N_VAL_TRIALS)
    mirror = torch.tensor(mirrored(run.store.ch_names), device=run.device)
    with run.ledger.by("generator"):
        start = _spread(train_trials, _N_START_TRIALS)
        run.store.refuse_non_finite_eeg(start)
        generator.start_from(*data.whole(start))
    average = engine.Average(generator, config.averaging)
    windows = (split.n_frames * FRAME // WINDOW, *GRID_SHAPE)
    example = torch.zeros(1, generator.n_maps, *windows, device=run.device)
    run.compute.compiled(generator.unet, example, run.log)

    def train_step(_: int, trials: np.ndarray) -> dict[str, Tensor]:
        de, eeg = vary(*data.whole(trials), mirror, config.loudness_sd)
        with run.compute.autocast():
            amplitude, coherence = generator.log_likelihood(de, eeg)
        engine.step(optimiser, -amplitude - coherence, len(trials), max_norm=1.0)
        average.follow(generator)
        return {"amplitude": amplitude, "coherence": coherence}

    def validate() -> dict[str, float]:
        values = engine.Means()
        for trials in chunks(val_trials, config.batch_size):
            with run.compute.autocast():
                amplitude, coherence = average.module.log_likelihood(*data.whole(trials))
            values.add(len(trials), val_amplitude=amplitude, val_coherence=coherence)
        parts = values.get()
        return {**parts, "val_log_likelihood": sum(parts.values())}

    history, best_epoch = engine.fit(
        run,
        {"generator": average, f"generator{engine.IN_TRAINING}": generator},
        {"generator": optimiser},
        train_trials,
        _PURPOSE,
        train_step,
        validate,
        monitor="val_log_likelihood",
        higher_is_better=True,
    )
    with run.ledger.by("generator"):
        calibrate(run, data, average.module)
    return TrainedGenerator(average.module, {}, run.compute), history, best_epoch


def vary(de: Tensor, eeg: Tensor, mirror: Tensor, loudness_sd: float) -> tuple[Tensor, Tensor]:
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
    loudness_sd : float
        Standard deviation of log gains, in nats: of the whole head, and of each electrode.
    """
    n_trials, n_chans = eeg.shape[:2]
    of_head, of_electrode = (
        draws.rows(lambda n, n_gains=n_gains: torch.randn(n, n_gains, device=eeg.device), n_trials)
        for n_gains in (1, n_chans)
    )
    gain = loudness_sd * (of_head + of_electrode)
    de, eeg = de + gain[:, None, None], eeg * gain.exp()[..., None]
    swap, reverse = (torch.rand(2) < 0.5).tolist()
    if swap:
        de, eeg = de[..., mirror], eeg[:, mirror]
    if reverse:
        de, eeg = de.flip(2), eeg.flip(2)
    return de, eeg


def calibrate(run: Run, data: Trials, generator: SpectralGenerator) -> None:
    """Make up for what the lock does to correlations and spectra, on training trials.

    It gives each electrode gains of its own, which pull apart what was drawn together, and which
    spread what is loud over its neighbours in frequency. Correlations are strengthened, per knot of
    frequency, and amplitudes lowered, per frequency, until locked EEG has those of real EEG.
    """
    n_steps, train_trials = run.config.calibration_steps, run.split.trials("train")
    strength = generator.coherence.strength
    optimiser = torch.optim.Adam([strength], 0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(n_steps, 1))
    row, column = generator.coherence.pairs
    seed_torch(run.config.seed, 0, "gan: calibration")

    def made_from(de: Tensor) -> Tensor:
        noise = torch.randn(len(de), *generator.noise_shape(de.shape[2]), device=run.device)
        with run.compute.autocast():
            return generator(de, noise)

    generator.requires_grad_(False)
    strength.requires_grad_(True)
    for step in range(n_steps):
        rng = derived_rng(run.config.seed, step, "calibration batch")
        n_trials = min(len(train_trials), _N_CALIBRATION_TRIALS)
        de, real = data.whole(rng.choice(train_trials, n_trials, replace=False))
        made, real = (band_correlations(generator.lock.bands(x)) for x in (made_from(de), real))
        engine.step(optimiser, (made - real)[..., row, column].abs().mean(), n_trials)
        schedule.step()
    generator.requires_grad_(True)

    def level(eeg: Tensor) -> Tensor:
        power = generator.half_seconds.power(eeg).mean(2)
        return 0.5 * power.log().mean(1).sum(0)

    if n_steps:
        trials = _spread(train_trials, _N_START_TRIALS)
        with torch.inference_mode():
            for _ in range(_SPECTRAL_ROUNDS):
                too_loud = 0
                for some in chunks(trials, _N_CALIBRATION_TRIALS):
                    de, real = data.whole(some)
                    too_loud = too_loud + level(made_from(de)) - level(real)
                generator.make_softer(too_loud / len(trials))


def train(
    run: Run,
    data: Trials,
    generator: Generator,
    critic: Discriminator,
    optimisers: dict[str, Optimizer],
) -> tuple[TrainedGenerator, list[dict[str, float]], int]:
    """Train the published generator: 0.5 · MSE to real EEG and, when the critic steps, its score.

    The critic steps on every `critic_every`-th epoch, the first included. On the epochs between it
    is not computed: the generator then learns from the reconstruction alone.

    Validation is the DE round trip: the mean absolute difference, in nats, between the DE of
    generated EEG and the DE it was generated from.

    Returns
    -------
    generator : TrainedGenerator
        With the weights of the chosen epoch.
    history : list of dict
    best_epoch : int
    """
    config, split = run.config, run.split
    data.normalise()
    trained = TrainedGenerator(generator, data.scalers, run.compute)
    example = torch.zeros(1, len(BANDS), split.n_frames * FRAME // WINDOW, *GRID_SHAPE)
    run.compute.compiled(generator.unet, example.to(run.device), run.log)
    train_trials, val_trials = split.trials("train"), _spread(split.trials("val"), _N_VAL_TRIALS)

    def train_step(epoch: int, trials: np.ndarray) -> dict[str, Tensor]:
        de, real, kept = data.batch(trials)
        with run.compute.autocast():
            generated = to_frames(generator.generate(de).float())[kept]
        reconstruction = F.mse_loss(generated, real)
        loss = config.reconstruction_weight * reconstruction
        losses = {}
        if epoch % config.critic_every == 0:
            n_frames = len(trials) * split.n_frames
            ratio = draws.rows(lambda n: torch.rand(n, device=run.device), n_frames)[kept]
            with run.compute.autocast():
                loss_of_critic, gap = critic_loss(
                    critic, real, generated.detach(), config.penalty_weight, ratio
                )
            engine.step(optimisers["critic"], loss_of_critic, len(real))
            with run.compute.autocast():
                score = critic(generated).float().mean()
            loss = loss - score
            losses = {"critic_gap": gap, "generated_score": score}
        engine.step(optimisers["generator"], loss, len(real))
        return {**losses, "reconstruction": reconstruction}

    def validate() -> dict[str, float]:
        de = data.frames.absolute_de(val_trials)
        return {"val_de_mae": float(np.abs(trial_de(trained(de, val_trials)) - de).mean())}

    history, best_epoch = engine.fit(
        run,
        {"generator": generator, "critic": critic},
        optimisers,
        train_trials,
        _PURPOSE,
        train_step,
        validate,
        monitor="val_de_mae",
        higher_is_better=False,
    )
    return trained, history, best_epoch


def finish(
    run: Run,
    data: Trials,
    trained: TrainedGenerator,
    history: list[dict[str, float]],
    best_epoch: int,
) -> None:
    """Hand the generator over, measure it on test trials, and draw figures.

    Of several processes, the first does.
    """
    if not processes.is_first():
        return
    store, test = run.store, run.split.trials("test")
    content = run.hand_over(best_epoch, trained.content())
    run.certify(content, data.frames, data.frames.numbers(test))

    makers = {
        "generated": lambda trials, draw: trained(store.absolute_de(trials), trials, draw),
        "noise": matched_noise(store, run.config.seed),
    }
    measured = quality(store, run.split, run.labels, data.frames.continuous, makers)
    _draw(run, trained, data.frames, history, best_epoch)
    run.write_result(best_epoch=best_epoch, quality=measured)
    bands = measured["generated"]["de_round_trip"].items()
    text = ", ".join(f"{band} r {f['correlation']:.2f} bias {f['bias']:+.2f}" for band, f in bands)
    run.log(
        f"{run.title}: DE of the EEG generated for test trials against the DE it is made from: "
        f"{text} nats."
    )


def _draw(
    run: Run,
    trained: TrainedGenerator,
    frames: Frames,
    history: list[dict[str, float]],
    best_epoch: int,
) -> None:
    """Draw real against generated EEG of test trials, and the learning curves."""
    figures = run.figures()
    if figures is None:
        return
    store = run.store
    trials = _spread(run.split.trials("test"), _N_FIGURE_TRIALS)
    real, generated = frames.continuous(trials), trained(store.absolute_de(trials), trials)
    names, first = store.ch_names, trials[0]
    trial = f"subject {store.columns['subject'][first]}, {store.columns['stimulus'][first]}"
    one = (real[0], generated[0], names, f"{run.title}: test trial {first} ({trial})")
    many = f"{run.title}: {len(real)} test trials"
    figures.traces(run.figure("traces"), *one)
    figures.spectrogram(run.figure("spectrogram"), *one)
    figures.spectra(run.figure("spectra"), real, generated, names, many)
    de = (trial_de(real).mean((0, 2)), trial_de(generated).mean((0, 2)))
    figures.de_maps(run.figure("de_maps"), *de, names, many)
    figures.learning_curves(
        run.figure("learning_curves"),
        history,
        figures.GENERATOR_PANELS[run.config.method],
        best_epoch,
        f"generator: {run.title}",
    )


def to_frames(eeg: Tensor) -> Tensor:
    """Cut EEG (B, n_chans, n_times) into frames (B · n_frames, n_chans, FRAME)."""
    return eeg.unflatten(2, (-1, FRAME)).transpose(1, 2).flatten(0, 1)


def _spread(items: np.ndarray, n: int) -> np.ndarray:
    """Return at most `n` of `items`, evenly spread."""
    return items[np.linspace(0, len(items) - 1, min(n, len(items))).round().astype(int)]
