"""Losses that the published method is trained by: those of the critic, and of fine-tuning."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def gradient_penalty(
    critic: nn.Module, real: Tensor, generated: Tensor, ratio: Tensor | None = None
) -> Tensor:
    """Return the mean of (‖∇critic(x)‖₂ - 1)² at random mixtures x of real and generated frames.

    Gulrajani et al., Improved training of Wasserstein GANs, NeurIPS 2017, equation 3.

    Parameters
    ----------
    critic : Module
        Maps frames (N, n_chans, n_times) to scores (N,).
    real, generated : Tensor, (N, n_chans, n_times)
        Pairs are mixed at one random ratio each.
    ratio : Tensor, (N,), optional
        Uniform in 0 to 1; by default, drawn here.

    Returns
    -------
    Tensor, scalar
    """
    if ratio is None:
        ratio = torch.rand(len(real), device=real.device)
    ratio = ratio[:, None, None]
    mixed = (ratio * real + (1 - ratio) * generated).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(mixed).float().sum(), mixed, create_graph=True)
    return (gradient.flatten(1).norm(dim=1) - 1).square().mean()


def critic_loss(
    critic: nn.Module,
    real: Tensor,
    generated: Tensor,
    penalty_weight: float,
    ratio: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the critic's WGAN-GP loss, and how much higher it scores real than generated frames.

    Parameters
    ----------
    critic : Module
        Maps frames (N, n_chans, n_times) to scores (N,).
    real, generated : Tensor, (N, n_chans, n_times)
        Normalised EEG; `generated` detached from its generator.
    penalty_weight : float
        Weight λ of the gradient penalty.
    ratio : Tensor, (N,), optional
        See `gradient_penalty`.

    Returns
    -------
    loss, gap : Tensor, scalar
    """
    scores = critic(torch.cat([real, generated])).float()
    gap = scores[: len(real)].mean() - scores[len(real) :].mean()
    return penalty_weight * gradient_penalty(critic, real, generated, ratio) - gap, gap


def consistency_loss(
    logits: Tensor, features: Tensor, labels: Tensor, class_weight: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the two terms of fine-tuning's loss.

    Parameters
    ----------
    logits : Tensor, (2 · N, n_classes)
        Class scores of N real frames, then of the frames paired with them.
    features : Tensor, (2 · N, n_features)
        Their features.
    labels : Tensor of int, (N,)
        Classes of both.
    class_weight : Tensor, (n_classes,), optional
        What a frame of each class weighs.

    Returns
    -------
    cross_entropy : Tensor, scalar
        Of the real frames alone.
    distance : Tensor, scalar
        Mean squared difference between the features of real and paired frames.
    """
    real, paired = features.float().chunk(2)
    entropy = weighted_cross_entropy(logits[: len(labels)], labels, class_weight)
    return entropy, F.mse_loss(real, paired)


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, class_weight: Tensor | None = None
) -> Tensor:
    """Return the mean over frames of cross entropy times the weight of their class.

    PyTorch's divides by the weights of the batch instead: the mean of two halves of a batch would
    not be that of all of it.

    Parameters
    ----------
    logits : Tensor, (N, n_classes)
        Class scores.
    labels : Tensor of int, (N,)
        Classes.
    class_weight : Tensor, (n_classes,), optional
        What a frame of each class weighs; without, 1.

    Returns
    -------
    Tensor, scalar
    """
    if class_weight is None:
        return F.cross_entropy(logits.float(), labels)
    entropy = F.cross_entropy(logits.float(), labels, reduction="none")
    return (entropy * class_weight[labels]).mean()
