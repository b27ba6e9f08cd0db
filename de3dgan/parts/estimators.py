"""Estimators of scikit-learn: DE, the classifier and the generator, trained as the stages do.

They take trials as arrays (n_trials, n_chans, n_times) in µV, or as MNE's `Epochs`, and fit into
pipelines, cross-validation and pickles. What trains them is what trains the stages; a run has a
temporary folder, and nothing is left on disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
from torch.optim import AdamW

from de3dgan.base.errors import as_value_errors
from de3dgan.base.recipe import Recipe, find_scripts, load_recipe
from de3dgan.base.seeds import seed_torch
from de3dgan.data.frames import Frames
from de3dgan.data.ledger import Ledger
from de3dgan.data.montages import find_montage, grid_of
from de3dgan.data.splits import without_test
from de3dgan.data.store import Store
from de3dgan.eeg.de import BANDS, trial_de
from de3dgan.eeg.montage import canonical, refuse_twice
from de3dgan.eeg.sampling import FRAME, SFREQ, WINDOW, resampled
from de3dgan.evaluation.metrics import by_trial
from de3dgan.models import SpectralGenerator, SpectralSASTNet
from de3dgan.stages import classifier, spectral_generator
from de3dgan.stages.frame_classifiers import FrameClassifier, classifier_of
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.trials import Trials
from de3dgan.stages.virtual import Population, sampler_of
from de3dgan.training.device import Compute, device_of
from de3dgan.training.run import Run

if TYPE_CHECKING:
    import mne

#: The column of a store in memory that has the classes.
_CLASS = "class"


class _OfTrials(BaseEstimator):
    """What the estimators have in common: trials in, of two seconds or more."""

    def __sklearn_tags__(self) -> Any:
        """Say that it is given trials, which have three dimensions."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.three_d_array = False, True
        return tags

    def _trials(self, x: ArrayLike | mne.BaseEpochs, reset: bool) -> np.ndarray:
        """Return trials, float32 (n_trials, n_chans, n_times), in µV at 128 Hz."""
        sfreq = self.sfreq
        if hasattr(x, "get_data"):
            sfreq, x = x.info["sfreq"], x.get_data(picks="eeg", units="uV")
        x = validate_data(
            self, x, reset=reset, allow_nd=True, ensure_2d=False, dtype=[np.float64, np.float32]
        )
        if x.ndim != 3:
            raise ValueError(
                f"{type(self).__name__} takes trials, (n_trials, n_chans, n_times), and X has the "
                f"shape {x.shape}: give an array of three dimensions, or MNE's Epochs."
            )
        if reset:
            self.n_features_in_ = x.shape[1]
        elif x.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {x.shape[1]} channels, but {type(self).__name__} is expecting "
                f"{self.n_features_in_} channels as input."
            )
        if sfreq != SFREQ:
            x = np.stack([resampled(trial, sfreq) for trial in x])
        if x.shape[2] < 2 * FRAME:
            raise ValueError(
                f"Trials last {x.shape[2] / SFREQ:g} s, and {type(self).__name__} needs 2 s or "
                "more: give longer ones."
            )
        return x.astype(np.float32)

    def _names(self, x: ArrayLike | mne.BaseEpochs) -> list[str]:
        """Return the names of the electrodes, which say where they are."""
        names = self.ch_names
        if hasattr(x, "get_data"):
            names = x.copy().pick("eeg").ch_names
        if names is None:
            raise ValueError(
                f"{type(self).__name__} sees electrodes where they are on the head, and has to "
                "know their names: give ch_names, or MNE's Epochs in the place of an array."
            )
        return [canonical(name) for name in names]

    def _seed(self) -> int:
        given = self.random_state
        return given if isinstance(given, int) else check_random_state(given).randint(2**31)


