"""The epoch loop of all stages: train, validate, keep the best, and be able to stop anywhere."""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from copy import deepcopy
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from de3dgan.base import draws
from de3dgan.base.errors import UserError
from de3dgan.base.files import write_text
from de3dgan.base.paths import display_path
from de3dgan.base.seeds import seed_torch
from de3dgan.base.signals import held_back
from de3dgan.data.frames import batches
from de3dgan.training import checkpoints, distributed
from de3dgan.training.run import Run

#: Takes a step in an epoch, counted from 0, on a batch of items; returns mean losses.
TrainStep = Callable[[int, np.ndarray], dict[str, Tensor]]


class Means:
    """Running means of losses that stay on the device until they are asked for."""

    def __init__(self):
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, n: int = 1, **values: Tensor) -> None:
        """Add values that are means over `n` samples."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach() * n
            self.counts[name] = self.counts.get(name, 0) + n

    def added(self) -> Means:
        """Return the means over all processes."""
        if distributed.world_size() == 1:
            return self
        together = Means()
        for sums, counts in distributed.all_gather((self._sums_as_floats(), self.counts)):
            for name, total in sums.items():
                together.sums[name] = together.sums.get(name, 0) + torch.tensor(total)
                together.counts[name] = together.counts.get(name, 0) + counts[name]
        return together

    def get(self) -> dict[str, float]:
        """Return the means."""
        sums = self._sums_as_floats()
        return {name: total / self.counts[name] for name, total in sums.items()}

    def _sums_as_floats(self) -> dict[str, float]:
        return {name: float(total) for name, total in self.sums.items()}


class Training:
    """What training changes, and how far it has come: what ``state.pt`` holds.

    Parameters
    ----------
    run : Run
        The run.
    nets, optimisers : dict
        Everything that training changes.
    handed_over : str
        The network whose best weights are kept.

    Attributes
    ----------
    history : list of dict
        Losses and validation figures of each finished epoch.
    best : dict
        Number, score and weights of the best of them.
    n_steps : int
        Steps taken in the epoch after them.
    losses : Means
        Losses of these steps.
    """

    def __init__(
        self,
        run: Run,
        nets: dict[str, nn.Module],
        optimisers: dict[str, Optimizer],
        handed_over: str,
    ):
        self.run, self.nets, self.optimisers = run, nets, optimisers
        self.handed_over = nets[handed_over]
        self.path = run.dir / "state.pt"
        self.history: list[dict[str, float]] = []
        self.best: dict[str, Any] = {"epoch": -1, "score": None, "weights": {}}
        self.n_steps = 0
        self.losses = Means()

    def save(self) -> None:
        """Write ``state.pt``; of several processes, the first one for all of them."""
        losses = self.losses.added()
        for content in distributed.all_gather(self.run.ledger.content()):
            self.run.ledger.add(content)
        seen = self.run.ledger.content()
        if not distributed.is_main_process():
            return
        device = self.run.device
        rng = [torch.get_rng_state()]
        if device.type == "cuda":
            rng.append(torch.cuda.get_rng_state(device))
        content = {
            "of": self.run.identity,
            "spent": self.run.spent(),
            "seen": seen,
            "nets": {name: net.state_dict() for name, net in self.nets.items()},
            "optimisers": {name: opt.state_dict() for name, opt in self.optimisers.items()},
            "history": self.history,
            "best": self.best,
            "n_steps": self.n_steps,
            "losses": vars(losses),
            # Each epoch is seeded anew; only one that has begun goes on with what it has drawn.
            "rng": rng if self.n_steps else [],
        }
        checkpoints.save(self.path, content)

    def restore(self) -> None:
        """Go on from ``state.pt``, if there is one."""
        if not self.path.is_file():
            return
        run = self.run
        state = run.read_state()
        try:
            for name, net in self.nets.items():
                net.load_state_dict(state["nets"][name])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
            run.before.update(state["spent"])
            run.ledger.add(state["seen"])
            self.history, self.best = state["history"], state["best"]
            self.n_steps = state["n_steps"]
            if distributed.is_main_process():  # they are those of all processes
                self.losses.counts = state["losses"]["counts"]
                self.losses.sums = {
                    name: total.to(run.device) for name, total in state["losses"]["sums"].items()
                }
            if self.n_steps:
                torch.set_rng_state(state["rng"][0])
                if run.device.type == "cuda":
                    for of_gpu in state["rng"][1:]:  # of one process's; the others draw the same
                        torch.cuda.set_rng_state(of_gpu, run.device)
            if state["history"]:  # which no step looks at, but the end of training
                first = self.handed_over.state_dict()
                shapes = [
                    {name: value.shape for name, value in weights.items()}
                    for weights in (first, self.best["weights"])
                ]
                if shapes[0] != shapes[1] or not 0 <= self.best["epoch"] < len(self.history):
                    raise ValueError("the best epoch is none of these networks")
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError):
            raise UserError(f"{display_path(self.path)} is damaged; {run.begin_anew}") from None

    def finish_epoch(self, figures: dict[str, float], score: float) -> None:
        """Note what an epoch gave; the network handed over is kept if `score` is the highest."""
        epoch = len(self.history)
        self.history.append({"epoch": epoch, **figures})
        if self.best["score"] is None or score > self.best["score"]:
            weights = self.handed_over.state_dict()
            weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
            self.best = {"epoch": epoch, "score": score, "weights": weights}
        self.n_steps, self.losses = 0, Means()


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
        What an epoch goes through once, in random batches: trials or frames.
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
    n_steps = -(-len(items) // config.batch_size)
    training = Training(run, nets, optimisers, handed_over)
    training.restore()
    for net in nets.values():
        distributed.broadcast_module(net)
    n_done = len(training.history)
    if n_done or training.n_steps:
        _write_history(run, training.history)  # a kill may have come between the two files
        within = f", step {training.n_steps} of the next" if training.n_steps else ""
        run.log(f"Going on after epoch {n_done} of {config.epochs}{within}.")
    else:
        run.log(
            f"Training for {config.epochs} epochs of {n_steps} steps in {display_path(run.dir)}."
        )

    bar = tqdm(
        total=config.epochs * n_steps,
        initial=n_done * n_steps + training.n_steps,
        desc=f"{config.task} {run.stage}",
        unit="step",
        dynamic_ncols=True,
        disable=not distributed.is_main_process(),
    )
    # Of several processes, none may stop where the others go on.
    until_all_stop = held_back() if distributed.world_size() > 1 else nullcontext()
    try:
        with _tensorboard(run, n_done) as add_scalar, bar, until_all_stop:
            for epoch in range(n_done, config.epochs):
                start = time.monotonic()
                figures = _epoch(training, items, purpose, artefacts, train_step, validate, bar)
                with held_back():
                    score = figures[monitor] if higher_is_better else -figures[monitor]
                    training.finish_epoch(figures, score)
                    training.save()
                    _write_history(run, training.history)
                    for name, value in figures.items():
                        add_scalar(name, value, epoch)
                    bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()})
                    text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
                    run.note(f"epoch {epoch}: {text} ({time.monotonic() - start:.1f} s)")
                distributed.interrupt_together()
    except KeyboardInterrupt:
        with held_back():
            _refuse_blown_up(training, training.losses.added().get())
            training.save()
            run.log(
                f"Stopped after epoch {len(training.history)} and step {training.n_steps} of "
                f"{n_steps}. Go on with: {run.config.command()}"
            )
            distributed.barrier()
        raise
    for optimiser in optimisers.values():  # what follows has its own use for the memory
        optimiser.zero_grad(set_to_none=True)
        optimiser.state.clear()
    best_epoch = training.best["epoch"]
    training.handed_over.load_state_dict(training.best["weights"])
    training.handed_over.eval()
    chosen = training.history[best_epoch]
    run.log(f"Chose epoch {best_epoch}: {monitor} {chosen[monitor]:.4g} on validation.")
    return training.history, best_epoch


def _epoch(
    training: Training,
    items: np.ndarray,
    purpose: str,
    artefacts: Sequence[str],
    train_step: TrainStep,
    validate: Callable[[], dict[str, float]],
    bar: tqdm,
) -> dict[str, float]:
    """Train what is left of an epoch, and validate; return the losses and the figures."""
    run, nets, epoch = training.run, training.nets, len(training.history)
    config = run.config
    if not training.n_steps:
        seed_torch(config.seed, epoch, f"{run.stage}: training")
    for net in nets.values():
        net.train()
    every_batch = batches(items, config.batch_size, config.seed, epoch, purpose)
    for batch in itertools.islice(every_batch, training.n_steps, None):
        with held_back(), run.ledger.by(*artefacts), distributed.shard(batch) as share:
            losses = train_step(epoch, share)
            # A batch that all processes compute counts once.
            counts = draws.is_part() or distributed.is_main_process()
            training.losses.add(len(share) if counts else 0, **losses)
            training.n_steps += 1
            bar.update()
        distributed.interrupt_together()
    losses = training.losses.added().get()
    _refuse_blown_up(training, losses)
    for net in nets.values():
        net.eval()
    with torch.inference_mode(), run.ledger.by("chosen epoch"):
        figures = distributed.broadcast({**losses, **validate()})
    _refuse_non_finite(figures, run, epoch)
    return figures


@contextmanager
def _tensorboard(run: Run, n_epochs: int) -> Iterator[Callable[[str, float, int], None]]:
    """Give what adds a point to TensorBoard's curves; it does nothing where that is missing."""
    if not distributed.is_main_process():
        yield lambda name, value, epoch: None
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        run.log("TensorBoard is not installed: metrics.jsonl holds the curves.")
        yield lambda name, value, epoch: None
        return
    writer = SummaryWriter(run.dir / "tensorboard", purge_step=n_epochs)
    try:
        yield writer.add_scalar
    finally:
        with suppress(OSError):  # of a full disk, of which other files have told
            writer.close()


