"""Checkpoints: what one stage hands to the next, and what a stopped run goes on from."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

import models
from de3dgan.errors import UserError
from de3dgan.files import write_bytes
from de3dgan.paths import shown
from de3dgan.validation import OBJECT, TEXT, Kind, check, list_of, number, one_of, whole

FORMAT = 3

#: The network that each stage hands over, by method.
NETWORKS = {
    "gan": {"spectral": "SpectralGenerator", "published": "Generator"},
    "classifier": {"spectral": "SpectralSASTNet", "published": "SASTNet"},
}
NETWORKS["finetune"] = NETWORKS["classifier"]

_TENSOR = Kind("a tensor of finite numbers", lambda x: isinstance(x, Tensor) and _finite(x))
_SEEN = Kind(
    "a row of true and false",
    lambda x: isinstance(x, Tensor) and x.dtype == torch.bool and x.ndim == 1,
)
_STATISTIC = Kind(
    "a finite number, or a list of them",
    lambda x: number().holds(x) or list_of(number()).holds(x),
)
_TRIALS = Kind("a list of trials", lambda x: x == [] or list_of(whole(0)).holds(x))
#: What ``model.pt`` holds.
_FIELDS = {
    "stage": one_of(*NETWORKS),
    "settings": OBJECT,
    "settings.task": TEXT,
    "settings.method": one_of("spectral", "published"),
    "store_hash": TEXT,
    "split_fingerprint": TEXT,
    "upstream": OBJECT,
    "trials": OBJECT,
    **{f"trials.{part}": _TRIALS for part in ("train", "val", "test")},
    "best_epoch": whole(0),
    "seen": OBJECT,
    "seen.*": _SEEN,
    "module": TEXT,
    "arguments": OBJECT,
    "arguments.ch_names": list_of(TEXT),
    "weights": OBJECT,
    "weights.*": _TENSOR,
    **{
        f"{scaler}?{rest}": kind
        for scaler in ("eeg_scaler", "de_scaler")
        for rest, kind in {
            "": OBJECT,
            **{f".{name}": _STATISTIC for name in ("low", "high", "mean", "std")},
        }.items()
    },
}


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; the same content gives the same bytes."""
    buffer = io.BytesIO()  # PyTorch's own writer hides what is wrong with a disk
    torch.save(_interned({"format": FORMAT, **content}), buffer)
    write_bytes(path, buffer.getbuffer())


def load(path: Path, remedy: str) -> dict[str, Any]:
    """Read a checkpoint: plain data and tensors only, no code can run.

    Raises
    ------
    UserError
        If it cannot be read, would take more memory than its own size, or is of another format,
        saying `remedy`.
    """
    try:
        with open(path, "rb") as file:
            _refuse_compressed(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        for tensor in _tensors(content):
            if tensor.layout != torch.strided or tensor.is_quantized:
                raise ValueError("a tensor of a kind that is never saved here")
            if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
                raise ValueError("a tensor larger than its values")
    except Exception:  # PyTorch raises whatever the file's damage leads it to
        raise UserError(f"{shown(path)} is damaged or no checkpoint; {remedy}") from None
    found = content.get("format") if isinstance(content, dict) else None
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        raise UserError(
            f"{shown(path)} has checkpoint format {found}, of "
            f"{'a newer' if newer else 'an older'} version of this program, and this one reads "
            f"format {FORMAT}: {'update it, or ' if newer else ''}{remedy}"
        )
    return content


def load_model(path: Path, stage: str, remedy: str) -> dict[str, Any]:
    """Read the ``model.pt`` of a stage, and check that it is whole: fields, and network.

    Raises
    ------
    UserError
        As `load` does; or if it is of another stage, if a field is missing or holds what it
        cannot, or if its weights are not those of the network that it says it holds.
    """
    content = load(path, remedy)
    check(content, _FIELDS, path, remedy)
    if content["stage"] != stage:
        raise UserError(
            f"{shown(path)} is of the {content['stage']} stage, not of {stage}: {remedy}"
        )
    network = NETWORKS[stage][content["settings"]["method"]]
    if content["module"] != network:
        raise UserError(
            f"{shown(path)} holds a {content['module']}, and its method has a {network}: {remedy}"
        )
    try:
        with torch.device("meta"):  # where weights take no memory, however many are asked for
            module = getattr(models, network)(**content["arguments"])
    except Exception:  # whatever wrong arguments lead to
        raise UserError(
            f"{shown(path)} is damaged: there is no {network} with its arguments: {remedy}"
        ) from None
    theirs, ours = _shapes(content["weights"]), _shapes(module.state_dict())
    for name in {**ours, **theirs}:
        if theirs.get(name) != ours.get(name):
            raise UserError(
                f"{shown(path)} is damaged: its weight {name} has the shape {theirs.get(name)}, "
                f"and that of a network with its arguments {ours.get(name)}: {remedy}"
            )
    return content


def module_content(module: nn.Module) -> dict[str, Any]:
    """Return what rebuilds `module`: its class, its arguments and its weights."""
    return {
        "module": type(module).__name__,
        "arguments": module.arguments,
        "weights": {name: tensor.cpu() for name, tensor in module.state_dict().items()},
    }


def rebuild(content: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Return the module that `module_content` described, on `device` and in eval mode."""
    module = getattr(models, content["module"])(**content["arguments"])
    module.load_state_dict(content["weights"])
    return module.to(device).eval()


def _refuse_compressed(file: BinaryIO) -> None:
    """Refuse an archive whose members grow when they are read; PyTorch writes none."""
    with zipfile.ZipFile(file) as archive:
        sizes = [member.file_size for member in archive.infolist()]
        stored = all(m.compress_type == zipfile.ZIP_STORED for m in archive.infolist())
    if not stored or sum(sizes) > file.seek(0, io.SEEK_END):
        raise ValueError("members are compressed, or overlap")
    file.seek(0)


def _tensors(content: Any) -> Iterator[Tensor]:
    """Yield every tensor in nested data."""
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, Mapping | list | tuple):
        for value in content.values() if isinstance(content, Mapping) else content:
            yield from _tensors(value)


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _interned(content: Any) -> Any:
    """Return `content` with equal strings being the same string.

    Pickle writes a string once and then refers to it by identity, so that the bytes would depend
    on whether a name comes from the program or from a file.
    """
    if isinstance(content, str):
        return sys.intern(content)
    if isinstance(content, Mapping):
        return {_interned(key): _interned(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return type(content)(map(_interned, content))
    return content
