"""Networks with known answers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn


@pytest.fixture
def seeded() -> Callable[[int], torch.Generator]:
    return lambda seed: torch.Generator().manual_seed(seed)


@pytest.fixture
def pointwise() -> Callable[[torch.Tensor], nn.Module]:
    """1x1 convolution with the given (K, C) weights: the optimum is known in closed form."""

    def build(weight: torch.Tensor) -> nn.Module:
        model = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
        with torch.no_grad():
            model.weight.copy_(weight[:, :, None, None])
        return model.to(weight.dtype)

    return build


@pytest.fixture
def small_network() -> nn.Module:
    """Nonlinear, with batch normalisation, dropout and pooling, receptive field of the whole 8 x 8 patch."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.AvgPool2d(2),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Tanh(),
            nn.Upsample(scale_factor=2),
            nn.Conv2d(8, 4, 3, padding=1),
        )


@pytest.fixture
def exact_square_norms() -> Callable[[nn.Module, torch.Tensor, int], torch.Tensor]:
    """Squared column norms of the full Jacobian, the independent oracle."""

    def compute(model: nn.Module, inputs: torch.Tensor, target: int) -> torch.Tensor:
        model.eval()
        jacobian = torch.autograd.functional.jacobian(lambda x: model(x)[:, target], inputs)
        # (B, H, W, B, C, H, W): items of the batch do not influence each other.
        return torch.stack([jacobian[b, :, :, b].square().sum((0, 1)) for b in range(len(inputs))])

    return compute
