"""What both generators have in common once they are trained: handed over, certified, measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from de3dgan.data.frames import chunks
from de3dgan.data.store import Store
from de3dgan.evaluation.leakage import certify
from de3dgan.evaluation.quality import Fit, matched_noise, quality
from de3dgan.evaluation.transfer import Learner, Lesson
from de3dgan.models import SpectralSASTNet
from de3dgan.stages.closed_form import fit
from de3dgan.stages.frame_classifiers import SpectralClassifier
from de3dgan.stages.generation import SpectralSampler, TrainedGenerator
from de3dgan.stages.trials import Trials
from de3dgan.training.device import Compute
from de3dgan.training.distributed import is_main_process
from de3dgan.training.run import Run

#: Frames that the network is asked about at a time.
_BATCH = 256


def evaluate(run: Run, data: Trials, trained: TrainedGenerator, best_epoch: int) -> dict[str, Any]:
    """Hand the generator over, certify it, and measure it on test trials.

    Of several processes, the main one does.

    Returns
    -------
    dict
        What ``result.json`` holds of it: ``best_epoch``, and what `quality` returns.
    """
    if not is_main_process():
        return {}
    store, test = run.store, run.split.trials("test")
    content = run.hand_over(best_epoch, trained.content())
    certify(run, content, data.frames, data.frames.numbers(test))
    samplers = {
        "generated": lambda trials, draw: trained(store.absolute_de(trials), trials, draw),
        "noise": matched_noise(store, run.config.seed),
    }
    measured = quality(
        store,
        run.split,
        run.labels,
        data.frames.continuous,
        samplers,
        learners={"network": network(store, run.compute, run.config.n_classes)},
        fits={"generated": fit_of(trained, store)},
        log=run.log,
    )
    rows = measured["quality"]
    bands = rows["generated"]["de_round_trip"].items()
    text = ", ".join(f"{band} r {f['correlation']:.2f} bias {f['bias']:+.2f}" for band, f in bands)
    run.log(
        f"{run.title}: DE of the EEG generated for test trials against the DE it is generated "
        f"from: {text} nats."
    )
    told = [
        f"{verdict['judge']} AUC {verdict['auc']:.2f} per {'trial' if unit == 'trial' else unit}"
        for unit, verdict in rows["generated"]["judged"].items()
    ]
    run.log(f"Told from real EEG of new groups by the strongest judge: {', '.join(told)}.")
    return {"best_epoch": best_epoch, **measured}


def network(store: Store, compute: Compute, n_classes: int) -> Learner:
    """Return what learns classes with the head of our network of stage 2.

    Parameters
    ----------
    store : Store
        Where the frames' baselines are.
    compute : Compute
        How it computes.
    n_classes : int
        Number of classes.
    """

    def learn(train: Lesson, test: Lesson) -> np.ndarray:
        if len(np.unique(train.classes)) < 2:
            return np.full(len(test.classes), train.classes[0])
        net = SpectralSASTNet(store.ch_names, n_classes, grid=store.grid).to(compute.device)
        learner = SpectralClassifier(net.eval(), store, compute)

        def seen(lesson: Lesson) -> Callable[[np.ndarray], torch.Tensor]:
            eeg, numbers = lesson.frames, lesson.numbers
            return lambda rows: learner.features(
                compute.to_device(np.asarray(eeg[rows], np.float32)), numbers[rows]
            )

        trials = train.numbers // store.n_frames
        learner.set_head(fit(seen(train), net.views.sizes, train.classes, trials, n_classes))
        asked = chunks(np.arange(len(test.classes)), _BATCH)
        with torch.inference_mode():
            scores = [net.head(seen(test)(rows)) for rows in asked]
        return torch.cat(scores).argmax(1).cpu().numpy()

    return learn


def fit_of(trained: TrainedGenerator, store: Store) -> Fit:
    """Return what says how well a generator fits trials: ours has a likelihood."""

    def fit(trials: np.ndarray) -> dict[str, np.ndarray]:
        if not isinstance(trained, SpectralSampler):
            return {}
        found = []
        with torch.inference_mode():
            for trial in trials[:, None]:
                pair = (store.absolute_de(trial), store.eeg[trial])
                likelihood = trained.module.log_likelihood(*map(trained.compute.to_device, pair))
                found.append(float(likelihood))
        return {"log_likelihood": np.array(found)}

    return fit
