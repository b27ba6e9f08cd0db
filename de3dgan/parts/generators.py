"""Pretrained generators on the Hugging Face Hub, or in a folder as its repositories are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from de3dgan.base.errors import UserError
from de3dgan.base.paths import display_path, from_root
from de3dgan.parts.hub import OnHub
from de3dgan.stages import pretrained
from de3dgan.training import checkpoints, model_card

#: Files of a repository, as the Hub calls them.
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"
#: What is said on the Hub, before the card.
_USE = """\
```python
from de3dgan.parts.generators import PretrainedGenerator

made = PretrainedGenerator.from_pretrained("…")  # the name of this page
```
"""
_REMEDY = "get it anew from where it comes from."


class PretrainedGenerator(OnHub):
    """A generator, and the people whom it can make.

    Parameters
    ----------
    content : dict
        What its checkpoint holds.
    text : str
        Its model card, in Markdown.
    path : Path
        Where they come from.
    device : torch.device or str
        Where EEG is computed; of `from_pretrained`, ``map_location``.

    Attributes
    ----------
    generator : TrainedGenerator
        From DE to EEG in µV.
    population : Population
        From a class to people and their EEG, by means of `generator`.

    Raises
    ------
    UserError
        If it is no pretrained generator, or damaged.
    """

    def __init__(
        self,
        content: Mapping[str, Any],
        text: str,
        path: Path,
        device: torch.device | str = "cpu",
    ):
        self.content, self.text = content, text
        checkpoints.check_model(content, path, "gan", _REMEDY)
        self.generator, self.population = pretrained.of_content(content, path, _REMEDY, device)

    @classmethod
    def from_checkpoint(cls, folder: str | Path) -> PretrainedGenerator:
        """Read the ``model.pt`` and the ``CARD.md`` of a folder of pretrained/.

        Raises
        ------
        UserError
            If they are not there, or not as they were written.
        """
        folder = from_root(folder)
        path, card = folder / "model.pt", folder / model_card.NAME
        for file in (path, card):
            if not file.is_file():
                raise UserError(
                    f"There is no {display_path(file)}: make it with pretrained/make.py."
                )
        return cls(checkpoints.load(path, _REMEDY), card.read_text(encoding="utf-8"), path)

    def card(self, said: str = "") -> str:
        """Return the model card; see `OnHub.card`."""
        return "\n".join(part for part in (_USE, said, self.text) if part)

    def _save_pretrained(self, save_directory: Path) -> None:
        """Write tensors to one file, all else to another, and the card as it is."""
        from safetensors.torch import save_file

        tensors: dict[str, Tensor] = {}
        rest = _without_tensors(self.content, "", tensors)
        save_file(tensors, save_directory / _WEIGHTS)
        (save_directory / _CONFIG).write_text(json.dumps(rest, indent=1), encoding="utf-8")
        (save_directory / model_card.NAME).write_text(self.text, encoding="utf-8")

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, map_location: torch.device | str = "cpu", **where: Any
    ) -> PretrainedGenerator:
        """Read what `_save_pretrained` has written, here or on the Hub."""
        from safetensors.torch import load_file

        folder = Path(model_id)
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(model_id, **where))
        with checkpoints.refused_if_damaged(folder, _REMEDY):
            rest = json.loads((folder / _CONFIG).read_text(encoding="utf-8"))
            content = _with_tensors(rest, load_file(folder / _WEIGHTS))
            text = (folder / model_card.NAME).read_text(encoding="utf-8")
            return cls(content, text, folder, map_location)


def _without_tensors(content: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    """Return plain data with the names of tensors in their place, and put these in `tensors`."""
    if isinstance(content, Tensor):
        tensors[name] = content.clone(memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(content, Mapping):
        return {
            key: _without_tensors(value, f"{name}/{key}", tensors) for key, value in content.items()
        }
    if isinstance(content, list | tuple):
        return [_without_tensors(value, f"{name}/{i}", tensors) for i, value in enumerate(content)]
    return content


def _with_tensors(content: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return what `_without_tensors` was given."""
    if isinstance(content, dict):
        if content.keys() == {"tensor"}:
            return tensors[content["tensor"]]
        return {key: _with_tensors(value, tensors) for key, value in content.items()}
    if isinstance(content, list):
        return [_with_tensors(value, tensors) for value in content]
    return content
