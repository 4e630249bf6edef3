"""Closed form against analytic optima, the full Jacobian and the Monte-Carlo law."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sjg.attribution import closed_form, gradient
from sjg.core import InputError

Seeded = Callable[[int], torch.Generator]
Exact = Callable[[nn.Module, torch.Tensor, int], torch.Tensor]


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    n_genes=st.integers(1, 12),
    n_probes=st.integers(1, 5),
    probes=st.sampled_from(["signs", "interleaved"]),
)
def test_linear_network_is_solved_exactly(seed: int, n_genes: int, n_probes: int, probes: str) -> None:
    """f_c = sum_g w_g x_g has sigma_g^2 = lambda' / (2 w_g^2), whatever the probes."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(3, n_genes, generator=generator) * 10 ** (4 * torch.rand(3, n_genes, generator=generator) - 2)
    # a millionth of the largest weight drowns in the rounding of single precision
    weight = weight.sign() * weight.abs().clamp_min(1e-3)
    model = nn.Conv2d(n_genes, 3, 1)
    with torch.no_grad():
        model.weight.copy_(weight[:, :, None, None])
    score = closed_form(
        model,
        torch.rand(2, n_genes, 6, 4),
        1,
        n_probes=n_probes,
        probes=probes,
        generator=generator,  # type: ignore[arg-type]
    )
    expected = weight[1].abs().log().view(1, -1, 1, 1).expand_as(score)
    torch.testing.assert_close(score, expected, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_locally_linear_network_equals_its_linear_region(seed: int) -> None:
    """Where every ReLU keeps its side, the network is the product of its matrices."""
    generator = torch.Generator().manual_seed(seed)
    first, second = nn.Conv2d(4, 6, 1), nn.Conv2d(6, 2, 1)
    with torch.no_grad():
        first.weight.copy_(torch.randn(first.weight.shape, generator=generator))
        second.weight.copy_(torch.randn(second.weight.shape, generator=generator))
        sides = (torch.rand(6, generator=generator) > 0.5).float()
        first.bias.copy_((2 * sides - 1) * 100)  # inputs lie in [0, 1]: nothing can cross zero
    matrix = second.weight[0, :, 0, 0] @ (sides[:, None] * first.weight[:, :, 0, 0])
    score = closed_form(nn.Sequential(first, nn.ReLU(), second), torch.rand(1, 4, 5, 5, generator=generator), 0, n_probes=2)
    if sides.any():
        torch.testing.assert_close(score.mean((0, 2, 3)), matrix.detach().abs().log(), rtol=1e-4, atol=1e-4)
    else:
        assert score.unique().numel() == 1


@pytest.mark.parametrize("grid_px", [1, 2, 4])
def test_equals_the_full_jacobian_with_one_probe_per_pixel(small_network: nn.Module, grid_px: int, exact_square_norms: Exact) -> None:
    inputs = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    score = closed_form(small_network, inputs, 2, n_probes=64, probes="interleaved", grid_px=grid_px)
    if grid_px == 1:
        square = exact_square_norms(small_network, inputs, 2)
    else:  # the derivative with respect to a shift of the whole cell
        small_network.eval()
        shift = torch.zeros(2, 3, 8 // grid_px, 8 // grid_px)

        class Shifted(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return small_network(inputs + x.repeat_interleave(grid_px, 2).repeat_interleave(grid_px, 3))

        square = exact_square_norms(Shifted(), shift, 2)
    torch.testing.assert_close(score, 0.5 * square.log(), rtol=1e-4, atol=1e-4)


def test_converges_at_the_monte_carlo_rate(small_network: nn.Module, seeded: Seeded, exact_square_norms: Exact) -> None:
    inputs = torch.rand(1, 3, 8, 8, generator=seeded(0))
    square = exact_square_norms(small_network, inputs, 1)
    few, many = (
        torch.stack([(2 * closed_form(small_network, inputs, 1, n_probes=n, generator=seeded(s))).exp() / square for s in range(40)])
        for n in (8, 64)
    )
    # Unbiased, relative variance at most 2 / n, and falling as 1 / n.
    assert float((few.mean() - 1).abs()) < 0.03
    assert float(few.var(0).mean()) < 2 / 8
    assert 6 < float(few.var(0).mean() / many.var(0).mean()) < 10.5


def test_interleaved_probes_are_unbiased_and_no_worse(small_network: nn.Module, seeded: Seeded, exact_square_norms: Exact) -> None:
    inputs = torch.rand(1, 3, 8, 8, generator=seeded(0))
    square = exact_square_norms(small_network, inputs, 1)
    draws = {
        kind: torch.stack(
            [(2 * closed_form(small_network, inputs, 1, n_probes=8, probes=kind, generator=seeded(s))).exp() / square for s in range(60)]
        )
        for kind in ("signs", "interleaved")
    }
    assert float((draws["interleaved"].mean() - 1).abs()) < 0.03
    assert float(draws["interleaved"].var(0).mean()) < float(draws["signs"].var(0).mean())


def test_several_targets_equal_one_by_one(small_network: nn.Module, seeded: Seeded) -> None:
    inputs = torch.rand(2, 3, 8, 8, generator=seeded(0))
    together = closed_form(small_network, inputs, [0, 3], n_probes=64, probes="interleaved")
    assert together.shape == (2, 2, 3, 8, 8)
    for index, target in enumerate((0, 3)):
        torch.testing.assert_close(together[index], closed_form(small_network, inputs, target, n_probes=64, probes="interleaved"))


def test_items_of_a_batch_are_independent(small_network: nn.Module, seeded: Seeded) -> None:
    inputs = torch.rand(3, 3, 8, 8, generator=seeded(0))
    together = closed_form(small_network, inputs, 1, n_probes=64, probes="interleaved")
    alone = closed_form(small_network, inputs[1:2], 1, n_probes=64, probes="interleaved")
    torch.testing.assert_close(together[1:2], alone)


def test_generator_determines_the_result_and_the_global_state_is_untouched(small_network: nn.Module, seeded: Seeded) -> None:
    inputs = torch.rand(1, 3, 8, 8, generator=seeded(0))
    before = torch.get_rng_state()
    first, again, other, fresh = (
        closed_form(small_network, inputs, 1, n_probes=2, generator=g) for g in (seeded(1), seeded(1), seeded(2), None)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, fresh)
    assert torch.equal(before, torch.get_rng_state())


def test_the_model_is_left_as_it_was(small_network: nn.Module, seeded: Seeded) -> None:
    small_network.train()
    small_network[1].eval()  # a submodule frozen on purpose must stay so
    small_network[0].weight.requires_grad_(False)
    small_network[5].weight.grad = torch.ones_like(small_network[5].weight)
    state = {k: v.clone() for k, v in small_network.state_dict().items()}
    flags = [m.training for m in small_network.modules()]
    needs = [p.requires_grad for p in small_network.parameters()]
    inputs = torch.rand(2, 3, 8, 8, generator=seeded(0), requires_grad=True)

    with torch.no_grad():
        closed_form(small_network, inputs, 1)
        gradient(small_network, inputs, 1)
    with pytest.raises(InputError):
        closed_form(small_network, inputs, 17)

    assert [m.training for m in small_network.modules()] == flags
    assert [p.requires_grad for p in small_network.parameters()] == needs
    assert torch.equal(small_network[5].weight.grad, torch.ones_like(small_network[5].weight))
    assert all(p.grad is None for p in small_network.parameters() if p is not small_network[5].weight)
    assert all(torch.equal(v, state[k]) for k, v in small_network.state_dict().items())
    assert inputs.grad is None


def test_works_under_inference_mode(small_network: nn.Module) -> None:
    with torch.inference_mode():
        score = closed_form(small_network, torch.rand(1, 3, 8, 8), 0, n_probes=2)
    assert bool(torch.isfinite(score).all())


@pytest.mark.parametrize("weight", [[0.0, 2.0], [0.0, 0.0], [1e-30, 1.0]])
def test_inputs_without_influence_get_a_finite_floor(pointwise: Callable[[torch.Tensor], nn.Module], weight: list[float]) -> None:
    score = closed_form(pointwise(torch.tensor([weight])), torch.rand(1, 2, 4, 4), 0, n_probes=2)
    assert bool(torch.isfinite(score).all())
    if weight[1]:
        assert float(score[0, 1].min() - score[0, 0].max()) > 10
    else:
        assert score.unique().numel() == 1


def test_a_class_that_ignores_the_input_is_constant() -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(x), 2, 4, 4)

    assert closed_form(Constant(), torch.rand(1, 2, 4, 4), 0).unique().numel() == 1
    assert not gradient(Constant(), torch.rand(1, 2, 4, 4), 0).any()


def test_gradient_is_the_derivative_of_the_summed_logits(pointwise: Callable[[torch.Tensor], nn.Module]) -> None:
    weight = torch.tensor([[1.0, -3.0], [2.0, 0.5]])
    saliency = gradient(pointwise(weight), torch.rand(1, 2, 8, 8), 0, grid_px=4)
    torch.testing.assert_close(saliency, torch.tensor([16.0, 48.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": 2}, "valid are 0..1"),
        ({"target": -1}, "valid are 0..1"),
        ({"target": 1.0}, "index of a class"),
        ({"target": []}, "empty"),
        ({"grid_px": 3}, r"one of \[1, 2, 4\]"),
        ({"grid_px": 0}, "must divide"),
        ({"n_probes": 0}, "n_probes"),
        ({"probes": "dense"}, "signs, interleaved"),
        ({"inputs": torch.ones(1, 2, 4)}, r"\(B, C, H, W\)"),
        ({"inputs": torch.full((1, 2, 4, 4), float("nan"))}, "not finite"),
        ({"model": nn.Flatten()}, "must return logits"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, object], message: str, pointwise: Callable[[torch.Tensor], nn.Module]) -> None:
    arguments: dict[str, object] = {"model": pointwise(torch.ones(2, 2)), "inputs": torch.rand(1, 2, 4, 4), "target": 0, **change}
    model, inputs, target = (arguments.pop(name) for name in ("model", "inputs", "target"))
    with pytest.raises(InputError, match=message):
        closed_form(model, inputs, target, **arguments)  # type: ignore[arg-type]


def test_non_finite_logits_surface(pointwise: Callable[[torch.Tensor], nn.Module]) -> None:
    with pytest.raises(InputError, match="logits that are not finite"):
        closed_form(pointwise(torch.full((1, 2), float("inf"))), torch.rand(1, 2, 4, 4), 0)


def test_an_error_in_the_model_is_not_swallowed() -> None:
    with pytest.raises(RuntimeError):
        closed_form(nn.Conv2d(5, 2, 1), torch.rand(1, 2, 4, 4), 0)


@pytest.mark.parametrize("probes", ["signs", "interleaved"])
def test_windows_of_a_raster_join_without_a_seam(probes: str, seeded: Seeded) -> None:
    """Signs that belong to places: a window says the same as the whole wherever its margin reaches."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 2, 3, padding=1))
    inputs = torch.rand(1, 2, 24, 30)

    def at(rows: slice, columns: slice, origin_px: tuple[int, int] | None) -> torch.Tensor:
        return closed_form(
            model,
            inputs[..., rows, columns],
            0,
            n_probes=3,
            generator=seeded(5),
            probes=probes,  # type: ignore[arg-type]
            origin_px=origin_px,
        )

    whole = at(slice(0, 24), slice(0, 30), (-7, 100))
    # an output reaches 2 px, and what it does there depends on 2 px more
    window = at(slice(5, 20), slice(9, 28), (-2, 109))
    torch.testing.assert_close(window[..., 4:-4, 4:-4], whole[..., 9:16, 13:24])
    alone = at(slice(5, 20), slice(9, 28), None)
    assert (alone[..., 4:-4, 4:-4] - whole[..., 9:16, 13:24]).abs().mean() > 0.02
    columns = at(slice(0, 24), slice(0, 30), (0, 0)), whole
    assert (columns[0] - columns[1]).abs().mean() > 0.02


def test_a_model_that_needs_the_usual_order_in_memory(small_network: nn.Module, seeded: Seeded) -> None:
    """Channels lie last in memory on a CPU; ``view`` cannot take that."""

    class Viewing(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x.view(len(x), -1).view(x.shape))

    x = torch.rand(2, 3, 8, 8, generator=seeded(0))
    expected = closed_form(small_network, x, 1, generator=seeded(1))
    assert expected.is_contiguous()
    torch.testing.assert_close(closed_form(Viewing(small_network), x, 1, generator=seeded(1)), expected)
