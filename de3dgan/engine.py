"""The epoch loop of all stages: train, validate, keep the best, and be able to stop anywhere."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from de3dgan import checkpoints
from de3dgan.errors import UserError
from de3dgan.files import write_text
from de3dgan.paths import shown
from de3dgan.run import Run
from de3dgan.seeds import seed_torch

#: Trains one epoch, calling its second argument after each step; returns mean losses.
TrainEpoch = Callable[[int, Callable[[], Any]], dict[str, float]]

#: Ends the name of a network whose averaged weights are the one without.
IN_TRAINING = " in training"


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

    def get(self) -> dict[str, float]:
        """Return the means."""
        return {name: float(total) / self.counts[name] for name, total in self.sums.items()}


def fit(
    run: Run,
    nets: dict[str, nn.Module],
    optimisers: dict[str, Optimizer],
    train_epoch: TrainEpoch,
    validate: Callable[[], dict[str, float]],
    n_steps: int,
    monitor: str,
    higher_is_better: bool,
) -> tuple[list[dict[str, float]], int]:
    """Train for the run's epochs, going on from ``state.pt`` if there is one.

    When it returns, the first of `nets` has the weights of its best epoch and is in eval mode.

    Parameters
    ----------
    run : Run
        Its directory receives ``state.pt``, ``metrics.jsonl`` and ``tensorboard/`` each epoch.
    nets, optimisers : dict
        Everything that training changes. The first network is the one handed over.
    train_epoch : callable
        Trains one epoch, counted from 0.
    validate : callable
        Returns validation figures, with the networks in eval mode.
    n_steps : int
        Steps per epoch, for the progress bar.
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
    """
    handed_over = next(iter(nets.values()))
    history: list[dict[str, float]] = []
    best: dict[str, Any] = {"epoch": -1, "score": None, "weights": {}}
    state_path = run.dir / "state.pt"
    if state_path.is_file():
        remedy = f"begin anew with: {run.command(run.stage)} --restart"
        state = checkpoints.load(state_path, remedy)
        if state.get("fingerprint") != run.split.fingerprint or set(state["nets"]) != set(nets):
            raise UserError(f"{shown(state_path)} is of another run; {remedy}")
        run.before.update(state["spent"])
        run.ledger.add(state["seen"])
        for name, net in nets.items():
            net.load_state_dict(state["nets"][name])
        for name, optimiser in optimisers.items():
            optimiser.load_state_dict(state["optimisers"][name])
        history, best = state["history"], state["best"]
        _write_history(run, history)  # a kill may have come between the two files
        run.log(f"Going on after epoch {len(history)} of {run.config.epochs}.")
    else:
        run.log(f"Training for {run.config.epochs} epochs of {n_steps} steps in {shown(run.dir)}.")

    bar = tqdm(
        total=run.config.epochs * n_steps,
        initial=len(history) * n_steps,
        desc=f"{run.config.task} {run.stage}",
        unit="step",
        dynamic_ncols=True,
    )
    with _tensorboard(run, len(history)) as add_scalar, bar:
        for epoch in range(len(history), run.config.epochs):
            start = time.monotonic()
            seed_torch(run.config.seed, epoch, f"{run.stage}: training")
            for net in nets.values():
                net.train()
            # A network and the average of its weights are one artefact.
            with run.ledger.by(*{name.removesuffix(IN_TRAINING) for name in nets}):
                losses = train_epoch(epoch, bar.update)
            _refuse_non_finite(losses, run, epoch)
            for name, net in nets.items():
                net.eval()
                if not all(weights.isfinite().all() for weights in net.state_dict().values()):
                    _give_up(run, epoch, f"A weight of the {name} became NaN or infinite")
            with torch.inference_mode(), run.ledger.by("chosen epoch"):
                figures = {**losses, **validate()}
            _refuse_non_finite(figures, run, epoch)
            history.append({"epoch": epoch, **figures})
            score = figures[monitor] if higher_is_better else -figures[monitor]
            if best["score"] is None or score > best["score"]:
                weights = {k: v.detach().cpu().clone() for k, v in handed_over.state_dict().items()}
                best = {"epoch": epoch, "score": score, "weights": weights}

            checkpoints.save(
                state_path,
                {
                    "fingerprint": run.split.fingerprint,
                    "spent": run.spent(),
                    "seen": run.ledger.content(),
                    "nets": {name: net.state_dict() for name, net in nets.items()},
                    "optimisers": {name: opt.state_dict() for name, opt in optimisers.items()},
                    "history": history,
                    "best": best,
                },
            )
            _write_history(run, history)
            for name, value in figures.items():
                add_scalar(name, value, epoch)
            bar.set_postfix({name: f"{value:.4g}" for name, value in figures.items()})
            _note(run, epoch, figures, time.monotonic() - start)
    handed_over.load_state_dict(best["weights"])
    handed_over.eval()
    chosen = history[best["epoch"]]
    run.log(f"Chose epoch {best['epoch']}: {monitor} {chosen[monitor]:.4g} on validation.")
    return history, best["epoch"]


@contextmanager
def _tensorboard(run: Run, n_epochs: int) -> Iterator[Callable[[str, float, int], None]]:
    """Give what adds a point to TensorBoard's curves; it does nothing where that is missing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        run.log("TensorBoard is not installed: metrics.jsonl holds the curves.")
        yield lambda name, value, epoch: None
        return
    with SummaryWriter(run.dir / "tensorboard", purge_step=n_epochs) as writer:
        yield writer.add_scalar


def _write_history(run: Run, history: list[dict[str, float]]) -> None:
    write_text(run.dir / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in history))


def averaged(net: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of `net` whose weights follow those of `net` slowly, at `update_parameters`.

    They are an exponential moving average, over the last 1 / (1 - `decay`) steps or so, and over
    fewer in the beginning. It is steadier than the weights of any one step.
    """

    @torch.no_grad()
    def follow(averages: list[Tensor], values: list[Tensor], n_steps: Tensor) -> None:
        if averages[0].is_floating_point():
            kept = min(decay, float((1 + n_steps) / (10 + n_steps)))
            torch._foreach_lerp_(averages, values, 1 - kept)
        else:
            torch._foreach_copy_(averages, values)

    return AveragedModel(net, multi_avg_fn=follow, use_buffers=True)


def step(optimiser: Optimizer, loss: Tensor, max_norm: float | None = None) -> None:
    """Step `optimiser` down the gradient of `loss`, cut to a length of `max_norm` if given."""
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    if max_norm is not None:
        nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], max_norm)
    optimiser.step()


def _note(run: Run, epoch: int, figures: dict[str, float], seconds: float) -> None:
    text = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    with open(run.dir / "log.txt", "a") as file:
        file.write(f"{time.strftime('%H:%M:%S')}  epoch {epoch}: {text} ({seconds:.1f} s)\n")


def _refuse_non_finite(figures: dict[str, float], run: Run, epoch: int) -> None:
    bad = [name for name, value in figures.items() if not math.isfinite(value)]
    if bad:
        _give_up(run, epoch, f"{bad[0]} became {figures[bad[0]]}")


def _give_up(run: Run, epoch: int, reason: str) -> NoReturn:
    state = run.dir / "state.pt"
    kept = f"; {shown(state)} is that of the last good epoch" if state.is_file() else ""
    raise UserError(
        f"{reason} in epoch {epoch}, so training stopped{kept}: begin anew with a lower learning "
        "rate and --restart."
    )
