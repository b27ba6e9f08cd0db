"""Generators that come with the repository, each with a prior over the DE of people.

They lie in pretrained/<name>/, with a model card; pretrained/make.py makes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT
from de3dgan.stages.generation import TrainedGenerator
from de3dgan.stages.virtual import Population
from de3dgan.training import checkpoints
from de3dgan.training.device import Compute

#: Where they are.
PRETRAINED = ROOT / "pretrained"


def load(
    name: str, folder: Path = PRETRAINED, device: torch.device | str = "cpu"
) -> tuple[TrainedGenerator, Population]:
    """Load a pretrained generator and the people whom it can make.

    Raises
    ------
    UserError
        If there is none of this name, or its file is not as it was written.
    """
    known = sorted(path.parent.name for path in folder.glob("*/model.pt"))
    if name not in known:
        raise UserError(
            f"There is no pretrained generator {name!r}: give as --pretrained "
            f"{'one of ' * (len(known) > 1)}{', '.join(known) or 'one that has been made'}."
        )
    path = folder / name / "model.pt"
    remedy = "get it anew from the repository."
    return of_content(checkpoints.load_model(path, "gan", remedy), path, remedy, device)


def of_content(
    content: Mapping[str, Any], path: Path, remedy: str, device: torch.device | str = "cpu"
) -> tuple[TrainedGenerator, Population]:
    """Rebuild a pretrained generator and its people from what a checkpoint holds.

    Raises
    ------
    UserError
        If what was read from `path` does not fit together; it ends with `remedy`.
    """
    with checkpoints.refused_if_damaged(path, remedy):
        population = Population.from_content(content["population"])
        generator = TrainedGenerator.from_content(content, Compute(torch.device(device)))
        n_bands, n_chans = population.prior.mean.shape[1:]
        arguments = generator.module.arguments
        if (n_bands, n_chans) != (arguments["n_bands"], len(generator.ch_names)):
            raise ValueError("the prior is of other electrodes than the generator")
    return generator, population
