"""Losses against critics and networks whose gradients and features are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from de3dgan.training.losses import consistency_loss, critic_loss, gradient_penalty

SHAPE = (3, 16)


def frames(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """Scores w·x, so that its gradient is w everywhere."""

    def __init__(self, norm: float):
        super().__init__()
        w = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7))
        self.w = nn.Parameter(norm * w / w.norm())

    def forward(self, x):
        return (x * self.w).sum((1, 2))


@pytest.mark.parametrize("norm", [0.25, 1.0, 3.0])
def test_the_penalty_of_a_linear_critic_is_known(norm):
    critic = Linear(norm)
    penalty = gradient_penalty(critic, frames(5, 0), frames(5, 1))
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-6)
    penalty.backward()
    # d/dw (‖w‖ - 1)² = 2 (‖w‖ - 1) w / ‖w‖: the penalty can be trained on.
    expected = 2 * (norm - 1) * critic.w.detach() / norm
    torch.testing.assert_close(critic.w.grad, expected, atol=1e-6, rtol=1e-5)


def test_the_penalty_is_per_frame_and_taken_between_the_pair():
    """½‖x‖² has gradient x, so what is penalised is the norm of the mixture itself."""

    def critic(x):
        seen.append(x.detach())
        return x.square().sum((1, 2)) / 2

    seen: list[torch.Tensor] = []
    real, generated = frames(64, 0), frames(64, 1)
    penalty = gradient_penalty(critic, real, generated).item()
    (mixed,) = seen
    assert penalty == pytest.approx(((mixed.flatten(1).norm(dim=1) - 1) ** 2).mean().item())
    ratio = ((mixed - generated) / (real - generated)).flatten(1)
    assert (ratio.std(1) < 1e-3).all()  # one ratio per pair
    ratio = ratio.mean(1)
    assert (ratio > -1e-4).all() and (ratio < 1.0001).all()
    assert ratio.min() < 0.2 and ratio.max() > 0.8 and ratio.std() > 0.2


def test_the_critic_gains_by_scoring_real_frames_higher():
    critic = Linear(1.0)
    direction = critic.w.detach()
    low, high = frames(4, 0), frames(4, 0) + 5 * direction
    loss, gap = critic_loss(critic, high, low, penalty_weight=2.0)
    # ‖w‖ is 1, so there is no penalty, and 5 w/‖w‖ raises the score by 5.
    assert gap.item() == pytest.approx(5, abs=1e-4)
    assert loss.item() == pytest.approx(-5, abs=1e-4)
    loss, gap = critic_loss(critic, low, high, penalty_weight=2.0)
    assert (loss.item(), gap.item()) == pytest.approx((5, -5), abs=1e-4)


@pytest.mark.parametrize("weight", [0.0, 1.0, 10.0])
def test_the_penalty_counts_as_often_as_told(weight):
    loss, gap = critic_loss(Linear(3.0), frames(6, 0), frames(6, 1), weight)
    assert (loss + gap).item() == pytest.approx(4 * weight, abs=1e-4)


def test_parts_may_differ_in_mean_score_only():
    critic = Linear(2.0)
    real, generated = frames(6, 0), frames(6, 1)
    _, gap = critic_loss(critic, real, generated, 1.0)
    expected = critic(real).mean() - critic(generated).mean()
    assert gap.item() == pytest.approx(expected.item(), abs=1e-5)


def test_consistency_is_cross_entropy_of_real_and_distance_of_features():
    torch.manual_seed(0)
    hidden, head = nn.Linear(48, 10), nn.Linear(10, 3)

    def net(x):
        feature = torch.tanh(hidden(x.flatten(1)))
        return head(feature), feature

    real, generated = frames(8, 0), frames(8, 1)
    labels = torch.arange(8) % 3

    def terms(real, paired):
        return consistency_loss(*net(torch.cat([real, paired])), labels)

    entropy, distance = terms(real, generated)

    real_feature, generated_feature = (
        np.tanh(
            x.flatten(1).numpy() @ hidden.weight.detach().numpy().T + hidden.bias.detach().numpy()
        )
        for x in (real, generated)
    )
    logits = real_feature @ head.weight.detach().numpy().T + head.bias.detach().numpy()
    odds = np.exp(logits)
    chosen = odds[np.arange(8), labels] / odds.sum(1)
    assert entropy.item() == pytest.approx(-np.log(chosen).mean(), abs=1e-5)
    assert distance.item() == pytest.approx(
        ((real_feature - generated_feature) ** 2).mean(), abs=1e-6
    )
    # Each frame is compared with its own partner.
    _, same = terms(real, real)
    _, shuffled = terms(real, real.flip(0))
    assert same.item() == 0 < shuffled.item()
