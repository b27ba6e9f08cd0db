"""What a network has to beat, on the same split and by the same metrics.

======================  ============================================================================
what                    models
======================  ============================================================================
no EEG at all           majority class, random
EEG                     logistic regression and support vector machine, each on DE and on the maps
                        that our network is given; covariances of bands in tangent space
no emotion              which recording it is, muscles, who it is, which stimulus it was
======================  ============================================================================

Regularisation and kernel widths are chosen by inner cross-validation on the training split, see
`de3dgan.evaluation.tuning`. Trained on the training split alone, the models predict the validation
split, which says which is the **best** of those on EEG, and which the strongest of those that know
no emotion. Then all are trained on both, since they have no epoch to choose, and predict the test
split. Of more frames than a `Family` says, a random choice is tuned on, and trained on.

With too little to be trained on, a model predicts the frequencies of the classes, with a warning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from de3dgan.base.seeds import derived_rng
from de3dgan.data.frames import Frames, chunks
from de3dgan.data.splits import Split, group_names
from de3dgan.evaluation import artefacts
from de3dgan.evaluation.features import frame_de, frame_maps
from de3dgan.evaluation.metrics import balanced_accuracy
from de3dgan.evaluation.names import CHOSEN, NAMES
from de3dgan.evaluation.tangent import tangent_space
from de3dgan.evaluation.tuning import LOGISTIC, SVM, Family, trained, tuned
from de3dgan.models.views import PowerMaps

#: Frames whose features are computed, and that are predicted, at a time.
_BATCH = 256

#: Maps frame numbers (n,) to features (n, n_features).
Features = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Data:
    """What baselines are trained on and asked about.

    Attributes
    ----------
    frames : Frames
        The EEG.
    split : Split
        Who is trained on.
    labels : array of int, (n_trials,)
        Class of each trial.
    asked : array of int
        Frames to predict.
    """

    frames: Frames
    split: Split
    labels: np.ndarray
    asked: np.ndarray

    def classes(self, numbers: np.ndarray) -> np.ndarray:
        """Return the class of frames by number."""
        return self.labels[numbers // self.split.n_frames]

    def groups(self, numbers: np.ndarray) -> np.ndarray | None:
        """Return the group of frames, which inner folds keep together, if they have one."""
        if self.split.protocol == "random-frame":
            return None
        _, names = group_names(self.frames.store, self.split.protocol)
        return names[numbers // self.split.n_frames]

    def columns(self, found: np.ndarray, classes: np.ndarray) -> np.ndarray:
        """Return probabilities of `classes` with a column for every class, also those not seen."""
        out = np.zeros((len(found), self.labels.max() + 1))
        out[:, classes] = found
        return out


def predictions(
    frames: Frames,
    split: Split,
    labels: np.ndarray,
    asked: np.ndarray,
    names: Iterable[str] = tuple(NAMES),
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return what baselines predict, and which were chosen on validation.

    Parameters
    ----------
    frames : Frames
        The EEG.
    split : Split
        Who is trained on, and who chooses.
    labels : array of int, (n_trials,)
        Class of each trial.
    asked : array of int
        Frames to predict.
    names : iterable of str
        Which of `NAMES`.

    Returns
    -------
    probabilities : dict of str to array, (len(asked), n_classes)
        By name.
    chosen : dict of str to str
        For each name of `CHOSEN` that is asked for, which baseline it is in this fold.
    """
    data = Data(frames, split, labels, asked)
    names, models = list(names), _models(data)
    wanted = {model for name in names for model in CHOSEN.get(name, (name,))}
    found = {name: models[name](data) for name in NAMES if name in wanted}
    chosen = {
        name: max(CHOSEN[name], key=lambda candidate: found[candidate].on_validation)
        for name in CHOSEN
        if name in names
    }
    return {name: found[chosen.get(name, name)].probabilities for name in names}, chosen


@dataclass(frozen=True)
class Found:
    """What a baseline predicts for the frames asked about, and how well it does on validation.

    Attributes
    ----------
    probabilities : array, (n_asked, n_classes)
        Trained on training and validation.
    on_validation : float
        Balanced accuracy per frame of the same, trained on the training split.
    """

    probabilities: np.ndarray
    on_validation: float = 0.0


