"""Stages 2 and 3: a classifier of one-second frames, trained and fine-tuned."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from de3dgan.base import draws
from de3dgan.base.errors import UserError
from de3dgan.base.files import read_json, write_csv
from de3dgan.base.schema import OBJECT, check, number, one_of
from de3dgan.data.frames import Frames, chunks
from de3dgan.data.ledger import Ledger
from de3dgan.data.store import Store
from de3dgan.eeg.scaling import RobustScaler
from de3dgan.evaluation import baselines, metrics
from de3dgan.evaluation.features import levels_of
from de3dgan.evaluation.leakage import certify
from de3dgan.evaluation.names import CHOSEN, NAMES
from de3dgan.stages.augmentation import PairedEEG
from de3dgan.training import checkpoints, distributed, loop
from de3dgan.training.device import Compute
from de3dgan.training.ema import EMA
from de3dgan.training.losses import consistency_loss
from de3dgan.training.run import Run
from models import BraindecodeNet, SASTNet, SpectralSASTNet

_EVALUATION_BATCH = 512

#: What ``result.json`` holds of baselines, see `evaluate`.
_OF_BASELINES = {
    **dict.fromkeys(("majority", *CHOSEN), OBJECT),
    **{f"{name}_baseline": one_of(*candidates) for name, candidates in CHOSEN.items()},
}
_SCORE = {
    f"{name}.{unit}.balanced_accuracy": number(0, 1)
    for name in CHOSEN
    for unit in ("frame", "trial")
}

#: Returns the loss terms of a batch, given the epoch, frame numbers and labels; the first is
#: minimised.
BatchLoss = Callable[[int, np.ndarray, Tensor], dict[str, Tensor]]


class FrameClassifier(ABC):
    """A network with what else it is given of a frame.

    Parameters
    ----------
    net : SASTNet, SpectralSASTNet or BraindecodeNet
        The network.
    store : Store
        Where the frames' baselines are.
    compute : Compute
        How it computes.
    scaler : RobustScaler, optional
        The normalisation of the published network; ours takes µV.

    Attributes
    ----------
    ledger : Ledger
        Where reading baselines is noted: in training, that of the frames.
    """

    def __init__(
        self,
        net: SASTNet | SpectralSASTNet,
        store: Store,
        compute: Compute,
        scaler: RobustScaler | None = None,
    ):
        self.net, self.store, self.compute, self.scaler = net, store, compute, scaler
        self.ledger = Ledger(store.n_trials * store.n_frames)

    @abstractmethod
    def __call__(
        self, eeg: Tensor, numbers: np.ndarray, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return the scores and features of frames.

        Parameters
        ----------
        eeg : Tensor, (N, n_chans, FRAME)
            In µV.
        numbers : array of int, (N,)
            Their numbers in the store, or those of the frames that they stand for.
        jitter : float
            Standard deviation of noise that is added, in training, to what the network is given,
            once that is normalised.

        Returns
        -------
        logits : Tensor, (N, n_classes)
        feature : Tensor, (N, n_features)
        """

    @property
    @abstractmethod
    def published_net(self) -> SASTNet:
        """The paper's network, which is all of it, or what comes after our maps."""

    def of_store(self, store: Store) -> FrameClassifier:
        """Return the same network with the baselines of a store, this one's or another."""
        if store is self.store:
            return self
        return type(self)(self.net, store, self.compute, self.scaler)

    def with_net(self, net: SASTNet | SpectralSASTNet) -> FrameClassifier:
        """Return the same with another network."""
        other = copy(self)
        other.net = net
        return other

    def compile(self, log: Callable[[str], None]) -> None:
        """Have the network's trunk run compiled from now on, see `Compute.compiled`."""
        net = self.published_net
        shape = (1, len(net.arguments["ch_names"]), net.arguments["frame"])
        self.compute.compiled(net.trunk, torch.zeros(shape, device=self.compute.device), log)

    def content(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it; `from_content` is the way back."""
        scaler = {"eeg_scaler": vars(self.scaler)} if self.scaler else {}
        return {**checkpoints.module_content(self.net), **scaler}

    @staticmethod
    def from_content(content: Mapping[str, Any], store: Store, compute: Compute) -> FrameClassifier:
        """Rebuild it from a checkpoint's content."""
        scaler = RobustScaler(**content["eeg_scaler"]) if "eeg_scaler" in content else None
        net = checkpoints.rebuild(content, compute.device)
        return classifier_of(net, store, compute, scaler)


class SpectralClassifier(FrameClassifier):
    """Our network: it is given frames in µV, and the log power of their trial's baseline."""

    def __init__(self, net: SpectralSASTNet, *args: Any, **kwargs: Any):
        super().__init__(net, *args, **kwargs)
        self.baseline_index = torch.from_numpy(self.store.baseline_index).to(self.compute.device)
        every = np.arange(len(self.store.baseline))
        with torch.inference_mode():
            levels = levels_of(self.store, every, net.level, self.compute.device)
        self.baseline = levels.clone()

    def __call__(
        self, eeg: Tensor, numbers: np.ndarray, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return scores and features of frames and their baselines."""
        self.ledger.note(numbers)  # of baselines, which are read past the frames
        trials = self.compute.to_device(numbers // self.store.n_frames)
        return self.net(eeg, self.baseline[self.baseline_index[trials]], jitter)

    @property
    def published_net(self) -> SASTNet:
        """What comes after the maps."""
        return self.net.net


class PublishedClassifier(FrameClassifier):
    """The paper's network: it is given normalised samples."""

    def __call__(
        self, eeg: Tensor, numbers: np.ndarray, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return scores and features of normalised frames."""
        samples = self.scaler.normalise(eeg)
        if jitter and self.net.training:
            samples = samples + jitter * draws.normal_like(samples)
        return self.net(samples)

    @property
    def published_net(self) -> SASTNet:
        """All of it."""
        return self.net


class BraindecodeClassifier(PublishedClassifier):
    """A network of braindecode's: it is given normalised samples, too."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        if distributed.world_size() > 1:  # what it drops, and its batch norms, are of a whole batch
            raise UserError(
                "Networks of braindecode are trained by one process: start the script with python, "
                "not with torchrun."
            )

    def compile(self, log: Callable[[str], None]) -> None:
        """Say that it is not compiled, if that is asked for."""
        if self.compute.compile == "on":
            log("Networks of braindecode are not compiled: training goes on without.")


def classifier_of(net: nn.Module, *args: Any) -> FrameClassifier:
    """Return the classifier of frames that a network belongs to; see `FrameClassifier`."""
    classes = {
        SpectralSASTNet: SpectralClassifier,
        SASTNet: PublishedClassifier,
        BraindecodeNet: BraindecodeClassifier,
    }
    return classes[type(net)](net, *args)


def train(
    run: Run,
    frames: Frames,
    classifier: FrameClassifier,
    optimiser: Optimizer,
    batch_loss: BatchLoss,
    choose_by: str,
) -> tuple[FrameClassifier, list[dict[str, float]], int]:
    """Train a classifier on frames of the training split; the epoch is chosen on validation frames.

    Parameters
    ----------
    run : Run
        The stage's run.
    frames : Frames
        Real EEG.
    classifier, optimiser
        What is trained.
    batch_loss : callable
        `cross_entropy` or `paired_loss`.
    choose_by : str
        The validation figure that chooses the epoch: "val_loss" or "val_balanced_accuracy".

    Returns
    -------
    classifier : FrameClassifier
        With the weights, averaged over steps, of the chosen epoch.
    history : list of dict
    best_epoch : int
    """
    split = run.split
    labels = np.repeat(run.labels, split.n_frames)
    device_labels = torch.from_numpy(labels).to(run.device)
    classifier.ledger = frames.ledger
    ema = EMA(classifier.net, run.config.ema_decay)
    averaged = classifier.with_net(ema.module)
    classifier.compile(run.log)

    def train_step(epoch: int, numbers: np.ndarray) -> dict[str, Tensor]:
        with run.compute.autocast():
            terms = batch_loss(epoch, numbers, device_labels[run.compute.to_device(numbers)])
        loop.step(optimiser, terms["loss"], len(numbers))
        ema.update(classifier.net)
        return terms

    def validate() -> dict[str, float]:
        # Each process predicts a part.
        part = np.array_split(split.val, distributed.world_size())[distributed.rank()]
        parts = distributed.all_gather(predict(averaged, frames, part))
        probabilities, val_labels = np.concatenate(parts), labels[split.val]
        if not np.isfinite(probabilities).all():
            return {"val_loss": math.nan}  # which stops the run
        scores = metrics.scores(val_labels, probabilities)
        chosen = probabilities[np.arange(len(val_labels)), val_labels]
        return {
            "val_loss": float(-np.log(chosen.clip(1e-12)).mean()),
            "val_balanced_accuracy": scores["balanced_accuracy"],
        }

    history, best_epoch = loop.fit(
        run,
        {"classifier EMA": ema, "classifier": classifier.net},
        {"classifier": optimiser},
        split.train,
        "frame batches",
        train_step,
        validate,
        handed_over="classifier EMA",
        artefacts=["classifier"],
        monitor=choose_by,
        higher_is_better=choose_by != "val_loss",
    )
    return averaged, history, best_epoch


def cross_entropy(frames: Frames, classifier: FrameClassifier) -> BatchLoss:
    """Return stage 2's loss: cross entropy of real frames."""

    def batch_loss(_: int, numbers: np.ndarray, labels: Tensor) -> dict[str, Tensor]:
        logits, _ = classifier(frames[numbers], numbers)
        return {"loss": F.cross_entropy(logits.float(), labels)}

    return batch_loss


def paired_loss(
    frames: Frames,
    paired: PairedEEG | None,
    classifier: FrameClassifier,
    label_weight: float,
    consistency_weight: float,
) -> BatchLoss:
    """Return stage 3's loss: cross entropy of real frames, and terms of the EEG paired with them.

    Parameters
    ----------
    frames : Frames
        Real EEG.
    paired : PairedEEG or None
        The EEG paired with it, which has the same labels. Without it this is `cross_entropy`.
    classifier : FrameClassifier
        What is trained.
    label_weight : float
        Weight of the cross entropy of paired frames, where that of real frames has 1.
    consistency_weight : float
        Weight of the distance between the features of real and paired frames.

    Notes
    -----
    Batch norms normalise the paired half of a batch apart, by its own statistics; the running ones,
    which are used on new people, are of the real half alone (the auxiliary batch norm of Xie et al.
    2020, Adversarial Examples Improve Image Recognition, CVPR, with the statistics of the moment).
    So no paired EEG, white noise least of all, changes what real frames look like to the network.
    """
    if paired is None:
        return cross_entropy(frames, classifier)
    of_paired = classifier.of_store(paired.frames.store)

    def batch_loss(epoch: int, numbers: np.ndarray, labels: Tensor) -> dict[str, Tensor]:
        partners = paired.partners(epoch, numbers)
        real = classifier(frames[numbers], numbers)
        with _running_statistics_kept(classifier.net):
            other = of_paired(paired.frames[partners], partners, paired.jitter)
        logits, features = (torch.cat(both) for both in zip(real, other, strict=True))
        entropy, distance = consistency_loss(logits, features, labels)
        terms = {"cross_entropy": entropy, "feature_distance": distance}
        if label_weight:
            weight = label_weight * paired.weight
            paired_entropy = F.cross_entropy(logits[len(labels) :].float(), labels)
            terms["paired_cross_entropy"] = paired_entropy
            entropy = (entropy + weight * paired_entropy) / (1 + weight)
        return {"loss": entropy + consistency_weight * distance, **terms}

    return batch_loss


@contextmanager
def _running_statistics_kept(net: nn.Module) -> Iterator[None]:
    """Have batch norms normalise in the block as ever, but keep their running statistics."""
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def predict(classifier: FrameClassifier, frames: Frames, numbers: np.ndarray) -> np.ndarray:
    """Return class probabilities of frames by number, float64 (len(numbers), n_classes)."""
    classifier.net.eval()
    out = []
    with torch.inference_mode(), classifier.compute.autocast():
        for some in chunks(numbers, _EVALUATION_BATCH):
            logits, _ = classifier(frames[some], some)
            out.append(logits.double().softmax(1).cpu().numpy())
    probabilities = np.concatenate(out)
    if not np.isfinite(probabilities).all():  # because of the EEG? Else `metrics.scores` says so
        frames.store.refuse_non_finite_eeg(np.unique(numbers // frames.n_frames).tolist())
    return probabilities


def evaluate(
    run: Run, frames: Frames, classifier: FrameClassifier, best_epoch: int
) -> tuple[dict[str, Any], np.ndarray]:
    """Hand the classifier over, certify it, and predict the test split, once.

    Of several processes, the main one does.

    Returns
    -------
    result : dict
        What ``result.json`` holds of it: ``best_epoch``, and per frame and per trial the scores of
        the network (``test``), of the majority class (``majority``), and of the best baseline and
        the strongest artefact as chosen on validation (``best``, ``artefact``), with the names of
        these two (``best_baseline``, ``artefact_baseline``).
    probabilities : array, (n_test_frames, n_classes)
        What was predicted.
    """
    if not distributed.is_main_process():
        return {}, np.empty((0, run.config.n_classes))
    content = run.hand_over(best_epoch, classifier.content())
    numbers = run.split.test
    certify(run, content, frames, numbers)
    trials = numbers // run.split.n_frames
    labels = run.labels[trials]
    probabilities = predict(classifier, frames, numbers)
    # This refuses what is no probability.
    test = metrics.frame_and_trial(trials, labels, probabilities, _persons(run, trials))
    write_csv(run.dir / "predictions.csv", _rows(run, probabilities))
    simple = _baselines(run, frames, classifier)
    run.log(
        f"Balanced accuracy on the test split of {run.title}: {_brief(test)}. The best baseline, "
        f"{NAMES[simple['best_baseline']]}, has {_brief(simple['best'])}; of those that "
        f"know no emotion, {NAMES[simple['artefact_baseline']]} has "
        f"{_brief(simple['artefact'])}.{_verdict(test, simple)}"
    )
    return {"best_epoch": best_epoch, "test": test, **simple}, probabilities


def _baselines(run: Run, frames: Frames, classifier: FrameClassifier) -> dict[str, Any]:
    """Return what ``result.json`` holds of baselines, which are the same for a fold's classifiers.

    Stage 2 writes all their predictions to ``baselines.csv``; what goes on from it reads its
    figures.
    """
    done = run.dir.parent / "classifier" / "result.json"
    if run.stage != "classifier" and done.is_file():
        result = read_json(done)
        remedy = "rerun the classifier stage of this fold with --restart."
        check(result, _OF_BASELINES | _SCORE, done, remedy)
        return {name: result[name] for name in _OF_BASELINES}
    tested = run.split.test
    maps = classifier.net.maps if isinstance(classifier.net, SpectralSASTNet) else None
    found, chosen = baselines.predictions(frames, run.split, run.labels, tested, maps)
    if run.stage == "classifier":
        rows = ({"model": model, **row} for model, p in found.items() for row in _rows(run, p))
        write_csv(run.dir / "baselines.csv", rows)
    trials = tested // run.split.n_frames
    scores = {
        name: metrics.frame_and_trial(
            trials, run.labels[trials], found[name], _persons(run, trials)
        )
        for name in ("majority", *chosen)
    }
    return {**scores, **{f"{name}_baseline": model for name, model in chosen.items()}}


def _verdict(test: Mapping[str, Any], simple: Mapping[str, Any]) -> str:
    """Return a sentence on what the network does not beat per frame, if there is anything."""
    ours = test["frame"]["balanced_accuracy"]
    beats = {name: ours > simple[name]["frame"]["balanced_accuracy"] for name in CHOSEN}
    said = {
        "artefact": " The network does not beat what knows no emotion; none is shown to be known.",
        "best": " The network does not beat the best baseline.",
    }
    return "".join(sentence for name, sentence in said.items() if not beats[name])


def _brief(scores: dict[str, dict[str, float | None]]) -> str:
    frame, trial = (scores[unit]["balanced_accuracy"] for unit in ("frame", "trial"))
    return f"{frame:.3f} per frame, {trial:.3f} per trial"


def _persons(run: Run, trials: np.ndarray) -> np.ndarray:
    """Return the person of each of `trials`."""
    return np.array(run.store.columns["subject"])[trials]


def _rows(run: Run, probabilities: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yield the rows of a table of test predictions, one per frame."""
    trials, seconds = np.divmod(run.split.test, run.split.n_frames)
    for trial, second, row in zip(trials, seconds, probabilities, strict=True):
        # Nine digits, as fewer would tie what an AUC tells apart.
        by_class = {f"p_{c}": f"{p:.9f}" for c, p in enumerate(row)}
        of_frame = {"trial": trial, "frame": second, "label": run.labels[trial], **by_class}
        yield of_frame | {"subject": run.store.columns["subject"][trial]}
