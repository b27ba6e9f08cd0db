"""Stages 2 and 3: a classifier of one-second frames is fitted, trained, fine-tuned, evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from de3dgan.base.files import read_json, write_csv
from de3dgan.base.schema import OBJECT, check, number, one_of
from de3dgan.data.frames import Frames, chunks
from de3dgan.data.splits import group_names
from de3dgan.evaluation import baselines, metrics
from de3dgan.evaluation.leakage import certify
from de3dgan.evaluation.names import CHOSEN, NAMES
from de3dgan.evaluation.tangent import common_basis
from de3dgan.models.views import MAX_RANK
from de3dgan.stages import closed_form
from de3dgan.stages.augmentation import PairedEEG
from de3dgan.stages.frame_classifiers import FrameClassifier, SpectralClassifier
from de3dgan.training import distributed, loop
from de3dgan.training.device import Compute
from de3dgan.training.ema import EMA
from de3dgan.training.losses import consistency_loss, weighted_cross_entropy
from de3dgan.training.run import Run

_EVALUATION_BATCH = 512
#: How often training comes back to paired frames for their part of the head to be kept.
_OFTEN = 2
#: Shares of the residual that validation chooses from.
_RESIDUAL_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)

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


@dataclass(frozen=True)
class Start:
    """What training goes on from: our network has a head in closed form, others have nothing.

    Attributes
    ----------
    held_out : Tensor, (n_frames, n_classes)
        What the head says of training and validation frames without having seen their group; 0 of
        others, and without a head.
    class_weight : Tensor, (n_classes,), optional
        What a frame of each class weighs in our losses: all classes the same in total.
    sharpness : float
        See `metrics.by_trial`.
    with_paired : bool
        Whether paired EEG is learnt from: not, if a head with it tells what is held out worse.
    """

    held_out: Tensor
    class_weight: Tensor | None = None
    sharpness: float = 1.0
    with_paired: bool = True


def start(
    run: Run,
    frames: Frames,
    classifier: FrameClassifier,
    paired: PairedEEG | None = None,
    paired_weight: float = 0.0,
) -> Start:
    """Fit the head of our network to training and validation frames, and set it.

    Validation frames may be learnt from, as baselines do: what is chosen on them, strengths and
    shares of views and later the residual, is chosen by what a head says that has not seen them.

    Parameters
    ----------
    run : Run
        The stage's run.
    frames : Frames
        Real EEG.
    classifier : FrameClassifier
        Whose head is fitted. The published network and those of braindecode have none.
    paired : PairedEEG, optional
        EEG that it is fitted to as well.
    paired_weight : float
        What all of it weighs, where real EEG weighs 1.
    """
    split, config = run.split, run.config
    held_out = torch.zeros(run.store.n_trials * split.n_frames, config.n_classes, device=run.device)
    if not isinstance(classifier, SpectralClassifier):
        return Start(held_out)
    classifier.ledger = frames.ledger
    known = np.sort(np.concatenate([split.train, split.val]))
    trials = known // split.n_frames
    with run.ledger.reading_for("classifier"), _refusing_non_finite(run, trials):
        # Of whole trials, which the random-frame protocol tests on as well.
        if run.stage == "classifier" and split.protocol != "random-frame":
            basis = common_basis(frames, np.unique(trials))[:, -MAX_RANK:]
            basis = torch.from_numpy(basis.astype(np.float32))
            classifier.in_directions(basis.to(run.device))

        def seen(rows: np.ndarray) -> Tensor:
            return classifier.features(frames[known[rows]], known[rows])

        groups = None
        if split.protocol != "random-frame":
            groups = group_names(run.store, split.protocol)[1][trials]
        classes, sizes, further = run.labels[trials], classifier.net.views.sizes, None
        if paired is not None and paired_weight:
            further = _further(run, classifier, paired, paired_weight, known, groups is not None)
        head = closed_form.fit(seen, sizes, classes, groups, config.n_classes, further)
    classifier.set_head(head)
    if run.stage == "classifier":
        classifier.scale_maps(head)
    run.log(_about(head, len(known), classifier.net.views.NAMES, further is not None))
    as_float = {"dtype": torch.float32, "device": run.device}
    held_out[run.compute.to_device(known)] = torch.tensor(head.held_out, **as_float)
    counts = np.bincount(run.labels[split.train // split.n_frames], minlength=config.n_classes)
    weight = counts.sum() / (config.n_classes * counts.clip(1))
    sharpness = closed_form.sharpness(trials, classes, head.held_out)
    with_paired = further is None or head.with_further
    return Start(held_out, torch.tensor(weight, **as_float), sharpness, with_paired)


def _further(
    run: Run,
    classifier: SpectralClassifier,
    paired: PairedEEG,
    paired_weight: float,
    known: np.ndarray,
    in_groups: bool,
) -> closed_form.Further:
    """Return paired EEG as examples that the head may be fitted to, beside frames `known`."""
    split = run.split
    other = classifier.of_store(paired.frames.store)
    partners, partnered = paired.partners(0, split.train), split.train // split.n_frames

    def seen(rows: np.ndarray) -> Tensor:
        return other.features(paired.frames[partners[rows]], partners[rows])

    # What was made from a trial is held out with it; what was made from all training people, never.
    made_from = unseen = None
    if paired.made_from == "own trials" and in_groups:
        made_from = group_names(run.store, split.protocol)[1][partners // split.n_frames]
    if paired.made_from == "training people":
        unseen = np.isin(known, split.val)
    weight = paired_weight * paired.weight
    return closed_form.Further(seen, run.labels[partnered], weight, made_from, unseen)


def _about(head: closed_form.Head, n_frames: int, names: Sequence[str], offered: bool) -> str:
    """Return what the head was fitted to, and what it finds, in sentences."""
    spread = ", ".join(
        f"{name} {share:.2f}" for name, share in zip(names, head.shares * head.spread, strict=True)
    )
    text = (
        f"The head is fitted to {n_frames:,} frames. Spread of the scores of its views: {spread}."
    )
    if not offered:
        return text
    found = "learnt from" if head.with_further else "left out, as held-out groups do worse with it"
    return f"The paired EEG is {found}.\n{text}"


@contextmanager
def _refusing_non_finite(run: Run, trials: np.ndarray) -> Iterator[None]:
    """Say in a sentence which EEG is not finite, where linear algebra fails in the block for it."""
    try:
        yield
    except (np.linalg.LinAlgError, torch.linalg.LinAlgError):
        run.store.refuse_non_finite_eeg(np.unique(trials).tolist())
        raise


def train(
    run: Run,
    frames: Frames,
    classifier: FrameClassifier,
    optimiser: Optimizer,
    batch_loss: BatchLoss,
    choose_by: str,
    begun: Start,
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
        The validation figure that chooses the epoch: "val_loss" (all classes weigh the same) or
        "val_balanced_accuracy".
    begun : Start
        What `start` returned.

    Returns
    -------
    classifier : FrameClassifier
        With the weights, averaged over steps, of the chosen epoch. Of a residual, as much as is
        best on validation.
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
    of_val = begun.held_out[run.compute.to_device(split.val)].double().cpu().numpy()
    val_labels = labels[split.val]
    val_weight = 1 / np.bincount(val_labels)[val_labels]

    def train_step(epoch: int, numbers: np.ndarray) -> dict[str, Tensor]:
        with run.compute.autocast():
            terms = batch_loss(epoch, numbers, device_labels[run.compute.to_device(numbers)])
        loop.step(optimiser, terms["loss"], len(numbers))
        ema.update(classifier.net)
        return terms

    def trained_part() -> np.ndarray:
        # Each process predicts a part.
        part = np.array_split(split.val, distributed.world_size())[distributed.rank()]
        found = _scores(averaged.trained_part, averaged.net, run.compute, frames, part)
        return np.concatenate(distributed.all_gather(found))

    def best_share(added: np.ndarray) -> float:
        # Of a network that is trained as a whole, nothing else is there.
        if not isinstance(averaged, SpectralClassifier):
            return 1.0
        losses = [
            closed_form.cross_entropy(of_val + share * added, val_labels, val_weight)
            for share in _RESIDUAL_SHARES
        ]
        return _RESIDUAL_SHARES[int(np.argmin(losses))]

    def validate() -> dict[str, float]:
        added = trained_part()
        if not np.isfinite(added).all():
            return {"val_loss": math.nan}  # which stops the run
        scores = of_val + best_share(added) * added
        return {
            "val_loss": closed_form.cross_entropy(scores, val_labels, val_weight),
            "val_balanced_accuracy": metrics.balanced_accuracy(val_labels, scores.argmax(1)),
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
    if isinstance(averaged, SpectralClassifier):
        with run.ledger.reading_for("chosen epoch"):
            share = best_share(trained_part())
        run.log(f"Of what the trunk adds to the head, {share:.0%} is best on validation.")
        with torch.no_grad():
            for parameter in averaged.net.net.head.parameters():
                parameter *= share
    return averaged, history, best_epoch


def cross_entropy(frames: Frames, classifier: FrameClassifier, begun: Start) -> BatchLoss:
    """Return stage 2's loss: cross entropy of real frames."""

    def batch_loss(_: int, numbers: np.ndarray, labels: Tensor) -> dict[str, Tensor]:
        logits, _ = _of_real(frames, classifier, begun, numbers)
        return {"loss": weighted_cross_entropy(logits, labels, begun.class_weight)}

    return batch_loss


