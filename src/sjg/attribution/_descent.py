"""The published objective and Adam on the logarithm of the noise scale."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from sjg.attribution._grid import spread_cells
from sjg.attribution._module import target_map
from sjg.attribution._noise import NoiseKind, unit_noise
from sjg.core import InputError

StopRule = Literal["sigma", "mse"]

# In units of the gradient far below the optimum (1); rounding errors are near 1e-6.
_ADAM_EPS = 1e-3


@dataclass(frozen=True)
class Descent:
    """Settings of :func:`descend`; see :func:`sjg.attribution.optimize`."""

    n_steps: int
    lr: float
    lr_decay: bool
    n_draws: int
    noise: NoiseKind
    stop: StopRule | None
    budget: float


@dataclass(frozen=True)
class Objective:
    """``MSE(f_c(X + sigma eps), f_c(X)) - weight * mean(log sigma)`` for each item of a batch, noise on `channels` alone."""

    model: nn.Module
    inputs: Tensor
    target: int
    clean: Tensor
    weight: Tensor
    channels: list[int]
    grid_px: int

    def backward(self, log_sigma: Tensor, noise: NoiseKind, n_draws: int, generator: torch.Generator) -> Tensor:
        """Add the gradient to ``log_sigma.grad``; returns the (B,) MSE. Draw by draw, so memory does not grow with the draws."""
        columns = torch.tensor(self.channels, device=self.inputs.device)
        total = torch.zeros_like(self.weight)
        # In these units the gradient of an entry is (its share of the MSE / its share at the optimum) - 1.
        unit_gradient = log_sigma[0].numel() / self.weight
        for unit in unit_noise(noise, n_draws, like=log_sigma.detach(), generator=generator):
            disturbance = spread_cells(log_sigma.exp() * unit, self.grid_px)
            changed = target_map(self.model, self.inputs.index_add(1, columns, disturbance), self.target)
            mse = (changed - self.clean).square().flatten(1).mean(1) / n_draws
            if mse.requires_grad:
                torch.autograd.backward((mse * unit_gradient).sum())
            total += mse.detach()
        # Items are independent problems: the sum of their objectives has their gradients.
        torch.autograd.backward(-log_sigma.sum())
        if not bool(torch.isfinite(total).all()):
            raise InputError("the noise made the mean squared error overflow; lower information_weight or initial.")
        return total


def descend(objective: Objective, start: Tensor, settings: Descent, generator: torch.Generator) -> Tensor:
    """Minimise from `start` (B, c, h, w); returns log sigma."""
    log_sigma = start.clone().requires_grad_()
    # Adam divides by the size of the gradient: without a sensible eps it would blow rounding errors at the optimum up to whole steps.
    adam = torch.optim.Adam([log_sigma], lr=settings.lr, eps=_ADAM_EPS)
    active = torch.ones_like(objective.weight, dtype=torch.bool)
    first_sigma = start.exp().flatten(1).mean(1)
    first_mse = None
    for step in range(settings.n_steps):
        adam.param_groups[0]["lr"] = settings.lr * (_decay(step, settings.n_steps) if settings.lr_decay else 1.0)
        adam.zero_grad()
        mse = objective.backward(log_sigma, settings.noise, settings.n_draws, generator)
        first_mse = mse if first_mse is None else first_mse
        if settings.stop == "mse":
            active = active & (mse <= settings.budget * first_mse)
        if not bool(active.any()):
            break
        before = log_sigma.detach().clone()
        adam.step()
        with torch.no_grad():
            # Adam's step does not mix entries, so an item that has stopped can simply be put back.
            log_sigma.copy_(torch.where(active.view(-1, 1, 1, 1), log_sigma, before))
            if settings.stop == "sigma":
                active = active & (log_sigma.exp().flatten(1).mean(1) <= settings.budget * first_sigma)
    return log_sigma.detach()


def _decay(step: int, n_steps: int) -> float:
    """1 over the first half of the steps, then linearly towards 0."""
    return min(1.0, 2 * (n_steps - step) / (n_steps + 1))
