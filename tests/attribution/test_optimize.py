"""The published objective against its analytic optimum."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sjg.attribution import closed_form, optimize
from sjg.attribution._noise import unit_noise
from sjg.core import InputError

Seeded = Callable[[int], torch.Generator]
Build = Callable[[torch.Tensor], nn.Module]


@settings(deadline=None, max_examples=4)
@given(seed=st.integers(0, 10_000), n_genes=st.integers(1, 5), scale=st.floats(0.01, 30.0))
def test_linear_network_reaches_the_analytic_optimum(seed: int, n_genes: int, scale: float) -> None:
    """sigma_g^2 = lambda / (2 C w_g^2): also the constant, since the objective fixes it."""
    generator = torch.Generator().manual_seed(seed)
    weight = scale * (0.3 + 3 * torch.rand(2, n_genes, generator=generator)) * torch.randn(2, n_genes, generator=generator).sign()
    model = nn.Conv2d(n_genes, 2, 1)
    with torch.no_grad():
        model.weight.copy_(weight[:, :, None, None])
    inputs = torch.rand(1, n_genes, 4, 6, generator=generator)
    score = optimize(model, inputs, 1, n_steps=150, n_draws=n_genes, information_weight=0.02, generator=generator)
    expected = -0.5 * (0.02 / (2 * n_genes * weight[1].square())).log()
    torch.testing.assert_close(score, expected.view(1, -1, 1, 1).expand_as(score), rtol=0, atol=2e-3)


def test_gaussian_draws_agree_within_their_sampling_error(pointwise: Build, seeded: Seeded) -> None:
    weight = torch.tensor([[1.0, 3.0, 0.5, 2.0]])
    score = optimize(pointwise(weight), torch.rand(1, 4, 8, 8), 0, n_steps=150, n_draws=16, noise="gaussian", generator=seeded(0)).mean(
        (0, 2, 3)
    )
    expected = weight[0].log()
    torch.testing.assert_close(score - score.mean(), expected - expected.mean(), rtol=0, atol=0.05)


def test_grid_noise_adds_derivatives_before_squaring(seeded: Seeded) -> None:
    """A mean over the cell: the pixels' effects add, so a shared sigma counts the cell as one input."""
    mean = nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4))
    inputs = torch.rand(1, 3, 8, 8)
    shared = optimize(mean, inputs, 1, n_steps=120, grid_px=4, generator=seeded(0))
    assert shared.shape == (1, 3, 2, 2)
    # Every cell: ||J||^2 = 16 pixels x 1; lambda' = 0.01 * 64 / 12 inputs.
    expected = -0.5 * math.log(0.01 * 64 / 12 / (2 * 16))
    torch.testing.assert_close(shared[:, 1], torch.full((1, 2, 2), expected), rtol=0, atol=2e-3)
    exact = closed_form(mean, inputs, 1, n_probes=64, probes="interleaved", grid_px=4)
    torch.testing.assert_close(exact[:, 1], torch.full((1, 2, 2), math.log(4.0)))


def test_one_gene_at_a_time_agrees_with_joint_on_a_linear_network(pointwise: Build, seeded: Seeded) -> None:
    model, inputs = pointwise(torch.tensor([[1.0, 3.0, 0.5]])), torch.rand(1, 3, 4, 4)
    alone = optimize(model, inputs, 0, n_steps=120, n_draws=1, genes=[2, 0, 1], generator=seeded(0))
    expected = -0.5 * (0.01 / (2 * torch.tensor([0.5, 1.0, 3.0]).square())).log()
    torch.testing.assert_close(alone, expected.view(1, 3, 1, 1).expand(1, 3, 4, 4), rtol=0, atol=2e-3)