def _of_real(
    frames: Frames, classifier: FrameClassifier, begun: Start, numbers: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Return scores and features of training frames, with what a head says that has not seen them.

    With what the fitted head says itself, there would be too little left to learn.
    """
    logits, feature = classifier.trained_part(frames[numbers], numbers)
    return logits.float() + begun.held_out[classifier.compute.to_device(numbers)], feature


def paired_loss(
    run: Run,
    frames: Frames,
    paired: PairedEEG | None,
    classifier: FrameClassifier,
    label_weight: float,
    consistency_weight: float,
    begun: Start,
) -> BatchLoss:
    """Return stage 3's loss: cross entropy of real frames, and terms of the EEG paired with them.

    Parameters
    ----------
    run : Run
        The stage's run.
    frames : Frames
        Real EEG.
    paired : PairedEEG or None
        The EEG paired with it, which has the same labels. Without it, or where `start` has found it
        to do harm, this is `cross_entropy`.
    classifier : FrameClassifier
        What is trained.
    label_weight : float
        Weight of the cross entropy of paired frames, where that of real frames has 1.
    consistency_weight : float
        Weight of the distance between the features of real and paired frames.
    begun : Start
        What `start` returned.

    Notes
    -----
    Batch norms, which some networks of braindecode have, normalise the paired half of a batch
    apart, by its own statistics; the running ones, which are used on new people, are of the real
    half alone (the auxiliary batch norm of Xie et al. 2020, Adversarial Examples Improve Image
    Recognition, CVPR, with the statistics of the moment).
    """
    if paired is None or not begun.with_paired:
        return cross_entropy(frames, classifier, begun)
    of_paired = _of_paired(run, paired, classifier.of_store(paired.frames.store))

    def batch_loss(epoch: int, numbers: np.ndarray, labels: Tensor) -> dict[str, Tensor]:
        partners = paired.partners(epoch, numbers)
        real = _of_real(frames, classifier, begun, numbers)
        with _running_statistics_kept(classifier.net):
            other = of_paired(paired.frames[partners], partners, paired.jitter)
        logits, features = (torch.cat(both) for both in zip(real, other, strict=True))
        weight = begun.class_weight
        entropy, distance = consistency_loss(logits, features, labels, weight)
        terms = {"cross_entropy": entropy, "feature_distance": distance}
        if label_weight:
            share = label_weight * paired.weight
            paired_entropy = weighted_cross_entropy(logits[len(labels) :], labels, weight)
            terms["paired_cross_entropy"] = paired_entropy
            entropy = (entropy + share * paired_entropy) / (1 + share)
        return {"loss": entropy + consistency_weight * distance, **terms}

    return batch_loss


def _of_paired(
    run: Run, paired: PairedEEG, classifier: FrameClassifier
) -> Callable[[Tensor, np.ndarray, float], tuple[Tensor, Tensor]]:
    """Return what gives scores and features of paired frames, see `FrameClassifier`.

    What the head says of a frame is found once, if training comes back to most of them.
    """
    if not isinstance(classifier, SpectralClassifier):
        return classifier
    config, train = run.config, run.split.train
    numbers = np.unique([paired.partners(epoch, train) for epoch in range(config.epochs)])
    n_asked = config.epochs * (config.epoch_steps * config.batch_size or len(train))
    if n_asked < _OFTEN * len(numbers):
        return classifier
    n_frames = paired.frames.store.n_trials * paired.frames.n_frames
    known = torch.zeros(n_frames, config.n_classes, device=run.device)
    for some in chunks(numbers, _EVALUATION_BATCH):
        scores = classifier.head_scores(paired.frames[some], some)
        known[run.compute.to_device(some)] = scores

    def of_paired(eeg: Tensor, numbers: np.ndarray, jitter: float) -> tuple[Tensor, Tensor]:
        added, feature = classifier.trained_part(eeg, numbers, jitter)
        return added.float() + known[run.compute.to_device(numbers)], feature

    return of_paired


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
    scores = _scores(classifier, classifier.net, classifier.compute, frames, numbers)
    if not np.isfinite(scores).all():  # because of the EEG? Else `metrics.scores` says so
        frames.store.refuse_non_finite_eeg(np.unique(numbers // frames.n_frames).tolist())
    return torch.from_numpy(scores).softmax(1).numpy()


def _scores(
    scored: Callable[..., tuple[Tensor, Tensor]],
    net: nn.Module,
    compute: Compute,
    frames: Frames,
    numbers: np.ndarray,
) -> np.ndarray:
    """Return the scores of frames by number, float64 (len(numbers), n_classes)."""
    net.eval()
    out = []
    with torch.inference_mode(), compute.autocast():
        for some in chunks(numbers, _EVALUATION_BATCH):
            logits, _ = scored(frames[some], some)
            out.append(logits.double().cpu().numpy())
    return np.concatenate(out)


def evaluate(
    run: Run,
    frames: Frames,
    classifier: FrameClassifier,
    best_epoch: int,
    sharpness: float = 1.0,
) -> tuple[dict[str, Any], np.ndarray]:
    """Hand the classifier over, certify it, and predict the test split, once.

    Of several processes, the main one does. `sharpness` is that of `metrics.by_trial`.

    Returns
    -------
    result : dict
        What ``result.json`` holds of it: ``best_epoch``, ``trial_sharpness``, and per frame and per
        trial the scores of the network (``test``), of the majority class (``majority``), and of the
        best baseline and the strongest artefact as chosen on validation (``best``, ``artefact``),
        with the names of
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
    test = metrics.frame_and_trial(trials, labels, probabilities, _persons(run, trials), sharpness)
    write_csv(run.dir / "predictions.csv", _rows(run, probabilities))
    simple = _baselines(run, frames, classifier)
    run.log(
        f"Balanced accuracy on the test split of {run.title}: {_brief(test)}. The best baseline, "
        f"{NAMES[simple['best_baseline']]}, has {_brief(simple['best'])}; of those that "
        f"know no emotion, {NAMES[simple['artefact_baseline']]} has "
        f"{_brief(simple['artefact'])}.{_verdict(test, simple)}"
    )
    result = {"best_epoch": best_epoch, "trial_sharpness": sharpness, "test": test, **simple}
    return result, probabilities


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
    found, chosen = baselines.predictions(frames, run.split, run.labels, tested)
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
