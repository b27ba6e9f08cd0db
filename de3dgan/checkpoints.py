"""Checkpoints: what one stage hands to the next, and what a stopped run goes on from."""

from __future__ import annotations

import io
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

import models
from de3dgan.errors import UserError
from de3dgan.files import atomic
from de3dgan.paths import shown

FORMAT = 2


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; the same content gives the same bytes."""
    buffer = io.BytesIO()  # PyTorch's own writer hides what is wrong with a disk
    torch.save(_interned({"format": FORMAT, **content}), buffer)
    with atomic(path) as file:
        file.write(buffer.getbuffer())


def load(path: Path, remedy: str) -> dict[str, Any]:
    """Read a checkpoint: plain data and tensors only, no code can run.

    Raises
    ------
    UserError
        If it cannot be read or is of another format, saying `remedy`.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # PyTorch raises whatever the file's damage leads it to
        raise UserError(f"{shown(path)} is damaged or no checkpoint; {remedy}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise UserError(
            f"{shown(path)} has checkpoint format {found}, this version reads {FORMAT}; {remedy}"
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