def _models(data: Data) -> Mapping[str, Callable[[Data], Found]]:
    """Return what makes each baseline's predictions."""
    frames, store, maps = data.frames, data.frames.store, PowerMaps()

    def from_de(numbers: np.ndarray) -> np.ndarray:
        return frame_de(store, numbers)

    def from_absolute_de(numbers: np.ndarray) -> np.ndarray:
        return frame_de(store, numbers, absolute=True)

    def from_maps(numbers: np.ndarray) -> np.ndarray:
        return frame_maps(frames, numbers, maps)

    def in_tangent_space(data: Data) -> Found:
        return _learnt(data, tangent_space(frames, data.split.trials("train")), LOGISTIC)

    def learnt(features: Features, family: Family) -> Callable[[Data], Found]:
        return lambda data: _learnt(data, features, family)

    return {
        "majority": _majority,
        "random": _random,
        "linear": learnt(from_de, LOGISTIC),
        "linear_absolute": learnt(from_absolute_de, LOGISTIC),
        "svm": learnt(from_de, SVM),
        "linear_maps": learnt(from_maps, LOGISTIC),
        "svm_maps": learnt(from_maps, SVM),
        "tangent": in_tangent_space,
        "null_space": learnt(lambda numbers: artefacts.null_space(frames, numbers), LOGISTIC),
        "above_46_hz": learnt(lambda numbers: artefacts.above_46_hz(frames, numbers), SVM),
        "person": lambda data: _frequencies(data, "subject"),
        "stimulus": lambda data: _frequencies(data, "stimulus"),
    }


def _learnt(data: Data, features: Features, family: Family) -> Found:
    """Tune and train a model on the training split, ask it about validation, train it on both."""
    split = data.split

    def given(numbers: np.ndarray) -> np.ndarray:
        found = np.concatenate([features(some) for some in chunks(numbers, _BATCH)])
        if not np.isfinite(found).all():
            trials = np.unique(numbers // split.n_frames)
            data.frames.store.refuse_non_finite_eeg(trials.tolist())
        return found

    def predict(model: BaseEstimator, numbers: np.ndarray) -> np.ndarray:
        parts = [model.predict_proba(given(some)) for some in chunks(numbers, _BATCH)]
        return data.columns(np.concatenate(parts), model.classes_)

    def few(numbers: np.ndarray, n: int, purpose: str) -> np.ndarray:
        rng = derived_rng(split.seed, split.fold, purpose)
        return numbers if len(numbers) <= n else np.sort(rng.choice(numbers, n, replace=False))

    def examples(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        return given(numbers), data.classes(numbers), data.groups(numbers)

    tuning = few(split.train, family.n_tuning, "frames that baselines are tuned on")
    learning, known = (
        few(part, family.n_frames, "frames that baselines are trained on")
        for part in (split.train, np.concatenate([split.train, split.val]))
    )
    model = tuned(family, *examples(tuning))
    if len(learning) > len(tuning):
        model.fit(given(learning), data.classes(learning))
    answers = np.concatenate([model.predict(given(some)) for some in chunks(split.val, _BATCH)])
    on_validation = balanced_accuracy(data.classes(split.val), answers)
    return Found(predict(trained(model, *examples(known)), data.asked), on_validation)


def _frequencies(data: Data, column: str) -> Found:
    """Predict the frequencies of classes of whoever, or whatever, a column of trials.csv names."""
    split, names = data.split, np.array(data.frames.store.columns[column])
    train, val, asked = (part // split.n_frames for part in (split.train, split.val, data.asked))
    on_validation = artefacts.class_frequencies(names, data.labels, train, val).argmax(1)
    return Found(
        artefacts.class_frequencies(names, data.labels, np.concatenate([train, val]), asked),
        balanced_accuracy(data.labels[val], on_validation),
    )


def _majority(data: Data) -> Found:
    """Predict the frequencies of classes over training trials."""
    known = data.labels[data.split.trials("train")]
    frequencies = np.bincount(known, minlength=data.labels.max() + 1) / len(known)
    return Found(np.tile(frequencies, (len(data.asked), 1)))


def _random(data: Data) -> Found:
    """Predict at random, with certainty, classes as frequent as over training trials."""
    known = data.labels[data.split.trials("train")]
    rng = derived_rng(data.split.seed, data.split.fold, "random baseline")
    return Found(np.eye(data.labels.max() + 1)[rng.choice(known, len(data.asked))])
