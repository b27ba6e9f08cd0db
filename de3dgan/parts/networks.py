"""SA-ST-Net with the constructor and the contract of braindecode's networks.

They take EEG of any montage, sampling rate, unit and length, and run in whatever trains networks of
braindecode, which need not be installed. Inside is what the stages train. There it is given
statistics of the training split, and of each trial its baseline; here it is given nothing but EEG.
So means and variances are learnt while training goes on, as batch norm does, and there is no
baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from de3dgan.base.errors import as_value_errors
from de3dgan.data.montages import find_montage, grid_of
from de3dgan.eeg.montage import Grid, canonical, refuse_twice
from de3dgan.eeg.sampling import FRAME, SFREQ, n_resampled, polyphase
from de3dgan.models import SASTNet
from de3dgan.models.blocks import float32
from de3dgan.models.views import Measured, Views
from de3dgan.parts.hub import OnHub
from de3dgan.training import model_card

#: Variance below which an electrode counts as silent: far below that of EEG in V.
_SILENT = 1e-20
#: Standard deviations that samples are clipped to: of a normal distribution, the 99 % quantile.
_CLIPPED = 2.326


class Resampled(nn.Module):
    """EEG at 128 Hz, by the polyphase filter of `de3dgan.eeg.sampling.resampled`.

    Parameters
    ----------
    sfreq : float
        Sampling rate of what it is given, in Hz.

    Raises
    ------
    ValueError
        If the rate is no simple ratio to 128 Hz.
    """

    def __init__(self, sfreq: float):
        super().__init__()
        self.sfreq = sfreq
        filters, self.down, self.margin = polyphase(sfreq)
        self.register_buffer("filters", torch.from_numpy(filters.copy()).float()[:, None], False)

    def forward(self, x: Tensor) -> Tensor:
        """Map EEG (B, n_chans, n_times) to (B, n_chans, `n_resampled`)."""
        if self.sfreq == SFREQ:
            return x
        n_times = x.shape[2]
        behind = -n_times % self.down + self.margin
        padded = F.pad(x, (self.margin, behind), mode="replicate").flatten(0, 1)[:, None]
        found = F.conv1d(padded, self.filters, stride=self.down).mT.flatten(1)
        return found[:, : n_resampled(n_times, self.sfreq)].unflatten(0, x.shape[:2])


class Decoder(OnHub, nn.Module):
    """What both networks have in common: braindecode's contract.

    EEG is resampled to 128 Hz, and each electrode z-scored by mean and variance over all EEG that
    was trained on, so that V and µV are the same. It is cut into seconds, a rest of less than one
    being left out; the scores are the mean of theirs.

    Parameters
    ----------
    n_chans, n_outputs, n_times, sfreq, chs_info
        See `SASTDecoder`.
    **shape
        What else the network was made with.
    """

    def __init__(
        self,
        n_chans: int | None,
        n_outputs: int | None,
        n_times: int | None,
        sfreq: float | None,
        chs_info: Sequence[Mapping[str, Any]] | None,
        **shape: Any,
    ):
        super().__init__()
        self.ch_names, self.grid = _electrodes(n_chans, chs_info)
        if n_outputs is None or sfreq is None:
            raise ValueError(
                f"{type(self).__name__} must know how many classes there are and how EEG is "
                "sampled: give n_outputs and sfreq (of an EEGClassifier, module__sfreq)."
            )
        if n_times is not None and n_resampled(n_times, sfreq) < FRAME:
            raise ValueError(
                f"{type(self).__name__} takes a second of EEG or more, and {n_times} samples at "
                f"{sfreq} Hz are less: give longer windows."
            )
        self.n_chans, self.n_outputs, self.n_times = len(self.ch_names), n_outputs, n_times
        self.sfreq, self.chs_info = sfreq, [{"ch_name": name} for name in self.ch_names]
        #: What it is made with, as JSON holds it; also what the Hub is given.
        self.arguments = self._hub_mixin_config = {
            "n_chans": self.n_chans,
            "n_outputs": n_outputs,
            "n_times": n_times,
            "sfreq": float(sfreq),
            "chs_info": self.chs_info,
            **shape,
        }
        self.resampled = Resampled(sfreq)
        # Over all batches: the moving average that is usual begins with a variance of 1, of V.
        self.scale = nn.BatchNorm1d(self.n_chans, eps=_SILENT, momentum=None, affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return class scores.

        Parameters
        ----------
        x : Tensor, (B, n_chans, n_times)
            EEG at `sfreq`, in any unit.

        Returns
        -------
        Tensor, (B, n_outputs)
        """
        x = self.scale(self.resampled(x.to(self.scale.running_mean)))
        frames = x.unfold(2, FRAME, FRAME).transpose(1, 2)
        return self.of_frames(frames.flatten(0, 1)).unflatten(0, frames.shape[:2]).mean(1)

    def of_frames(self, frames: Tensor) -> Tensor:
        """Return the scores (N, n_outputs) of seconds of z-scored EEG, (N, n_chans, FRAME)."""
        raise NotImplementedError

    def card(self, said: str = "") -> str:
        """Return the model card; see `OnHub.card`."""
        name = type(self).__name__
        n_parameters = sum(parameter.numel() for parameter in self.parameters())
        return model_card.card(
            name,
            said or "**What it was trained on, and how well it does, is not said here.**",
            {
                "What it is": [
                    f"A classifier of EEG: {type(self).__doc__.partition(chr(10))[0]} "
                    f"{n_parameters:,} parameters, {self.n_outputs} classes.",
                    "```python\nfrom de3dgan.parts.networks import "
                    f'{name}\n\nnet = {name}.from_pretrained("…")\n```',
                    "It takes EEG in any unit, of a second or more, at "
                    f"{self.sfreq:g} Hz, of these {self.n_chans} electrodes in this order: "
                    f"{', '.join(self.ch_names)}.",
                ],
                "Limits": model_card.bullets(model_card.LIMITS[:1]),
                "Licence": [
                    "The code is under the MIT licence. What may be done with the network depends "
                    "on the licence of the recordings that it was trained on as well."
                ],
            },
        )


