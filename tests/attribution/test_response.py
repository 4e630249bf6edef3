"""The noise budget that an attribution implies, injected and measured."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sjg.attribution import closed_form, noise_response, noise_scale, optimize
from sjg.core import InputError

Seeded = Callable[[int], torch.Generator]


@pytest.mark.parametrize("grid_px", [1, 2])
def test_small_budgets_are_calibrated(small_network: nn.Module, seeded: Seeded, grid_px: int) -> None:
    inputs = torch.rand(1, 3, 8, 8, generator=seeded(0))
    score = closed_form(small_network, inputs, 1, n_probes=64, probes="interleaved", grid_px=grid_px)
    for budget in (1e-6, 1e-5):
        sigma = noise_scale(score, budget=budget, n_outputs=64)
        measured = noise_response(small_network, inputs, 1, sigma=sigma, n_draws=600, grid_px=grid_px, generator=seeded(1))
        assert float(measured) == pytest.approx(budget, rel=0.1)


def test_sampled_norms_are_corrected(seeded: Seeded) -> None:
    """A mean over the patch: all 256 output pixels contribute equally, so the estimated squares are chi-squared."""

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3), keepdim=True).expand_as(x)

    inputs = torch.rand(1, 1, 4, 4)
    measured = []
    for seed in range(300):
        score = closed_form(Mean(), inputs, 0, n_probes=8, generator=seeded(seed))
        sigma = noise_scale(score, budget=1.0, n_outputs=16, n_probes=8)
        measured.append(float((sigma**2).sum() / 16**2))  # the exact response of this network
    assert sum(measured) / len(measured) == pytest.approx(1.0, rel=0.15)


def test_optimum_of_the_objective_uses_half_the_information_weight(small_network: nn.Module, seeded: Seeded) -> None:
    inputs = torch.rand(1, 3, 8, 8, generator=seeded(0))
    score = optimize(small_network, inputs, 1, n_steps=100, n_draws=8, information_weight=2e-5, generator=seeded(2))
    measured = noise_response(small_network, inputs, 1, sigma=(-score).exp(), n_draws=600, generator=seeded(1))
    assert float(measured) == pytest.approx(1e-5, rel=0.1)


def test_linear_response_has_its_analytic_value(pointwise: Callable[[torch.Tensor], nn.Module], seeded: Seeded) -> None:
    sigma = torch.tensor([0.5, 2.0]).view(1, 2, 1, 1).expand(1, 2, 40, 40)
    measured = noise_response(pointwise(torch.tensor([[3.0, -1.0]])), torch.rand(1, 2, 40, 40), 0, sigma=sigma, generator=seeded(0))
    assert float(measured) == pytest.approx(1.5**2 + 2.0**2, rel=0.05)


def test_bad_arguments_are_named(small_network: nn.Module) -> None:
    with pytest.raises(InputError, match="sigma has shape"):
        noise_response(small_network, torch.rand(1, 3, 8, 8), 0, sigma=torch.ones(1, 3, 4, 4))
    with pytest.raises(InputError, match="budget"):
        noise_scale(torch.zeros(1, 1, 2, 2), budget=0.0, n_outputs=4)
    with pytest.raises(InputError, match="n_probes"):
        noise_scale(torch.zeros(1, 1, 2, 2), budget=1.0, n_outputs=4, n_probes=2)
