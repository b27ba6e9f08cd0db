"""What both generators have in common once they are trained: handed over, certified, measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F
from torch.optim import AdamW

from de3dgan.base.seeds import derived_seed
from de3dgan.data.frames import batches
from de3dgan.data.store import Store
from de3dgan.evaluation.features import baseline_levels
from de3dgan.evaluation.leakage import certify
from de3dgan.evaluation.quality import Fit, matched_noise, quality
from de3dgan.evaluation.transfer import Learner, Lesson
from de3dgan.stages.generation import SpectralSampler, TrainedGenerator
from de3dgan.stages.trials import Trials
from de3dgan.training.device import Compute
from de3dgan.training.distributed import is_main_process
from de3dgan.training.run import Run
from models import SpectralSASTNet

#: Training of the network that learns classes from generated EEG: as in stage 2, but shorter.
_EPOCHS, _BATCH, _LR, _WEIGHT_DECAY = 4, 64, 1e-3, 0.05


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
        learners={"network": network(store, run.compute, run.config.n_classes, run.config.seed)},
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


def network(store: Store, compute: Compute, n_classes: int, seed: int) -> Learner:
    """Return what learns classes with our network of stage 2.

    Parameters
    ----------
    store : Store
        Where the frames' baselines are.
    compute : Compute
        How it computes.
    n_classes : int
        Number of classes.
    seed : int
        For its initial weights and batches. PyTorch's generators stay as they are.
    """

    def learn(train: Lesson, test: Lesson) -> np.ndarray:
        device = compute.device
        eeg, classes = (torch.tensor(x, device=device) for x in (train.frames, train.classes))
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(derived_seed(seed, 0, "network that learns from generated EEG"))
            net = SpectralSASTNet(store.ch_names, n_classes, grid=store.grid).to(device)
            baseline = baseline_levels(store, train.numbers, net.level, device).clone()
            optimiser = AdamW(net.parameters(), _LR, weight_decay=_WEIGHT_DECAY)
            for epoch in range(_EPOCHS):
                for batch in batches(np.arange(len(eeg)), _BATCH, seed, epoch, "lesson batches"):
                    logits, _ = net(eeg[batch], baseline[batch])
                    loss = F.cross_entropy(logits, classes[batch])
                    optimiser.zero_grad()
                    loss.backward()
                    optimiser.step()
        net.eval()
        with torch.inference_mode():
            frames = torch.tensor(test.frames, device=device)
            logits, _ = net(frames, baseline_levels(store, test.numbers, net.level, device))
        return logits.argmax(1).cpu().numpy()

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