class SASTDecoder(Decoder):
    """SA-ST-Net on maps of log power, beside a linear layer on views of power and covariance.

    Views (`de3dgan.models.views`) are relative to no baseline, and z-scored by mean and variance
    over all EEG that was trained on. The linear layer is trained, where the stages have it in
    closed form.

    Parameters
    ----------
    n_chans : int, optional
        Channels of the EEG; as many as `chs_info` has.
    n_outputs : int
        Number of classes.
    n_times : int, optional
        Samples of a window: refused if they are less than a second. Others than these are taken
        as well.
    sfreq : float
        Sampling rate in Hz; what is not 128 Hz is resampled.
    chs_info : list of dict
        ``info["chs"]`` of MNE, of which the names are used: ``[{"ch_name": "Fp1"}, …]``. They say
        where on the grid an electrode is.
    n_filters : int
        Bands of log power.
    widths : sequence of int, length 5
        Feature maps of the trunk.
    n_features : int
        Length of the feature before the trunk's last layer.
    drop_prob : float
        Probability of dropping a value of the trunk's output, in training.
    noise : float
        Standard deviation of the noise that is added to z-scored maps in training.

    Raises
    ------
    ValueError
        If an argument is missing, or an electrode is in no montage of MNE's.
    """

    def __init__(
        self,
        n_chans: int | None = None,
        n_outputs: int | None = None,
        n_times: int | None = None,
        sfreq: float | None = None,
        chs_info: Sequence[Mapping[str, Any]] | None = None,
        n_filters: int = 16,
        widths: Sequence[int] = (16, 16, 16, 16, 16),
        n_features: int = 128,
        drop_prob: float = 0.7,
        noise: float = 1.0,
    ):
        shape = {"n_filters": n_filters, "widths": list(widths), "n_features": n_features}
        shape |= {"drop_prob": drop_prob, "noise": noise}
        super().__init__(n_chans, n_outputs, n_times, sfreq, chs_info, **shape)
        self.noise = noise
        self.views = Views(self.n_chans, self.grid.pairs(), n_filters)
        sizes, n_maps = self.views.sizes, self.views.maps.n_maps
        self.norm = nn.BatchNorm1d(sum(sizes), momentum=None, affine=False)
        # A view counts as much as another, however many features it has.
        shares = torch.cat([torch.full((n,), max(n, 1) ** -0.5) for n in sizes])
        self.register_buffer("shares", shares, False)
        self.linear = nn.Linear(sum(sizes), n_outputs)
        self.net = SASTNet(
            self.ch_names, n_outputs, n_maps, widths, n_features, drop_prob, self.grid
        )
        for layer in (self.linear, self.net.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def of_frames(self, frames: Tensor) -> Tensor:
        """Return the scores of frames, those of the linear layer and of the trunk together."""
        seen = self.norm(self.seen(frames))
        maps = seen[:, : self.views.sizes[0]].unflatten(1, (self.n_chans, -1))
        if self.training:
            maps = maps + self.noise * torch.randn_like(maps)
        return self.linear(seen * self.shares) + self.net(maps)[0]

    @float32
    def seen(self, frames: Tensor) -> Tensor:
        """Return the features of all views of frames, relative to no baseline."""
        measured = self.views.measure(frames)
        one = Measured(*(part[:1] for part in measured))  # all have the same reference, none
        return self.views(measured, self.views.reference(one, none=True))


class PublishedSASTDecoder(Decoder):
    """SA-ST-Net as published, which convolves over the electrode grid with samples as input maps.

    Parameters
    ----------
    n_chans, n_outputs, n_times, sfreq, chs_info
        See `SASTDecoder`.
    widths : sequence of int, length 5
        Feature maps of the trunk.
    n_features : int
        Length of the feature before the last layer.
    drop_prob : float
        Probability of dropping a value of the trunk's output, in training.

    Raises
    ------
    ValueError
        See `SASTDecoder`.
    """

    def __init__(
        self,
        n_chans: int | None = None,
        n_outputs: int | None = None,
        n_times: int | None = None,
        sfreq: float | None = None,
        chs_info: Sequence[Mapping[str, Any]] | None = None,
        widths: Sequence[int] = (256, 128, 64, 32, 16),
        n_features: int = 1024,
        drop_prob: float = 0.5,
    ):
        shape = {"widths": list(widths), "n_features": n_features, "drop_prob": drop_prob}
        super().__init__(n_chans, n_outputs, n_times, sfreq, chs_info, **shape)
        self.net = SASTNet(
            self.ch_names, n_outputs, FRAME, widths, n_features, drop_prob, self.grid
        )

    def of_frames(self, frames: Tensor) -> Tensor:
        """Return the scores of frames, clipped to what 98 % of normal samples are within."""
        logits, _ = self.net(frames.clamp(-_CLIPPED, _CLIPPED))
        return logits


def _electrodes(
    n_chans: int | None, chs_info: Sequence[Mapping[str, Any]] | None
) -> tuple[list[str], Grid]:
    """Return the names of electrodes, and the grid that a store of them has."""
    if chs_info is None:
        raise ValueError(
            "SA-ST-Net sees electrodes where they are on the head, and has to know their names: "
            'give chs_info, such as epochs.info["chs"] of MNE or [{"ch_name": "Fp1"}, …].'
        )
    names = [canonical(channel["ch_name"]) for channel in chs_info]
    if n_chans is not None and n_chans != len(names):
        raise ValueError(
            f"There are {n_chans} channels (n_chans), and chs_info has {len(names)}: give the "
            "names of those that there are."
        )
    with as_value_errors():
        refuse_twice(names)
        return names, grid_of(names, find_montage(names))