class DifferentialEntropy(TransformerMixin, _OfTrials):
    """Maps trials to their differential entropy (DE), by the functions of the preprocessing.

    Bands are cut out of the whole trial, its baseline included, by zero-phase filters; DE is taken
    in half-second windows (`de3dgan.eeg.de`).

    Parameters
    ----------
    baseline : float
        Seconds at the start of each trial that are its baseline: the mean DE over them is
        subtracted, and they are left out. 0: DE is absolute.
    flatten : bool
        Whether a trial's DE is one row, for models that take such.
    sfreq : float
        Sampling rate of arrays in Hz; what is not 128 Hz is resampled. `Epochs` know their own.

    Examples
    --------
    >>> import numpy as np
    >>> from de3dgan.parts.estimators import DifferentialEntropy
    >>> eeg = 10 * np.random.default_rng(0).standard_normal((6, 4, 5 * 128))  # µV
    >>> DifferentialEntropy(baseline=1).fit_transform(eeg).shape  # 4 bands, 8 windows
    (6, 4, 8, 4)
    """

    def __init__(self, baseline: float = 0.0, flatten: bool = False, sfreq: float = SFREQ):
        self.baseline, self.flatten, self.sfreq = baseline, flatten, sfreq

    def __sklearn_tags__(self) -> Any:
        """Say, beside what trials are, that DE is in single precision, whatever they are in."""
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags

    def fit(self, X: ArrayLike, y: Any = None) -> DifferentialEntropy:  # noqa: N803
        """Do nothing but look at the shape of the trials: nothing is learnt."""
        self._trials(X, reset=True)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:  # noqa: N803
        """Return the DE of trials.

        Parameters
        ----------
        X : array, (n_trials, n_chans, n_times), or mne.Epochs
            In µV.

        Returns
        -------
        array, float32 (n_trials, n_bands, n_windows, n_chans) or (n_trials, n_features)
            In nats.
        """
        check_is_fitted(self)
        whole = self._trials(X, reset=False)
        before, after = _parted(whole, self.baseline)
        de, of_baseline = _de(before, after)
        de = de - of_baseline[:, :, None]
        return de.reshape(len(de), -1) if self.flatten else de


class SASTClassifier(ClassifierMixin, _OfTrials):
    """The classifier of stage 2: a head in closed form, and SA-ST-Net as what is added to it.

    It is given trials, and looks at their seconds one by one; a trial's probabilities are the mean
    over its seconds, made as sure as held-out trials allow.

    Parameters
    ----------
    n_epochs : int
        Parts of 64 steps that SA-ST-Net is trained for; validation chooses one of them. 0: the
        head alone, in closed form.
    baseline : float
        Seconds at the start of each trial that are its baseline, which the others are relative to.
        It takes away most of what people differ in. 0: there is none.
    ch_names : sequence of str, optional
        Electrodes of arrays, by the names of a standard montage.
    sfreq : float
        Sampling rate of arrays in Hz; what is not 128 Hz is resampled.
    device : str
        "auto", "cpu" or "cuda".
    random_state : int, RandomState or None
        Where initial weights, batches and the draw of who validates come from.

    Attributes
    ----------
    classes_ : array
        The classes.
    content_ : dict
        The network, as a checkpoint of stage 2 has it.
    sharpness_ : float
        See `de3dgan.evaluation.metrics.by_trial`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.model_selection import GroupKFold, cross_val_score
    >>> from de3dgan.parts.estimators import SASTClassifier
    >>> rng = np.random.default_rng(0)
    >>> y, people = np.tile([0, 1], 24), np.repeat(np.arange(12), 4)
    >>> eeg = 10 * rng.standard_normal((48, 3, 4 * 128))  # µV
    >>> eeg[y == 1, 0] *= 2
    >>> model = SASTClassifier(n_epochs=0, ch_names=["Fz", "Cz", "Pz"])
    >>> float(cross_val_score(model, eeg, y, groups=people, cv=GroupKFold(3)).mean())
    1.0
    """

    def __init__(
        self,
        n_epochs: int = 8,
        baseline: float = 0.0,
        ch_names: Sequence[str] | None = None,
        sfreq: float = SFREQ,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 520,
    ):
        self.n_epochs, self.baseline, self.ch_names = n_epochs, baseline, ch_names
        self.sfreq, self.device, self.random_state = sfreq, device, random_state

    def fit(
        self,
        X: ArrayLike | mne.BaseEpochs,  # noqa: N803
        y: ArrayLike,
        groups: ArrayLike | None = None,
    ) -> SASTClassifier:
        """Train on trials.

        Parameters
        ----------
        X : array, (n_trials, n_chans, n_times), or mne.Epochs
            In µV.
        y : array, (n_trials,)
            Classes.
        groups : array, (n_trials,), optional
            Who each trial is of. What is held out to choose strengths and epoch is then whole
            people; without, trials.

        Raises
        ------
        ValueError
            If the trials cannot be used, or if there are too few to validate on.
        """
        eeg, names = self._trials(X, reset=True), self._names(X)
        check_consistent_length(eeg, y, groups)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("SASTClassifier needs samples of two classes, and y has one class.")
        with as_value_errors():
            store = _store(*_parted(eeg, self.baseline), names, labels, groups)
            with _run("classifier", store, labels, groups, self) as run:
                config = run.config
                net = SpectralSASTNet(
                    store.ch_names,
                    config.n_classes,
                    widths=config.widths,
                    n_features=config.n_features,
                    dropout=config.dropout,
                    noise=config.noise,
                    grid=store.grid,
                ).to(run.device)
                decay = {"weight_decay": config.weight_decay, "fused": True}
                optimiser = AdamW(net.parameters(), config.lr, **decay)
                frames, trained = run.frames(), classifier_of(net, store, run.compute)
                begun = classifier.start(run, frames, trained)
                if self.n_epochs:
                    loss = classifier.cross_entropy(frames, trained, begun)
                    trained, _, _ = classifier.train(
                        run, frames, trained, optimiser, loss, config.choose_by, begun
                    )
        self.content_, self.sharpness_ = _on_cpu(trained.content()), begun.sharpness
        return self

    def predict_proba(self, X: ArrayLike | mne.BaseEpochs) -> np.ndarray:  # noqa: N803
        """Return class probabilities of trials, (n_trials, n_classes), in the order of `classes_`.

        Parameters
        ----------
        X : array, (n_trials, n_chans, n_times), or mne.Epochs
            In µV.
        """
        check_is_fitted(self)
        eeg, names = self._trials(X, reset=False), self.content_["arguments"]["ch_names"]
        with as_value_errors():
            store = _store(*_parted(eeg, self.baseline), names, np.zeros(len(eeg), int))
            compute = Compute(device_of(self.device))
            trained = FrameClassifier.from_content(self.content_, store, compute)
            numbers = np.arange(store.n_trials * store.n_frames)
            frames = Frames(store, compute.device, waveform_baseline=False)
            probabilities = classifier.predict(trained, frames, numbers)
        trials = numbers // store.n_frames
        return by_trial(trials, np.zeros_like(trials), probabilities, self.sharpness_)[1]

    def predict(self, X: ArrayLike | mne.BaseEpochs) -> np.ndarray:  # noqa: N803
        """Return the class of each trial, (n_trials,)."""
        return self.classes_[self.predict_proba(X).argmax(1)]


