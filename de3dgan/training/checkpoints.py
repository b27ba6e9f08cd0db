"""Checkpoints: what one stage hands to the next, and what a stopped run goes on from.

A checkpoint may come from someone else, may have been damaged, or put together from two. Nothing in
it is run, it takes no more memory than its size, and each of its fields has a hash.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import math
import pickletools
import re
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

import models
from de3dgan.base.errors import UserError
from de3dgan.base.files import differences, write_bytes
from de3dgan.base.paths import display_path
from de3dgan.base.schema import (
    LIST,
    OBJECT,
    TEXT,
    FieldType,
    check,
    list_of,
    number,
    one_of,
    or_null,
    whole,
)
from de3dgan.eeg.de import BANDS
from de3dgan.eeg.sampling import FRAME

FORMAT = 3

#: The network that each stage hands over, by method.
NETWORKS = {
    "gan": {"spectral": "SpectralGenerator", "published": "Generator"},
    "classifier": {"spectral": "SpectralSASTNet", "published": "SASTNet"},
}
NETWORKS["finetune"] = NETWORKS["classifier"]

#: The statistics that come with a network; others normalise by themselves.
SCALERS = {"Generator": ("de_scaler", "eeg_scaler"), "SASTNet": ("eeg_scaler",)}

#: What PyTorch names in a pickle when tensors and plain data are saved. It would import more than
#: that, and some of it makes gigabytes of a number.
_IMPORTS = re.compile(
    r"torch\._utils _rebuild_tensor_v2|collections OrderedDict"
    r"|torch (Bool|Byte|Int|Long|Half|BFloat16|Float|Double)Storage"
)
#: Objects within objects, at most.
_DEPTH = 12
#: The highest number among a network's arguments, and the length of lists of them.
_LARGEST, _LONGEST = 2**16, 72


def _holds_json(value: Any) -> bool:
    """Return whether `value` is the same after it has been in a JSON file."""
    try:
        return isinstance(value, Mapping) and json.loads(json.dumps(value)) == value
    except (TypeError, ValueError):
        return False


def _is_argument(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return 0 < len(value) <= _LONGEST and all(TEXT.holds(x) or _is_size(x) for x in value)
    return _is_size(value)


def _is_size(value: Any) -> bool:
    return number(0, _LARGEST).holds(value)


def _is_scaler(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"low", "high", "mean", "std"}


_TENSOR = FieldType(
    "a tensor of finite numbers", lambda x: isinstance(x, Tensor) and bool(x.isfinite().all())
)
_SEEN = FieldType(
    "a row of true and false",
    lambda x: isinstance(x, Tensor) and x.dtype == torch.bool and x.ndim == 1,
)
_JSON = FieldType("an object as JSON has it", _holds_json)
_TRIALS = FieldType("a list of trials", lambda x: x == [] or list_of(whole(0)).holds(x))
_POSITIVE = FieldType("a number above 0", lambda x: number().holds(x) and x > 0)
_RATINGS = FieldType("a list of 1 to 9 names", lambda x: list_of(TEXT).holds(x) and len(x) < 10)
_ARGUMENT = FieldType(
    f"a number from 0 to {_LARGEST}, or a list of up to {_LONGEST} numbers or names", _is_argument
)
_NEEDS = {True: "needs one", False: "has none"}
#: What ``model.pt`` holds.
_FIELDS = {
    "stage": one_of(*NETWORKS),
    "settings": _JSON,
    **dict.fromkeys(("settings.task", "settings.protocol"), TEXT),
    **dict.fromkeys(("settings.fold", "settings.seed"), whole(0)),
    "settings.ratings": _RATINGS,
    "settings.method": one_of("spectral", "published"),
    "store_hash": TEXT,
    "split_fingerprint": TEXT,
    "upstream": _JSON,
    "trials": OBJECT,
    **{f"trials.{part}": _TRIALS for part in ("train", "val", "test")},
    "best_epoch": whole(0),
    "seen": OBJECT,
    "seen.*": _SEEN,
    "module": TEXT,
    "arguments": OBJECT,
    "arguments.*": _ARGUMENT,
    "arguments.ch_names": list_of(TEXT),
    "arguments.n_bands?": one_of(len(BANDS)),
    "arguments.frame?": one_of(FRAME),
    "weights": OBJECT,
    "weights.*": _TENSOR,
    **dict.fromkeys(
        ("eeg_scaler?", "de_scaler?"), FieldType("an object of low, high, mean and std", _is_scaler)
    ),
    **{
        f"{scaler}{rest}": kind if scaler == "eeg_scaler?" else list_of(kind, len(BANDS))
        for scaler in ("eeg_scaler?", "de_scaler?")
        for rest, kind in {
            **dict.fromkeys((".low", ".high", ".mean"), number()),
            ".std": _POSITIVE,
        }.items()
    },
}

#: What ``state.pt`` holds.
_STATE_FIELDS = {
    "of": _JSON,
    "spent": OBJECT,
    "spent.*": number(0),
    "seen": OBJECT,
    "seen.*": _SEEN,
    "nets": OBJECT,
    "nets.*": OBJECT,
    "nets.*.*": _TENSOR,
    "optimisers": OBJECT,
    "history": LIST,
    "history.*": OBJECT,
    "history.*.*": number(),
    "best": OBJECT,
    "best.epoch": whole(-1),
    "best.score": or_null(number()),
    "best.weights": OBJECT,
    "best.weights.*": _TENSOR,
    "n_steps": whole(0),
    "losses": OBJECT,
    "losses.counts": OBJECT,
    "losses.counts.*": whole(1),
    "losses.sums": OBJECT,
    "losses.sums.*": _TENSOR,
    "rng": LIST,
}


def save(path: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; the same content gives the same bytes."""
    buffer = io.BytesIO()  # PyTorch's own writer hides what is wrong with a disk
    whole_content = {"format": FORMAT, "hashes": _hashes(content), **content}
    torch.save(_interned(whole_content), buffer)
    write_bytes(path, buffer.getbuffer())


