"""What training changes and how far it has come, as ``state.pt`` holds it to go on from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from torch import nn
from torch.optim import Optimizer

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path
from de3dgan.training import checkpoints, distributed
from de3dgan.training.means import Means

if TYPE_CHECKING:  # given a run, neither needs its module
    from de3dgan.training.run import Run


class TrainingState:
    """The networks and optimisers of a run, and the epochs that they have been trained for.

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
        """Write ``state.pt``; of several processes, the main one for all of them."""
        losses = self.losses.all_reduced()
        for seen in distributed.all_gather(self.run.ledger.content()):
            self.run.ledger.add(seen)
        seen = self.run.ledger.content()
        if not distributed.is_main_process():
            return
        device = self.run.device
        rng = [torch.get_rng_state()]
        if device.type == "cuda":
            rng.append(torch.cuda.get_rng_state(device))
        content = {
            "identity": self.run.identity,
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
        """Go on from what ``state.pt`` held when the run was opened, if there was one."""
        run = self.run
        state = run.state.copy()
        if not state:
            return
        run.state.clear()  # its tensors are not needed twice
        with checkpoints.refused_if_damaged(self.path, run.begin_anew):
            for name, net in self.nets.items():
                net.load_state_dict(state["nets"][name])
            for name, optimiser in self.optimisers.items():
                optimiser.load_state_dict(state["optimisers"][name])
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
                    for gpu_rng in state["rng"][1:]:  # one process's; the others draw the same
                        torch.cuda.set_rng_state(gpu_rng, run.device)

    def finish_epoch(self, figures: dict[str, float], score: float) -> None:
        """Note what an epoch gave; the network handed over is kept if `score` is the highest."""
        epoch = len(self.history)
        self.history.append({"epoch": epoch, **figures})
        if self.best["score"] is None or score > self.best["score"]:
            weights = self.handed_over.state_dict()
            weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
            self.best = {"epoch": epoch, "score": score, "weights": weights}
        self.n_steps, self.losses = 0, Means()

    def refuse_blown_up(self, figures: dict[str, float]) -> None:
        """Refuse to go on if a weight, or one of `figures`, is not finite.

        Raises
        ------
        UserError
            Naming it, or the EEG that is not finite if that is why.
        """
        self.refuse_non_finite(figures)
        for name, net in self.nets.items():
            if not all(weights.isfinite().all() for weights in net.state_dict().values()):
                self._give_up(f"A weight of the {name} became NaN or infinite")

    def refuse_non_finite(self, figures: dict[str, float]) -> None:
        """Refuse to go on if one of `figures` is not finite; see `refuse_blown_up`."""
        for name, value in figures.items():
            if not math.isfinite(value):
                self._give_up(f"{name} became {value}")

    def _give_up(self, reason: str) -> NoReturn:
        for part in ("train", "val"):  # is it what the network was given?
            self.run.store.refuse_non_finite_eeg(self.run.split.trials(part))
        kept = (
            f"; {display_path(self.path)} is that of the last good epoch"
            if self.path.is_file()
            else ""
        )
        raise UserError(
            f"{reason} in epoch {len(self.history)}, so training stopped{kept}: begin anew with a "
            "lower learning rate and --restart."
        )