def test_converges_to_the_full_jacobian_on_a_nonlinear_network(
    small_network: nn.Module, seeded: Seeded, exact_square_norms: Callable[[nn.Module, torch.Tensor, int], torch.Tensor]
) -> None:
    inputs = torch.rand(1, 3, 8, 8, generator=seeded(0))
    exact = 0.5 * exact_square_norms(small_network, inputs, 1).log()
    errors = []
    for n_steps in (10, 160):
        score = optimize(small_network, inputs, 1, n_steps=n_steps, n_draws=8, information_weight=1e-5, generator=seeded(0))
        errors.append(float(((score - score.mean()) - (exact - exact.mean())).square().mean().sqrt()))
    assert errors[1] < 0.12
    assert errors[1] < errors[0] / 2


def test_start_from_the_closed_form_needs_few_steps(pointwise: Build, seeded: Seeded) -> None:
    model, inputs = pointwise(torch.tensor([[1e-2, 1.0, 1e2]])), torch.rand(2, 3, 4, 4)
    # The constant of the start does not matter: it is set by the budget.
    score = optimize(model, inputs, 0, n_steps=2, lr=0.01, initial=closed_form(model, inputs, 0) + 7.0, generator=seeded(0))
    expected = -0.5 * (0.01 / (6 * torch.tensor([1e-2, 1.0, 1e2]).square())).log()
    torch.testing.assert_close(score, expected.view(1, 3, 1, 1).expand_as(score), rtol=0, atol=0.02)


def test_numeric_start_is_used_as_given(pointwise: Build, seeded: Seeded) -> None:
    score = optimize(pointwise(torch.ones(1, 2)), torch.rand(1, 2, 4, 4), 0, n_steps=1, lr=1e-6, initial=0.25, generator=seeded(0))
    torch.testing.assert_close(score, torch.full_like(score, math.log(4.0)), rtol=0, atol=1e-4)


def test_stopping_rule_on_sigma(pointwise: Build, seeded: Seeded) -> None:
    """Far below the optimum each step multiplies sigma by exp(lr): the third exceeds a factor of 1.25."""
    model, inputs = pointwise(torch.ones(1, 2)), torch.rand(1, 2, 4, 4)
    score = optimize(model, inputs, 0, n_steps=50, lr=0.1, initial=1e-6, stop="sigma", budget=1.25, lr_decay=False, generator=seeded(0))
    torch.testing.assert_close(score, torch.full_like(score, 6 * math.log(10) - 0.3), rtol=0, atol=1e-3)


def test_stopping_rule_on_mse(pointwise: Build, seeded: Seeded) -> None:
    """The MSE grows by exp(0.2) a step; after the second it is 1.49 times the first and the third step is not taken."""
    model, inputs = pointwise(torch.ones(1, 2)), torch.rand(1, 2, 4, 4)
    score = optimize(
        model, inputs, 0, n_steps=50, lr=0.1, initial=1e-6, stop="mse", budget=1.4, lr_decay=False, n_draws=2, generator=seeded(0)
    )
    torch.testing.assert_close(score, torch.full_like(score, 6 * math.log(10) - 0.2), rtol=0, atol=1e-3)


def test_items_stop_on_their_own(pointwise: Build, seeded: Seeded) -> None:
    weight = torch.tensor([[10.0, 1.0]])
    model, inputs = pointwise(weight), torch.rand(2, 2, 4, 4)
    # The first item starts at its optimum and stays; in the second the sigma of the weak gene has to grow tenfold.
    start = torch.stack([weight[0].log().view(2, 1, 1).expand(2, 4, 4), torch.zeros(2, 4, 4)])
    stopped = optimize(model, inputs, 0, n_steps=40, initial=start, stop="sigma", budget=1.3, generator=seeded(0))
    free = optimize(model, inputs, 0, n_steps=40, initial=start, generator=seeded(0))
    assert torch.equal(stopped[0], free[0])
    mean_growth = (
        (-stopped[1]).exp().mean()
        / optimize(model, inputs, 0, n_steps=1, lr=1e-6, initial=start, generator=seeded(0))[1].neg().exp().mean()
    ).item()
    assert 1.3 < mean_growth < 1.3 * math.exp(0.1)
    assert float((stopped[1] - free[1]).abs().max()) > 0.5


