"""The epoch loop of all stages: train, validate, keep the best, and be able to stop anywhere."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from de3dgan.base import draws
from de3dgan.base.paths import display_path
from de3dgan.base.seeds import seed_torch
from de3dgan.base.signals import signals_deferred
from de3dgan.data.frames import batches
from de3dgan.training import distributed
from de3dgan.training.curves import tensorboard, write_history
from de3dgan.training.run import Run
from de3dgan.training.state import TrainingState

#: Takes a step in an epoch, counted from 0, on a batch of items; returns mean losses.
TrainStep = Callable[[int, np.ndarray], dict[str, Tensor]]


def fit(
    run: Run,
    nets: dict[str, nn.Module],
    optimisers: dict[str, Optimizer],
    items: np.ndarray,
    purpose: str,
    train_step: TrainStep,
    validate: Callable[[], dict[str, float]],
    *,
    handed_over: str,
    artefacts: Sequence[str],
    monitor: str,
    higher_is_better: bool,
) -> tuple[list[dict[str, float]], int]:
    """Train for the run's epochs, going on from ``state.pt`` if there is one.

    When it returns, the network that is handed over has the weights of its best epoch and is in
    eval mode.

    Parameters
    ----------
    run : Run
        Its directory receives ``state.pt``, ``metrics.jsonl`` and ``tensorboard/`` each epoch.
    nets, optimisers : dict
        Everything that training changes.
    items : array of int
        What an epoch goes through, in random batches: trials or frames.
    purpose : str
        What the order of batches is drawn for, see `seeds`.
    train_step : callable
        Takes a step on a batch of `items`, or this process's share of it.
    validate : callable
        Returns validation figures, with the networks in eval mode.
    handed_over : str
        Which of `nets` the stage hands over: the epoch is chosen for it.
    artefacts : sequence of str
        What the ledger calls what is trained: the items that steps read are noted for them.
    monitor : str
        The validation figure that chooses the epoch; of equal ones the first is kept.
    higher_is_better : bool
        Its direction.

    Returns
    -------
    history : list of dict
        Losses and validation figures of each epoch.
    best_epoch : int

    Raises
    ------
    UserError
        If a loss is not finite; ``state.pt`` is then that of the last good epoch.
    KeyboardInterrupt
        On Ctrl-C or SIGTERM, after the step that was being taken; ``state.pt`` is then of that
        step.
    """
    config = run.config
    n_steps = config.epoch_steps or -(-len(items) // config.batch_size)
    state = TrainingState(run, nets, optimisers, handed_over)
    state.restore()
    for net in nets.values():
        distributed.broadcast_module(net)
    n_done = len(state.history)
    if n_done or state.n_steps:
        write_history(run, state.history)  # a kill may have come between the two files
        within = f", step {state.n_steps} of the next" if state.n_steps else ""
        run.log(f"Going on after epoch {n_done} of {config.epochs}{within}.")
    else:
        run.log(
            f"Training for {config.epochs} epochs of {n_steps} steps in {display_path(run.dir)}."
        )

    # Not `disable=False`, which would overrule tqdm's own variable, TQDM_DISABLE.
    hidden = {"disable": True} if run.quiet or not distributed.is_main_process() else {}
    bar = tqdm(
        total=config.epochs * n_steps,
        initial=n_done * n_steps + state.n_steps,
        desc=f"{config.task} {run.stage}",
        unit="step",
        dynamic_ncols=True,
        **hidden,
    )
    # Of several processes, none may stop where the others go on.
    until_all_stop = signals_deferred() if distributed.world_size() > 1 else nullcontext()
    try:
        with tensorboard(run, n_done) as add_scalar, bar, until_all_stop:
            for epoch in range(n_done, config.epochs):
                start = time.monotonic()
                losses = _train_epoch(state, items, purpose, artefacts, train_step, bar)
                figures = _validate(state, losses, validate)
                with signals_deferred():
                    score = figures[monitor] if higher_is_better else -figures[monitor]
                    state.finish_epoch(figures, score)
                    state.save()
                    write_history(run, state.history)
                    for name, value in figures.items():
                        add_scalar(name, value, epoch)
                    bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()})
                    text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    run.note(f"epoch {epoch}: {text} ({time.monotonic() - start:.1f} s)")
                distributed.interrupt_together()
    except KeyboardInterrupt:
        with signals_deferred():
            state.refuse_blown_up(state.losses.all_reduced().get())
            state.save()
            run.log(
                f"Stopped after epoch {len(state.history)} and step {state.n_steps} of "
                f"{n_steps}. Go on with: {run.config.command()}"
            )
            distributed.barrier()
        raise
    for optimiser in optimisers.values():  # what follows has its own use for the memory
        optimiser.zero_grad(set_to_none=True)
        optimiser.state.clear()
    best_epoch = state.best["epoch"]
    state.handed_over.load_state_dict(state.best["weights"])
    state.handed_over.eval()
    chosen = state.history[best_epoch]
    run.log(f"Chose epoch {best_epoch}: {monitor} {chosen[monitor]:.4g} on validation.")
    return state.history, best_epoch


def _train_epoch(
    state: TrainingState,
    items: np.ndarray,
    purpose: str,
    artefacts: Sequence[str],
    train_step: TrainStep,
    bar: tqdm,
) -> dict[str, float]:
    """Take the steps that are left of an epoch, and return its mean losses."""
    run, config, epoch = state.run, state.run.config, len(state.history)
    if not state.n_steps:
        seed_torch(config.seed, epoch, f"{run.stage}: training")
    for net in state.nets.values():
        net.train()
    drawn = config.batch_size, config.seed, epoch, purpose, config.epoch_steps
    every_batch = batches(items, *drawn)
    for batch in itertools.islice(every_batch, state.n_steps, None):
        with (
            signals_deferred(),
            run.ledger.reading_for(*artefacts),
            distributed.shard(batch) as share,
        ):
            losses = train_step(epoch, share)
            # A batch that all processes compute counts once.
            counts = draws.is_part() or distributed.is_main_process()
            state.losses.add(len(share) if counts else 0, **losses)
            state.n_steps += 1
            bar.update()
        distributed.interrupt_together()
    return state.losses.all_reduced().get()


def _validate(
    state: TrainingState, losses: dict[str, float], validate: Callable[[], dict[str, float]]
) -> dict[str, float]:
    """Return an epoch's losses and validation figures, which must be finite."""
    state.refuse_blown_up(losses)
    for net in state.nets.values():
        net.eval()
    with torch.inference_mode(), state.run.ledger.reading_for("chosen epoch"):
        figures = distributed.broadcast({**losses, **validate()})
    state.refuse_non_finite(figures)
    return figures


def step(optimiser: Optimizer, loss: Tensor, n_samples: int, max_norm: float | None = None) -> None:
    """Step `optimiser` down the gradient of `loss`.

    Parameters
    ----------
    optimiser : Optimizer
        Of the networks that `loss` comes from.
    loss : Tensor, scalar
        A mean over samples.
    n_samples : int
        Their number; of several processes, each has some, and the mean is over all.
    max_norm : float, optional
        Length that the gradient is cut to.
    """
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    optimiser.zero_grad(set_to_none=True)
    if distributed.world_size() > 1:
        loss = loss * (n_samples / distributed.all_reduce_sum(n_samples))
    loss.backward(inputs=parameters)  # nothing for other networks, or for what they are given
    distributed.all_reduce_gradients(parameters)
    if max_norm is not None:
        nn.utils.clip_grad_norm_(parameters, max_norm)
    optimiser.step()
