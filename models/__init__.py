"""The networks of DE-3DGAN, as pure PyTorch modules: no files, no training."""

from models.classifier import SASTNet, SpectralSASTNet
from models.discriminator import Discriminator
from models.generator import Generator, SpectralGenerator

__all__ = ["Discriminator", "Generator", "SASTNet", "SpectralGenerator", "SpectralSASTNet"]