def test_adaptive_weight_ignores_the_scale_of_the_logits(pointwise: Build, seeded: Seeded) -> None:
    inputs = torch.rand(1, 2, 6, 6, generator=seeded(0))
    small, large = (
        optimize(pointwise(f * torch.tensor([[1.0, 2.0]])), inputs, 0, n_steps=100, n_draws=2, adaptive_weight=True, generator=seeded(0))
        for f in (1.0, 50.0)
    )
    torch.testing.assert_close(small, large, rtol=0, atol=1e-3)


def test_orthogonal_noise_has_exact_moments(seeded: Seeded) -> None:
    like = torch.zeros(2, 5, 3, 4, dtype=torch.float64)
    draws = torch.stack(list(unit_noise("orthogonal", 8, like=like, generator=seeded(0))))
    covariance = torch.einsum("kbchw,kbdhw->bcdhw", draws, draws) / 8
    expected = torch.eye(5, dtype=torch.float64).view(1, 5, 5, 1, 1).expand_as(covariance)
    torch.testing.assert_close(covariance, expected)


@pytest.mark.parametrize("kind", ["orthogonal", "gaussian"])
def test_noise_is_unbiased_and_uncorrelated_between_pixels(kind: str, seeded: Seeded) -> None:
    like = torch.zeros(1, 3, 2, 2)
    generator = seeded(0)
    draws = torch.cat([torch.stack(list(unit_noise(kind, 4, like=like, generator=generator))) for _ in range(2000)])  # type: ignore[arg-type]
    flat = draws.flatten(1)
    assert float(flat.mean(0).abs().max()) < 0.06
    assert float((flat.T @ flat / len(flat) - torch.eye(12)).abs().max()) < 0.08


def test_generator_determines_the_result_and_the_model_is_left_as_it_was(small_network: nn.Module, seeded: Seeded) -> None:
    small_network.train()
    state = {k: v.clone() for k, v in small_network.state_dict().items()}
    inputs, before = torch.rand(2, 3, 8, 8, generator=seeded(0)), torch.get_rng_state()
    first, again, other = (optimize(small_network, inputs, 1, n_steps=3, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
    assert small_network.training
    assert all(p.requires_grad and p.grad is None for p in small_network.parameters())
    assert all(torch.equal(v, state[k]) for k, v in small_network.state_dict().items())


def test_a_network_that_ignores_a_gene_stays_finite(pointwise: Build, seeded: Seeded) -> None:
    for weight in ([[0.0, 1.0]], [[0.0, 0.0]]):
        score = optimize(pointwise(torch.tensor(weight)), torch.rand(1, 2, 4, 4), 0, generator=seeded(0))
        assert bool(torch.isfinite(score).all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_steps": 0}, "n_steps"),
        ({"n_draws": 0}, "n_draws"),
        ({"lr": -1.0}, "lr"),
        ({"information_weight": 0.0}, "information_weight"),
        ({"stop": "never"}, "sigma, mse"),
        ({"stop": "mse", "budget": 1.0}, "budget"),
        ({"genes": [0, 2]}, "valid are 0..1"),
        ({"genes": []}, "valid are 0..1"),
        ({"initial": torch.zeros(1, 2, 2, 2)}, "initial"),
        ({"initial": -1.0}, "initial"),
        ({"noise": "pink"}, "orthogonal, gaussian"),
        ({"target": 5}, "valid are 0..1"),
        ({"grid_px": 3}, "must divide"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str, pointwise: Build) -> None:
    arguments: dict[str, object] = {"target": 0, **change}
    target = arguments.pop("target")
    with pytest.raises(InputError, match=message):
        optimize(pointwise(torch.ones(2, 2)), torch.rand(1, 2, 4, 4), target, **arguments)  # type: ignore[arg-type]


def test_overflow_surfaces(seeded: Seeded) -> None:
    class Explosive(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 1e-3 * torch.exp(100 * x)

    with pytest.raises(InputError, match="finite|overflow"):
        optimize(Explosive(), torch.zeros(1, 1, 4, 4), 0, initial=1e3, generator=seeded(0))
