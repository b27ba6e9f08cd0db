"""What both generators have in common once they are trained: handed over, certified, measured."""

from __future__ import annotations

from typing import Any

from de3dgan.evaluation.leakage import certify
from de3dgan.evaluation.quality import matched_noise, quality
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.trials import Trials
from de3dgan.training.distributed import is_main_process
from de3dgan.training.run import Run


def evaluate(run: Run, data: Trials, trained: TrainedGenerator, best_epoch: int) -> dict[str, Any]:
    """Hand the generator over, certify it, and measure it on test trials.

    Of several processes, the main one does.

    Returns
    -------
    dict
        What ``result.json`` holds of it: ``best_epoch`` and ``quality``.
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
    measured = quality(store, run.split, run.labels, data.frames.continuous, samplers)
    bands = measured["generated"]["de_round_trip"].items()
    text = ", ".join(f"{band} r {f['correlation']:.2f} bias {f['bias']:+.2f}" for band, f in bands)
    run.log(
        f"{run.title}: DE of the EEG generated for test trials against the DE it is generated "
        f"from: {text} nats."
    )
    return {"best_epoch": best_epoch, "quality": measured}
