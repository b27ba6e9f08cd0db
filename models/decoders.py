"""Networks of others for decoding EEG: any of ``braindecode``'s, by its name.

braindecode (https://braindecode.org) is optional, and imported when a network of it is made. It
imports torchaudio for a few of its networks, and fails without. Where torchaudio is not there, or
is not made for this PyTorch, placeholders take its place while braindecode is imported, so that all
other networks work.
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from de3dgan.base.errors import UserError
from de3dgan.eeg.montage import DEAP_CHANNELS, refuse_twice
from de3dgan.eeg.sampling import FRAME, SFREQ

INSTALL = "make braindecode"
#: Arguments of networks whose own are for longer EEG than a frame: shorter kernels and pools.
FOR_A_FRAME: dict[str, dict[str, Any]] = {
    # Four pools by 2 instead of 3, kernels half as long: 4 samples are left before the last layer.
    "Deep4Net": {
        **dict.fromkeys(("filter_time_length", "filter_length_2"), 5),
        **dict.fromkeys(("filter_length_3", "filter_length_4"), 5),
        **dict.fromkeys(("pool_time_length", "pool_time_stride"), 2),
    },
    # Pools by 4 and 4 instead of 8 and 7: 8 samples are left, for windows of 7.
    "ATCNet": {"conv_block_pool_size_1": 4, "conv_block_pool_size_2": 4, "n_windows": 2},
}
#: Networks that fetch a file from the internet when they are made.
_NOT_OFFLINE = {"REVE"}
#: More than any task has: what a damaged checkpoint asks for is refused before it takes memory.
_MOST_CLASSES = 1024
_TORCHAUDIO = ("torchaudio", "torchaudio.functional", "torchaudio.transforms")
_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class NotInstalled(UserError):
    """braindecode, or what it needs, cannot be imported."""


class BraindecodeNet(nn.Module):
    """A network of braindecode's, and the feature before its last layer.

    Parameters
    ----------
    name : str
        Name of a class of ``braindecode.models``.
    ch_names : sequence of str, length n_chans
        Electrodes of the EEG.
    n_classes : int
        Number of classes.

    Raises
    ------
    UserError
        If braindecode is not installed, has no such network, or it does not take such EEG.
    """

    def __init__(self, name: str, ch_names: Sequence[str] = DEAP_CHANNELS, n_classes: int = 2):
        super().__init__()
        refuse_twice(ch_names)
        self.arguments = {"name": name, "ch_names": list(ch_names), "n_classes": n_classes}
        known = networks()
        if name not in known:
            raise UserError(
                f"There is no network {name!r}: choose SASTNet, or of braindecode "
                f"{', '.join(sorted(known))}."
            )
        if n_classes > _MOST_CLASSES:
            raise ValueError(f"{n_classes} classes")
        try:
            with torch.device("cpu"):  # some read the values of their weights when they are made
                self.net = known[name](
                    n_outputs=n_classes,
                    n_times=FRAME,
                    sfreq=SFREQ,
                    n_chans=len(ch_names),
                    chs_info=_channels(ch_names),
                    **FOR_A_FRAME.get(name, {}),
                ).eval()
                self.last_layers = self._find_last_layers(torch.zeros(2, len(ch_names), FRAME))
            self.train()
        except Exception as error:  # braindecode's networks raise whatever they like
            raise UserError(
                f"The network {name} does not take frames of {FRAME} samples of {len(ch_names)} "
                f"electrodes as braindecode has it ({_first_line(error)}): choose another one."
            ) from None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return class scores and the feature they are computed from.

        Parameters
        ----------
        x : Tensor, (N, n_chans, FRAME)
            Normalised EEG.

        Returns
        -------
        logits : Tensor, (N, n_classes)
        feature : Tensor, (N, n_features)
            What the last layer is given; where several last layers' scores are averaged, all of it.
        """
        features = []
        hooks = [
            self.net.get_submodule(name).register_forward_pre_hook(
                lambda _, inputs: features.append(inputs[0].reshape(len(x), -1))
            )
            for name in self.last_layers
        ]
        try:
            logits = self.net(x)
        finally:
            for hook in hooks:
                hook.remove()
        return logits, torch.cat(features, 1)

    def _find_last_layers(self, x: Tensor) -> list[str]:
        """Return the last layer that `x` goes through, and those beside it in a list of layers."""
        calls: list[str] = []
        hooks = [
            module.register_forward_hook(lambda *_, name=name: calls.append(name))
            for name, module in self.net.named_modules()
            if isinstance(module, _LAYERS)
        ]
        with torch.no_grad():
            logits = self.net(x)
        for hook in hooks:
            hook.remove()
        wanted = (len(x), self.arguments["n_classes"])
        if not isinstance(logits, Tensor) or logits.shape != wanted:
            raise ValueError("it gives no scores of classes")
        parent, _, _ = calls[-1].rpartition(".")
        if parent and isinstance(self.net.get_submodule(parent), nn.ModuleList):
            return [name for name in calls if name.rpartition(".")[0] == parent]
        return calls[-1:]


@cache
def networks() -> dict[str, type[nn.Module]]:
    """Return the networks of braindecode by name.

    Raises
    ------
    UserError
        If braindecode is not installed.
    """
    with _placeholders(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of what braindecode uses of MNE
        try:
            from braindecode import models
        except (ImportError, OSError) as error:  # of libraries for another PyTorch
            raise NotInstalled(
                f"Networks of braindecode need its packages ({_first_line(error)}): install them "
                f"with: {INSTALL}"
            ) from None
    found = {name: getattr(models, name) for name in models.__all__}
    return {
        name: network
        for name, network in found.items()
        if isinstance(network, type)
        and issubclass(network, models.EEGModuleMixin)
        and issubclass(network, nn.Module)
        and name not in _NOT_OFFLINE
    }


@contextlib.contextmanager
def _placeholders() -> Iterator[None]:
    """Have what is imported in the block find torchaudio, or what stands for it."""
    try:
        import torchaudio  # noqa: F401
    except (ImportError, OSError):
        for name in _TORCHAUDIO:
            sys.modules.pop(name, None)
    else:
        yield
        return
    package, *parts = (ModuleType(name) for name in _TORCHAUDIO)
    for module in (package, *parts):
        module.__getattr__ = _placeholder
        sys.modules[module.__name__] = module
    for part in parts:
        setattr(package, part.__name__.rpartition(".")[2], part)
    try:
        yield
    finally:
        for name in _TORCHAUDIO:
            del sys.modules[name]


def _placeholder(name: str) -> type:
    """Return what stands for a class or function of torchaudio: it can be named, not called."""
    if name.startswith("__"):
        raise AttributeError(name)

    def refuse(*_: Any, **__: Any) -> None:
        raise ImportError(f"it needs {name} of torchaudio, which this environment cannot import")

    return type(name, (), {"__new__": refuse})


def _channels(ch_names: Sequence[str]) -> list[dict[str, Any]]:
    """Return what MNE knows of electrodes, with the places of those of the 10-05 system."""
    import mne

    info = mne.create_info(list(ch_names), SFREQ, "eeg")
    info.set_montage("colin27_1005", match_case=False, on_missing="ignore")
    return info["chs"]


def _first_line(error: Exception) -> str:
    return (str(error).strip().partition("\n")[0] or type(error).__name__).rstrip(".")[:200]
