"""Contributions against linear networks, where they are known."""

from __future__ import annotations

import pytest
import torch

from sjg.attribution import type_contribution
from sjg.core import InputError


def test_contributions_of_a_linear_network_add_up_to_its_logits() -> None:
    torch.manual_seed(0)
    head = torch.nn.Conv2d(3, 4, 3, padding=1, bias=False)
    maps = torch.randn(2, 3, 9, 8)
    found = type_contribution(head, maps, [3, 1])
    assert found.shape == (2, 2, 9, 8)
    torch.testing.assert_close(found.sum((2, 3)), head(maps)[:, [3, 1]].sum((2, 3)).detach(), rtol=1e-4, atol=1e-4)
    assert head.weight.requires_grad
    assert head.weight.grad is None


def test_a_pixel_without_transcripts_contributes_nothing() -> None:
    maps = torch.rand(1, 2, 6, 6)
    maps[..., 3:] = 0
    found = type_contribution(torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3, padding=1), torch.nn.Tanh()), maps, [0])
    assert bool((found[..., 3:] == 0).all())
    assert bool((found[..., :3] != 0).any())


def test_a_class_that_ignores_the_transcripts_gets_zero() -> None:
    class Constant(torch.nn.Module):
        def forward(self, maps: torch.Tensor) -> torch.Tensor:
            return torch.ones(len(maps), 2, *maps.shape[2:])

    assert not type_contribution(Constant(), torch.rand(1, 2, 4, 4), [1]).any()


def test_no_class_is_an_error() -> None:
    with pytest.raises(InputError, match="at least one class"):
        type_contribution(torch.nn.Conv2d(1, 1, 1), torch.rand(1, 1, 4, 4), [])