class EEGGenerator(_OfTrials):
    """The generator of stage 1: EEG with the DE that is wanted, or of people who do not exist.

    Parameters
    ----------
    n_epochs : int
        Passes over the trials; validation chooses one of them.
    ch_names : sequence of str, optional
        Electrodes of arrays, by the names of a standard montage.
    sfreq : float
        Sampling rate of arrays in Hz; what is not 128 Hz is resampled. It generates at 128 Hz.
    device : str
        "auto", "cpu" or "cuda".
    random_state : int, RandomState or None
        Where initial weights, batches and the draw of who validates come from.

    Attributes
    ----------
    content_ : dict
        The network, as a checkpoint of stage 1 has it.
    population_ : dict or None
        Whom people are drawn from, if classes were given.
    classes_ : array or None
        These classes.

    Examples
    --------
    >>> import numpy as np
    >>> from de3dgan.parts.estimators import DifferentialEntropy, EEGGenerator
    >>> eeg = 10 * np.random.default_rng(0).standard_normal((8, 3, 12 * 128))  # µV
    >>> generator = EEGGenerator(n_epochs=1, ch_names=["Fz", "Cz", "Pz"]).fit(eeg)
    >>> de = DifferentialEntropy().fit_transform(eeg[:2])
    >>> made = generator.sample(de=de)
    >>> made.shape
    (2, 3, 1536)
    >>> float(abs(DifferentialEntropy().fit_transform(made) - de).mean()) < 0.1
    True
    """

    def __init__(
        self,
        n_epochs: int = 30,
        ch_names: Sequence[str] | None = None,
        sfreq: float = SFREQ,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 520,
    ):
        self.n_epochs, self.ch_names, self.sfreq = n_epochs, ch_names, sfreq
        self.device, self.random_state = device, random_state

    def fit(
        self,
        X: ArrayLike | mne.BaseEpochs,  # noqa: N803
        y: ArrayLike | None = None,
        baseline: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> EEGGenerator:
        """Train on trials.

        Parameters
        ----------
        X : array, (n_trials, n_chans, n_times), or mne.Epochs
            In µV, 12 s or more, a multiple of 4 s.
        y : array, (n_trials,), optional
            Classes, without which people cannot be drawn. The network knows nothing of them.
        baseline : array, (n_trials, n_chans, n_baseline_times), optional
            EEG before each trial, in µV: people are then drawn with baselines.
        groups : array, (n_trials,), optional
            Who each trial is of. Those who validate are then whole people; without, trials.

        Raises
        ------
        ValueError
            If the trials cannot be used, or if there are too few to validate on.
        """
        eeg, names = self._trials(X, reset=True), self._names(X)
        check_consistent_length(eeg, y, baseline, groups)
        self.classes_, labels = None, np.zeros(len(eeg), int)
        if y is not None:
            check_classification_targets(y)
            self.classes_, labels = np.unique(y, return_inverse=True)
        if baseline is not None:
            baseline = self._trials(baseline, reset=False)
        with as_value_errors():
            store = _store(baseline, eeg, names, labels, groups, with_de=True)
            with _run("gan", store, labels, groups, self) as run:
                config = run.config
                generator = SpectralGenerator(
                    store.ch_names, widths=config.widths, grid=store.grid
                ).to(run.device)
                decay = {"weight_decay": config.weight_decay, "fused": True}
                optimiser = AdamW(generator.parameters(), config.lr, **decay)
                trained, _, _ = spectral_generator.train(
                    run, Trials(run), generator, optimiser, gain_sd=config.gain_sd
                )
                settings = config.settings()
            self.population_ = None
            if y is not None:
                everyone = np.arange(len(labels))
                self.population_ = Population.of(store, everyone, labels, settings).content()
        origin = {
            "settings": settings,
            "store_hash": store.hash,
            "split_fingerprint": run.split.fingerprint,
            "trials": {part: run.split.trials(part).tolist() for part in ("train", "val", "test")},
        }
        self.content_ = _on_cpu({**trained.content(), **origin})
        return self

    def sample(
        self,
        de: ArrayLike | None = None,
        y: ArrayLike | None = None,
        n: int = 1,
        draw: int = 0,
    ) -> np.ndarray:
        """Generate EEG: with a DE that is wanted, or of people of classes.

        Parameters
        ----------
        de : array, (n_trials, n_bands, n_windows, n_chans), optional
            Absolute DE in nats, of 12 s or more, as `DifferentialEntropy` has it.
        y : class or array of classes, optional
            Instead: the class of each trial that a person is to have.
        n : int
            EEGs of each DE, or people.
        draw : int
            Another number gives other EEG, and other people.

        Returns
        -------
        array, float32 (n · n_trials, n_chans, n_times)
            In µV at 128 Hz; all trials of one draw, or of one person, and then those of the next.

        Raises
        ------
        ValueError
            If neither or both are given, or if a class is not among `classes_`.
        """
        check_is_fitted(self)
        if (de is None) == (y is None):
            raise ValueError("Give sample either the DE that EEG is to have (de) or classes (y).")
        compute = Compute(device_of(self.device))
        generator = TrainedGenerator.from_content(self.content_, compute)
        with as_value_errors():
            if de is not None:
                de = np.asarray(de, np.float32)
                first = range(draw * n, (draw + 1) * n)
                return np.concatenate([generator(de, np.arange(len(de)), one) for one in first])
            if self.population_ is None:
                raise ValueError(
                    "People can be drawn once fit is given classes (y), and it was not."
                )
            wanted = np.atleast_1d(y)
            if not np.isin(wanted, self.classes_).all():
                raise ValueError(
                    f"EEGGenerator knows the classes {self.classes_.tolist()}: give y of them."
                )
            labels = np.searchsorted(self.classes_, wanted)
            people = Population.from_content(self.population_)
            n_frames = people.about["n_frames"]
            return np.concatenate(
                [
                    people.person(sampler_of(generator, draw), labels, n_frames, draw, number).eeg
                    for number in range(n)
                ]
            )


def _parted(whole: np.ndarray, seconds: float) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the baselines of trials, if they have any, and the rest, in whole half-seconds."""
    n = int(seconds * SFREQ) // WINDOW * WINDOW
    if seconds and not (FRAME <= n <= whole.shape[2] - FRAME):
        raise ValueError(
            f"A baseline of {seconds:g} s is to be 1 s or more, and to leave a second of trials of "
            f"{whole.shape[2] / SFREQ:g} s: give another one."
        )
    after = whole[..., n:]
    return whole[..., :n] if n else None, after[..., : after.shape[2] // WINDOW * WINDOW]


def _de(before: np.ndarray | None, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the absolute DE of trials, and the mean DE of their baselines (0 without)."""
    if before is None:
        de = trial_de(after)
        return de.astype(np.float32), np.zeros((len(de), *de.shape[1::2]), np.float32)
    de, n = trial_de(np.concatenate([before, after], axis=2)), before.shape[2] // WINDOW
    return de[:, :, n:].astype(np.float32), de[:, :, :n].mean(2).astype(np.float32)


def _store(
    before: np.ndarray | None,
    after: np.ndarray,
    ch_names: Sequence[str],
    labels: np.ndarray,
    groups: ArrayLike | None = None,
    with_de: bool = False,
) -> Store:
    """Return trials, and the baselines before them, as a store in memory.

    Only the generator asks for DE: without it, there are no windows.
    """
    refuse_twice(ch_names)
    if len(ch_names) != after.shape[1]:
        raise ValueError(
            f"There are {len(ch_names)} ch_names, and X has {after.shape[1]} channels: give a name "
            "for each."
        )
    montage, n_trials = find_montage(ch_names), len(after)
    after = after[..., : after.shape[2] // FRAME * FRAME]
    if with_de:
        de, of_baseline = _de(before, after)
    else:
        of_baseline = np.zeros((n_trials, len(BANDS), after.shape[1]), np.float32)
        de = np.empty((n_trials, len(BANDS), 0, after.shape[1]), np.float32)
    de = de - of_baseline[:, :, None]
    subjects = np.arange(n_trials) if groups is None else np.asarray(groups)
    names = [str(c) for c in range(labels.max() + 1)]
    manifest = {
        "hash": "",
        "ch_names": list(ch_names),
        "montage": montage,
        "grid": grid_of(ch_names, montage).content(),
        "reference": "none" if before is None else "baseline",
        "scales": {},
        "classes": {_CLASS: names},
    }
    columns = {
        "trial": range(n_trials),
        "subject": subjects.tolist(),
        "session": [1] * n_trials,
        "stimulus": range(n_trials),
        "piece": [0] * n_trials,
        "baseline": [0] * n_trials if before is None else range(n_trials),
        _CLASS: labels.tolist(),
    }
    if before is None:  # as in stores of sources without: there is one, and it is silent
        before, of_baseline = np.zeros((1, after.shape[1], FRAME), np.float32), of_baseline[:1]
    return Store(
        Path("X"),
        manifest,
        np.ascontiguousarray(after),
        np.ascontiguousarray(before),
        de,
        of_baseline,
        {name: [str(value) for value in values] for name, values in columns.items()},
    )


@contextmanager
def _run(
    stage: str,
    store: Store,
    labels: np.ndarray,
    groups: ArrayLike | None,
    estimator: SASTClassifier | EEGGenerator,
) -> Iterator[Run]:
    """Give a run of a stage, with the values of its recipe, in a folder that is gone afterwards."""
    protocol, seed = "trial" if groups is None else "subject", estimator._seed()
    recipe = load_recipe(find_scripts(stage)["valence"])
    config: Recipe = recipe(
        task="estimator",
        ratings=(_CLASS,),
        threshold="classes",
        class_names=tuple(store.classes[_CLASS]),
        protocol=protocol,
        epochs=max(estimator.n_epochs, 1),
        seed=seed,
    )
    split = without_test(store, protocol, seed)
    compute, ledger = Compute(device_of(estimator.device)), Ledger(store.n_trials * store.n_frames)
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng():
        run = Run(
            config,
            stage,
            Path(folder),
            store,
            labels,
            split,
            compute,
            ledger,
            {"stage": stage},
            quiet=True,
        )
        seed_torch(seed, 0, f"{stage}: initial weights")
        yield run


def _on_cpu(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a checkpoint such that it can be pickled and read anywhere."""
    weights = {name: value.detach().cpu().clone() for name, value in content["weights"].items()}
    return {**content, "weights": weights}