def _write_history(run: Run, history: list[dict[str, float]]) -> None:
    if distributed.is_main_process():
        lines = "".join(json.dumps(line) + "\n" for line in history)
        write_text(run.dir / "metrics.jsonl", lines)


class EMA(nn.Module):
    """A copy of a network whose weights follow the network's slowly.

    They are an exponential moving average, over the last 1 / (1 - `decay`) steps or so, and over
    fewer in the beginning. It is steadier than the weights of any one step. PyTorch's
    `AveragedModel` does the same, and waits for the device in every step.

    Parameters
    ----------
    net : Module
        The network.
    decay : float
        What is kept of the average in a step; at 0, it is the network itself.

    Attributes
    ----------
    module : Module
        The copy.
    """

    def __init__(self, net: nn.Module, decay: float):
        super().__init__()
        self.module = deepcopy(net) if decay else net
        self.decay = decay
        self.register_buffer("n_averaged", torch.tensor(0))  # stays with the processor

    @torch.no_grad()
    def update(self, net: nn.Module) -> None:
        """Take a step towards the weights of `net`."""
        n_steps = int(self.n_averaged)
        self.n_averaged += 1
        if not self.decay:
            return
        kept = min(self.decay, (1 + n_steps) / (10 + n_steps)) if n_steps else 0
        ours, theirs = self.module.state_dict(), net.state_dict()
        moving = [name for name, value in ours.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [ours.pop(name) for name in moving], [theirs.pop(name) for name in moving], 1 - kept
        )
        for name, count in ours.items():
            count.copy_(theirs[name])


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


def _refuse_blown_up(training: Training, losses: dict[str, float]) -> None:
    run, epoch = training.run, len(training.history)
    _refuse_non_finite(losses, run, epoch)
    for name, net in training.nets.items():
        if not all(weights.isfinite().all() for weights in net.state_dict().values()):
            _give_up(run, epoch, f"A weight of the {name} became NaN or infinite")


def _refuse_non_finite(figures: dict[str, float], run: Run, epoch: int) -> None:
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        _give_up(run, epoch, f"{bad[0]} became {figures[bad[0]]}")


def _give_up(run: Run, epoch: int, reason: str) -> NoReturn:
    for part in ("train", "val"):  # is it what the network was given?
        run.store.refuse_non_finite_eeg(run.split.trials(part))
    state = run.dir / "state.pt"
    kept = f"; {display_path(state)} is that of the last good epoch" if state.is_file() else ""
    raise UserError(
        f"{reason} in epoch {epoch}, so training stopped{kept}: begin anew with a lower learning "
        "rate and --restart."
    )
