"""EEG from a trained generator, in µV."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from de3dgan.base.errors import UserError
from de3dgan.base.paths import ROOT, display_path, from_root
from de3dgan.base.seeds import derived_rng
from de3dgan.data.frames import chunks
from de3dgan.data.opening import open_store
from de3dgan.data.store import Store
from de3dgan.eeg.scaling import RobustScaler
from de3dgan.models import Generator, SpectralGenerator
from de3dgan.training import checkpoints
from de3dgan.training.device import Compute
from de3dgan.training.directory import read_model

#: Trials generated at a time: as few as memory likes, or as many as fill a GPU.
_BATCH = {"cpu": 2, "cuda": 16}
#: What a checkpoint says of the run that made it, and its user may want to know.
ORIGIN = ("settings", "store_hash", "split_fingerprint", "trials")


class TrainedGenerator(ABC):
    """A generator with what it needs to turn DE in nats into EEG in µV.

    Parameters
    ----------
    module : Module
        The network.
    compute : Compute
        How it computes.
    scalers : dict of str to RobustScaler
        ``de_scaler`` and ``eeg_scaler`` of the training data, if the network needs any.
    origin : dict
        What its checkpoint says about the run that made it; empty for one in training.
    """

    def __init__(
        self,
        module: Generator | SpectralGenerator,
        compute: Compute,
        scalers: Mapping[str, RobustScaler] | None = None,
        origin: Mapping[str, Any] | None = None,
    ):
        self.module, self.compute = module, compute
        self.scalers, self.origin = scalers or {}, origin or {}

    @property
    def ch_names(self) -> list[str]:
        """Channel names of the EEG, length n_chans."""
        return self.module.arguments["ch_names"]

    def __call__(
        self, de: np.ndarray, trials: np.ndarray, draw: int = 0, people: np.ndarray | None = None
    ) -> np.ndarray:
        """Generate EEG.

        Parameters
        ----------
        de : array, (n_trials, n_bands, n_windows, n_chans)
            Absolute DE in nats, as `Store.absolute_de` gives it.
        trials : array of int, (n_trials,)
            Whose DE it is; EEG is drawn for each trial on its own.
        draw : int
            Another number gives other EEG with the same DE; the published generator has one only.
        people : array of int, (n_trials,), optional
            Who each trial is of: those of one person take after one recording. By default, each
            takes after one of its own.

        Returns
        -------
        array, float32 (n_trials, n_chans, n_times)
            EEG in µV at 128 Hz.
        """
        self.module.eval()
        out = []
        with torch.inference_mode(), self.compute.autocast():
            for rows in chunks(np.arange(len(de)), _BATCH[self.compute.device.type]):
                x = self.compute.to_device(np.asarray(de[rows], np.float32))
                whose = None if people is None else people[rows]
                out.append(self.sample(x, trials[rows], draw, whose).cpu().numpy())
        return np.concatenate(out)

    @abstractmethod
    def sample(
        self, de: Tensor, trials: np.ndarray, draw: int, people: np.ndarray | None = None
    ) -> Tensor:
        """Return what calling it does, of a batch: DE in nats to EEG in µV, on the device."""

    def content(self) -> dict[str, Any]:
        """Return what a checkpoint holds of it; `from_content` is the way back."""
        scalers = {name: vars(scaler) for name, scaler in self.scalers.items()}
        return {**checkpoints.module_content(self.module), **scalers}

    @staticmethod
    def from_content(content: Mapping[str, Any], compute: Compute) -> TrainedGenerator:
        """Rebuild it from a checkpoint's content."""
        names = [name for name in ("de_scaler", "eeg_scaler") if name in content]
        return SAMPLERS[content["settings"]["method"]](
            checkpoints.rebuild(content, compute.device),
            compute,
            scalers={name: RobustScaler(**content[name]) for name in names},
            origin={key: content[key] for key in ORIGIN},
        )

    def part_of(self, trial: int) -> str:
        """Return which part of the generator's split holds `trial`: train, val or test."""
        parts = self.origin["trials"]
        return "+".join(name for name, trials in parts.items() if trial in trials)


class SpectralSampler(TrainedGenerator):
    """Draws from our generator: as many EEGs of one DE as wanted."""

    def sample(
        self, de: Tensor, trials: np.ndarray, draw: int, people: np.ndarray | None = None
    ) -> Tensor:
        """Return EEG with the DE `de`, drawn for each trial and number of the draw."""
        shape = self.module.noise_shape(de.shape[2])
        rngs = [derived_rng(draw, trial, "noise to generate from") for trial in trials.tolist()]
        noise = np.stack([rng.standard_normal(shape, np.float32) for rng in rngs])
        for row, person in enumerate([] if people is None else people.tolist()):
            chance = derived_rng(draw, person, "recording of a person")
            noise[row, -1, 0] = chance.standard_normal(2, np.float32)
        return self.module(de, torch.from_numpy(noise).to(de.device))


class PublishedSampler(TrainedGenerator):
    """Maps DE to the one EEG that the published generator has for it."""

    def sample(
        self, de: Tensor, trials: np.ndarray, draw: int, people: np.ndarray | None = None
    ) -> Tensor:
        """Return the EEG of `de`, whichever trial and draw it is."""
        normalised = self.module.generate(self.scalers["de_scaler"].normalise(de)).float()
        return self.scalers["eeg_scaler"].denormalise(normalised)


#: What draws EEG, by method.
SAMPLERS = {"spectral": SpectralSampler, "published": PublishedSampler}


def load_generator(path: str | Path, device: torch.device | str = "cpu") -> TrainedGenerator:
    """Load the generator in ``model.pt`` of a GAN run; it may have been taken out of its folder.

    It computes in float32, whatever it was trained in, so that it generates the same everywhere but
    for last digits.

    Raises
    ------
    UserError
        If there is none, if it is not a generator's, or if there is a ``config.json`` beside it
        that describes another run.
    """
    path = from_root(path)
    remedy = "train one with the 3D-UNet_GAN script of its task"
    if not path.is_file():
        raise UserError(f"There is no generator in {display_path(path)}: {remedy}.")
    in_folder = path.with_name("config.json").is_file()
    content = (read_model if in_folder else checkpoints.load_model)(path, "gan", f"{remedy}.")
    return TrainedGenerator.from_content(content, Compute(torch.device(device)))


def store_of(generator: TrainedGenerator, path: str | Path | None = None) -> Store:
    """Open the store that a generator was trained on: the one in `path`, or found in DE_feature/.

    Raises
    ------
    UserError
        If it is not there.
    """
    wanted = generator.origin["store_hash"]
    folders = (
        [from_root(path)]
        if path
        else [p.parent for p in ROOT.glob("DE_feature/[!.]*/manifest.json")]
    )
    found = []
    for folder in folders:
        try:
            store = open_store(folder)
        except UserError:
            if path:
                raise
            continue
        if store.hash == wanted:
            return store
        found.append(f"{display_path(folder)} has {store.hash[:16]}")
    raise UserError(
        f"The generator was trained on the store with hash {wanted[:16]}, and "
        f"{', '.join(found) or 'there is no store in DE_feature'}: give the folder of its store "
        "with --data-dir, or train a generator on the store you have."
    )