def load(path: Path, remedy: str) -> dict[str, Any]:
    """Read a checkpoint: plain data and tensors only, no code can run.

    Raises
    ------
    UserError
        If it cannot be read, would take more memory than its own size, is of another format, or
        if a field is not as it was saved, saying `remedy`.
    """
    try:
        with open(path, "rb") as file:
            _refuse_hostile(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        _refuse_odd(content)
        found = content["format"]
        if not whole(0).holds(found):
            raise ValueError("no number of a format")
    except Exception:  # PyTorch raises whatever the file's damage leads it to
        raise UserError(f"{display_path(path)} is damaged or no checkpoint; {remedy}") from None
    if found != FORMAT:
        newer = found > FORMAT
        raise UserError(
            f"{display_path(path)} has checkpoint format {found}, of "
            f"{'a newer' if newer else 'an older'} version of this program, and this one reads "
            f"format {FORMAT}: {'update it, or ' if newer else ''}{remedy}"
        )
    check(content, {"hashes": OBJECT, "hashes.*": TEXT}, path, remedy)
    changed = differences(content.pop("hashes"), _hashes(content))
    if changed:
        raise UserError(
            f"{display_path(path)} has been changed since it was saved: hashes differ of "
            f"{', '.join(changed)}: {remedy}"
        )
    return content


def load_model(path: Path, stage: str, remedy: str) -> dict[str, Any]:
    """Read the ``model.pt`` of a stage, and check that it is whole: fields, and network.

    Raises
    ------
    UserError
        As `load` does; or if it is of another stage, if a field is missing or holds what it
        cannot, if fields contradict each other, or if its weights are not those of the network
        that it says it holds.
    """
    content = load(path, remedy)
    check(content, _FIELDS, path, remedy)
    if content["stage"] != stage:
        raise UserError(
            f"{display_path(path)} is of the {content['stage']} stage, not of {stage}: {remedy}"
        )
    network = NETWORKS[stage][content["settings"]["method"]]
    check(content, {"module": one_of(network)}, path, remedy)
    problem = _contradiction(content, network)
    if problem:
        raise UserError(f"{display_path(path)} is damaged: {problem}: {remedy}")
    return content


def load_state(path: Path, remedy: str) -> dict[str, Any]:
    """Read a ``state.pt``, and check its fields.

    Raises
    ------
    UserError
        As `load` does; or if a field is missing or holds what it cannot.
    """
    content = load(path, remedy)
    check(content, _STATE_FIELDS, path, remedy)
    return content


def _contradiction(content: Mapping[str, Any], network: str) -> str | None:
    """Return in what the fields of a ``model.pt`` contradict each other, if they do."""
    for scaler in ("de_scaler", "eeg_scaler"):
        has, needs = scaler in content, scaler in SCALERS.get(network, ())
        if has != needs:
            return f"it has {'a' if has else 'no'} {scaler}, and a {network} {_NEEDS[needs]}"
    arguments, settings = content["arguments"], content["settings"]
    module_class = getattr(models, network)
    names = set(inspect.signature(module_class).parameters)
    if set(arguments) != names:
        theirs, ours = (" ".join(sorted(some)) for some in (arguments, names))
        return f"its arguments are {theirs}, and those of a {network} {ours}"
    of_settings = {**settings, "n_classes": 2 ** len(settings["ratings"])}
    for name in sorted(names & of_settings.keys()):
        if arguments[name] != of_settings[name]:
            theirs, ours = json.dumps(arguments[name]), json.dumps(of_settings[name])
            return f"arguments.{name} is {theirs}, and by its settings it is {ours}"
    try:
        with torch.device("meta"):  # where weights take no memory, however many are asked for
            module = module_class(**arguments)
    except Exception:  # whatever wrong arguments lead to
        return f"there is no {network} with its arguments"
    theirs, ours = _shapes(content["weights"]), _shapes(module.state_dict())
    for name in {**ours, **theirs}:
        if theirs.get(name) != ours.get(name):
            return (
                f"its weight {name} is {theirs.get(name, 'missing')}, and that of a network with "
                f"its arguments is {ours.get(name, 'missing')}"
            )
    return None


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


def _refuse_hostile(file: BinaryIO) -> None:
    """Refuse an archive that grows when it is read, or that names what is never saved here."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        stored = all(member.compress_type == zipfile.ZIP_STORED for member in members)
        size = file.seek(0, io.SEEK_END)
        if not stored or sum(member.file_size for member in members) > size:
            raise ValueError("members are compressed, or overlap")
        # Before an archive may stand something else, which PyTorch would read in its place.
        if min(member.header_offset for member in members):
            raise ValueError("the archive does not begin with the file")
        for member in members:
            if member.filename.lower().endswith(".pkl"):
                for opcode, argument, _ in pickletools.genops(archive.read(member)):
                    if opcode.name == "GLOBAL" and not _IMPORTS.fullmatch(argument):
                        raise ValueError("a name that no checkpoint has")
    file.seek(0)


def _refuse_odd(content: Any) -> None:
    """Refuse what is never saved here, and could be read without end: cycles, views of views."""
    met, rest = set(), [(content, 0)]
    while rest:
        value, depth = rest.pop()
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.is_quantized or value.is_complex():
                raise ValueError("a tensor of a kind that is never saved here")
            n_bytes = math.prod(value.shape) * value.element_size()
            if n_bytes > value.untyped_storage().nbytes():
                raise ValueError("a tensor larger than its values")
        elif isinstance(value, Mapping | list | tuple):
            if value and id(value) in met:
                raise ValueError("an object that is in two places")
            met.add(id(value))
            names = value if isinstance(value, Mapping) else ()
            if depth > _DEPTH or not all(map(_is_name, names)):
                raise ValueError("objects too deep within each other, or of odd names")
            inside = value.values() if isinstance(value, Mapping) else value
            rest += [(each, depth + 1) for each in inside]
        elif not isinstance(value, str | int | float | None):
            raise ValueError("an object of a kind that is never saved here")


def _is_name(key: Any) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isprintable())


def _hashes(content: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of each field of a checkpoint."""
    hashes = {}
    for name, value in content.items():
        if name != "format":
            hashed = hashlib.sha256()
            _feed(hashed.update, value)
            hashes[name] = hashed.hexdigest()[:16]
    return hashes


def _feed(add: Callable[[Any], None], value: Any) -> None:
    """Give nested data to a hash, such that it is the same wherever in memory it lies."""
    if isinstance(value, Tensor):
        add(f"{value.dtype} {tuple(value.shape)}".encode())
        add(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    elif isinstance(value, Mapping):
        add(b"{")
        for key, inner in value.items():
            add(f"{key!r}:".encode())
            _feed(add, inner)
        add(b"}")
    elif isinstance(value, list | tuple):
        add(b"[")
        for inner in value:
            _feed(add, inner)
        add(b"]")
    else:
        add(f"{value!r},".encode())


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Return the kind and the shape of each weight, in words."""
    return {
        name: f"{str(weight.dtype).removeprefix('torch.')} of shape {tuple(weight.shape)}"
        for name, weight in weights.items()
    }


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
