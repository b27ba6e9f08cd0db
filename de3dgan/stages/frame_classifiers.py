"""Classifiers of one-second frames: a network, and what else it is given of a frame."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from de3dgan.base import draws
from de3dgan.base.errors import UserError
from de3dgan.data.frames import chunks
from de3dgan.data.ledger import Ledger
from de3dgan.data.memory_maps import reopened
from de3dgan.data.store import Store
from de3dgan.eeg.scaling import RobustScaler
from de3dgan.models import BraindecodeNet, SASTNet, SpectralSASTNet
from de3dgan.models.views import Measured, Reference
from de3dgan.stages.closed_form import Head
from de3dgan.training import checkpoints, distributed
from de3dgan.training.device import Compute

#: Baselines that are measured at a time.
_BASELINE_BATCH = 8


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

    def trained_part(
        self, eeg: Tensor, numbers: np.ndarray, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return what is trained by gradients, of the same: all of the scores, or what is added."""
        return self(eeg, numbers, jitter)

    @property
    @abstractmethod
    def published_net(self) -> SASTNet:
        """The paper's network, which is all of it, or what is added to the head."""

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
    """Our network: it is given frames in µV, and what is measured of their trial's baseline."""

    def __init__(self, net: SpectralSASTNet, *args: Any, **kwargs: Any):
        super().__init__(net, *args, **kwargs)
        self.baseline_index = torch.from_numpy(self.store.baseline_index).to(self.compute.device)
        self.reference = self._references()

    @torch.inference_mode()
    def _references(self) -> Reference:
        """Return what the frames of each baseline are relative to."""
        views, found = self.net.views, []
        for rows in chunks(np.arange(len(self.store.baseline)), _BASELINE_BATCH):
            eeg = self.compute.to_device(reopened(self.store.baseline)[rows])
            if not eeg.isfinite().all():
                self.store.refuse_non_finite("baseline", rows)
            found.append(views.reference(views.measure(eeg), none=self.store.reference == "none"))
        return Reference(*(torch.cat(parts).clone() for parts in zip(*found, strict=True)))

    def in_directions(self, basis: Tensor) -> None:
        """Have covariances taken of the directions between electrodes in columns of `basis`."""
        self.net.views.basis.zero_()
        self.net.views.basis[:, : basis.shape[1]] = basis
        whitening = self.net.views.whitening(self.reference.covariance)
        self.reference = self.reference._replace(whitening=whitening)

    def set_head(self, head: Head) -> None:
        """Give the network a head in closed form."""
        for name in ("mean", "weight", "bias"):
            buffer = getattr(self.net, f"head_{name}")
            buffer.copy_(torch.from_numpy(getattr(head, name)))

    def scale_maps(self, head: Head) -> None:
        """Have the trunk's maps normalised by the statistics that a head has found."""
        n_power = self.net.views.sizes[0]
        mean, std = (
            torch.from_numpy(part[:n_power]).reshape(-1, self.net.views.maps.n_maps)
            for part in (head.mean, head.std)
        )
        variance = std.square().mean(0) + mean.var(0, correction=0)
        self.net.map_mean.copy_(mean.mean(0))
        self.net.map_std.copy_(variance.sqrt().clamp_min(1e-3))

    def __call__(
        self, eeg: Tensor, numbers: np.ndarray, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return scores and features of frames and their baselines."""
        return self.net(*self._seen(eeg, numbers), jitter)

    def trained_part(
        self, eeg: Tensor, numbers: np.ndarray, jitter: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """Return what is added to the scores of the head, and the feature."""
        level = self.net.views.maps.level(eeg)
        return self.net.residual(level, self.reference.level[self._rows(numbers)], jitter)

    @torch.no_grad()
    def head_scores(self, eeg: Tensor, numbers: np.ndarray) -> Tensor:
        """Return the scores of the head, (N, n_classes), which training leaves as they are."""
        return self.net.head(self.features(eeg, numbers))

    @torch.inference_mode()
    def features(self, eeg: Tensor, numbers: np.ndarray) -> Tensor:
        """Return what the head is given of frames, (N, n_features)."""
        return self.net.views(*self._seen(eeg, numbers))

    def _seen(self, eeg: Tensor, numbers: np.ndarray) -> tuple[Measured, Reference]:
        return self.net.measure(eeg), self.reference[self._rows(numbers)]

    def _rows(self, numbers: np.ndarray) -> Tensor:
        self.ledger.note(numbers)  # of baselines, which are read past the frames
        return self.baseline_index[self.compute.to_device(numbers // self.store.n_frames)]

    @property
    def published_net(self) -> SASTNet:
        """What is added to the head."""
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
