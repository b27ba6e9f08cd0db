"""The networks of DE-3DGAN, as pure PyTorch modules: no files, no training.

Of `de3dgan` they use the rooms `base` and `eeg` only, so that these two and this folder are the
networks without the rest.

=====================  =============================================================================
module                 holds
=====================  =============================================================================
blocks                 what networks are built from: electrode grid, U-Net, trunk, attention
classifier             SA-ST-Net, as published, and beside a linear head
views                  what our classifier is given of a frame
decoders               other networks for the same, those of braindecode, which is optional
discriminator          the published critic
generator              the published U-Net
spectral_generator     our generator
recordings             what training recordings show that DE does not tell
cross_spectra          cross-spectra of electrodes, in factors
constraint             the DE constraint, the last step of our generator
spectra                short-time Fourier transform; log power of frames
=====================  =============================================================================
"""

from de3dgan.models.classifier import SASTNet, SpectralSASTNet
from de3dgan.models.decoders import BraindecodeNet
from de3dgan.models.discriminator import Discriminator
from de3dgan.models.generator import Generator
from de3dgan.models.spectral_generator import SpectralGenerator

__all__ = [
    "BraindecodeNet",
    "Discriminator",
    "Generator",
    "SASTNet",
    "SpectralGenerator",
    "SpectralSASTNet",
]
