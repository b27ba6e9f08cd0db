"""Generators that come with the repository, each with a prior over the DE of people.

They lie in pretrained/<name>/, with a model card; pretrained/make.py makes them. An installed
package has none: it takes the folder of one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from de3dgan.base.errors import UserError
from de3dgan.base.paths import INSTALLED, ROOT
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

    Parameters
    ----------
    name : str
        Of one that comes with the repository, or the folder of one.
    folder : Path
        Where those that come with the repository are.
    device : device or str
        What it computes on.

    Raises
    ------
    UserError
        If there is none of this name, or its file is not as it was written.
    """
    paths = [where / "model.pt" for where in (folder / name, Path(name))]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        known = sorted(path.parent.name for path in folder.glob("*/model.pt"))
        get = "copy pretrained/ of the repository, which an installed package does not have, and "
        raise UserError(
            f"There is no pretrained generator {name!r}: {get * INSTALLED}give as --pretrained "
            f"{'one of ' * (len(known) > 1)}{', '.join(known) or 'the folder of one'}."
        )
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
