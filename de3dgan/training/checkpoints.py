"""Checkpoints: what one stage hands to the next, and what a stopped run goes on from.

A checkpoint is a file of PyTorch's that ends in the number of its format and the SHA-256 of all
bytes before (as the comment of the ZIP archive that it is). `load` looks at these first: bytes
whose hash is right are as `save` wrote them, and are trusted to have its structure.

A hash is no signature. Someone can make a hostile file with the right one: reading it runs no code,
takes no more memory than a few times its size, and ends in one sentence.
"""

from __future__ import annotations

import hashlib
import io
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from de3dgan import models
from de3dgan.base.errors import UserError
from de3dgan.base.files import write_bytes
from de3dgan.base.paths import display_path

FORMAT = 4

_COMMENT = "DE-3DGAN checkpoint, format {:04d}, SHA-256 {}"
_N_COMMENT = len(_COMMENT.format(0, "0" * 64))
#: The names in a pickle of tensors and plain data. PyTorch would import more than these, some of
#: which make gigabytes of a number (`bytearray`).
_IMPORTS = re.compile(
    r"torch\._utils _rebuild_tensor_v2|collections OrderedDict"
    r"|torch (Bool|Byte|Int|Long|Half|BFloat16|Float|Double)Storage"
)


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; the same content gives the same bytes."""
    buffer = io.BytesIO()  # PyTorch's own writer hides what is wrong with a disk
    torch.save(_interned(content), buffer)
    buffer.seek(-2, io.SEEK_END)  # where an archive says how long its comment is
    buffer.write(struct.pack("<H", _N_COMMENT))
    buffer.write(_COMMENT.format(FORMAT, _sha256(buffer.getbuffer())).encode())
    write_bytes(path, buffer.getbuffer())


def load(path: Path, remedy: str) -> dict[str, Any]:
    """Read a checkpoint: plain data and tensors only, no code can run.

    Raises
    ------
    UserError
        If it cannot be read, is of another format, or has been changed since it was saved; it
        ends with `remedy`.
    """
    with refused_if_damaged(path, remedy):
        raw = path.read_bytes()
        comment = raw[-_N_COMMENT:].decode("latin1")
        found = re.fullmatch(_COMMENT.format(0, "(.{64})").replace("0000", r"(\d{4})"), comment)
        saved_format, saved_hash = (int(found[1]), found[2]) if found else (FORMAT, "none")
        if saved_format != FORMAT:
            newer = saved_format > FORMAT
            raise UserError(
                f"{display_path(path)} has checkpoint format {saved_format}, of "
                f"{'a newer' if newer else 'an older'} version of this program, and this one reads "
                f"format {FORMAT}: {'update it, or ' if newer else ''}{remedy}"
            )
        found_hash = _sha256(memoryview(raw)[:-_N_COMMENT])
        if found_hash != saved_hash:
            raise UserError(
                f"{display_path(path)} is damaged, or no checkpoint as this program saved it: its "
                f"SHA-256 ({saved_hash[:16]} there, {found_hash[:16]} now): {remedy}"
            )
        _refuse_hostile(raw)
        return torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)


def load_model(path: Path, stage: str, remedy: str) -> dict[str, Any]:
    """Read the ``model.pt`` of a stage.

    Raises
    ------
    UserError
        As `load` does; or if it is of another stage, or if its weights are not those of the network
        that it says it holds.
    """
    content = load(path, remedy)
    check_model(content, path, stage, remedy)
    return content


def check_model(content: Mapping[str, Any], path: Path, stage: str, remedy: str) -> None:
    """Raise what `load_model` does unless `content`, read from `path`, is a stage's network."""
    with refused_if_damaged(path, remedy):
        if content["stage"] != stage:
            raise UserError(
                f"{display_path(path)} is of the {content['stage']} stage, not of {stage}: {remedy}"
            )
        try:
            with torch.device("meta"):  # where weights take no memory, however many are asked for
                _filled(content, assign=True)
        except models.decoders.NotInstalled:
            raise
        except Exception as error:  # whatever wrong arguments lead to
            problem = str(error).strip().rpartition("\n")[2].strip()[:160]
            raise UserError(
                f"{display_path(path)} is damaged: its weights are not those of the network that "
                f"it says it holds ({problem}): {remedy}"
            ) from None


@contextmanager
def refused_if_damaged(path: Path, remedy: str) -> Iterator[None]:
    """Raise `UserError` in the place of whatever an odd checkpoint leads to in the block."""
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception:
        raise UserError(f"{display_path(path)} is damaged or no checkpoint: {remedy}") from None


def module_content(module: nn.Module) -> dict[str, Any]:
    """Return what rebuilds `module`: its class, its arguments and its weights."""
    return {
        "module": type(module).__name__,
        "arguments": module.arguments,
        "weights": {name: tensor.cpu() for name, tensor in module.state_dict().items()},
    }


def rebuild(content: Mapping[str, Any], device: torch.device) -> nn.Module:
    """Return the module that `module_content` described, on `device` and in eval mode."""
    return _filled(content).to(device).eval()


def _filled(content: Mapping[str, Any], assign: bool = False) -> nn.Module:
    """Return the network of a checkpoint with its weights, which must be exactly its own.

    They are copied, or with `assign`, themselves made those of the network.
    """
    if content["module"] not in models.__all__:
        raise ValueError("no network of ours")
    for weights in content["weights"].values():
        if weights.numel() * weights.element_size() > weights.untyped_storage().nbytes():
            raise ValueError("a view that is larger than what it shows")
    module = getattr(models, content["module"])(**content["arguments"])
    module.load_state_dict(content["weights"], assign=assign)
    return module


def _refuse_hostile(raw: bytes) -> None:
    """Refuse an archive that grows when it is read, or that names what `save` never does."""
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed")
        if sum(member.file_size for member in members) > len(raw):
            raise ValueError("its members overlap")
        if not raw.startswith(b"PK"):  # PyTorch would read what is before the archive instead
            raise ValueError("the archive does not begin with the file")
        for member in members:
            if member.filename.lower().endswith(".pkl"):
                for opcode, argument, _ in pickletools.genops(archive.read(member)):
                    if opcode.name == "GLOBAL" and not _IMPORTS.fullmatch(argument):
                        raise ValueError("a name that no checkpoint has")


def _sha256(raw: bytes | memoryview) -> str:
    return hashlib.sha256(raw).hexdigest()


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
