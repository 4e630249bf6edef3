"""The published objective, minimised step by step: the referee of the closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor, nn

from sjg.attribution._closed_form import closed_form
from sjg.attribution._descent import Descent, Objective, StopRule, descend
from sjg.attribution._module import check_count, check_inputs, fresh_generator, frozen, target_map
from sjg.attribution._noise import NoiseKind
from sjg.core import InputError

# Probes for the scale of the start alone: it is averaged over all pixels and channels, so few do.
_SCALE_PROBES = 4


def optimize(
    model: nn.Module,
    inputs: Tensor,
    target: int,
    *,
    n_steps: int = 20,
    lr: float = 0.1,
    information_weight: float = 0.01,
    n_draws: int = 4,
    grid_px: int = 1,
    generator: torch.Generator | None = None,
    genes: Sequence[int] | None = None,
    initial: Tensor | float | None = None,
    stop: StopRule | None = None,
    budget: float = 1.2,
    adaptive_weight: bool = False,
    noise: NoiseKind = "orthogonal",
    lr_decay: bool = True,
) -> Tensor:
    r"""Attribution by minimising the published objective over the noise scale of every input.

    :math:`\mathrm{MSE}(f_c(X + \sigma\epsilon), f_c(X)) - \lambda\,\mathrm{mean}(\log\sigma)` with Adam over :math:`\log\sigma`. At the optimum
    the mean squared change of the logits is :math:`\lambda / 2`, so `information_weight` is twice the noise budget.

    Parameters
    ----------
    model
        Maps (B, C, H, W) to logits (B, K, H, W). It is run in evaluation mode with frozen weights and left as it was.
    inputs
        (B, C, H, W) floating point tensor.
    target
        Class index c.
    n_steps
        Adam steps. A step moves log sigma by at most about `lr`, so the range of the result is bounded by their product.
    lr
        Adam's step size.
    information_weight
        :math:`\lambda`.
    n_draws
        Noise draws per step.
    grid_px
        Side of the cells that share their noise, in pixels; must divide H and W.
    generator
        Source of the noise; None takes fresh entropy.
    genes
        None optimises all channels together. Otherwise each listed channel is optimised alone, noise in no other (the published
        one-pair-at-a-time form; cost grows with the number of channels).
    initial
        Start: an attribution of the result's shape (for example from :func:`closed_form`: a few steps from there correct it for
        large budgets; its constant is chosen so that the start meets the budget), or one number sigma. None = one sigma per
        item that meets the budget to second order.
    stop
        Published stopping rules, item by item: ``"sigma"`` ends when the mean sigma exceeds `budget` times its start, ``"mse"`` when the MSE exceeds `budget`
        times its first value. None = run all the steps.
    budget
        Factor of the stopping rule, > 1.
    adaptive_weight
        Multiply the information weight by each item's variance of :math:`f_c(X)` over pixels, so that rescaling the logits changes nothing.
    noise
        ``"gaussian"`` as published, or ``"orthogonal"``: same mean and covariance, less sampling noise.
    lr_decay
        Lower the step size linearly to 0 over the second half, which averages the sampling noise out. False = constant, as published.

    Returns
    -------
    -log sigma, (B, C, H / grid, W / grid), or (B, len(genes), H / grid, W / grid); higher = more informative.

    Raises
    ------
    InputError
        An argument does not fit, or inputs, logits or the objective are not finite.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import optimize
    >>> model = torch.nn.Conv2d(3, 2, 1, bias=False)
    >>> _ = model.weight.data[0, :, 0, 0].copy_(torch.tensor([1.0, 4.0, 2.0]))
    >>> score = optimize(model, torch.rand(1, 3, 8, 8), 0, n_steps=200, generator=torch.Generator().manual_seed(0))
    >>> score = score.mean((0, 2, 3))
    >>> (score - score[0]).exp().round(decimals=2)
    tensor([1., 4., 2.])
    """
    check_count("n_steps", n_steps)
    _check_numbers(lr=lr, information_weight=information_weight)
    if stop is not None and (stop not in get_args(StopRule) or not budget > 1):
        raise InputError(f"stop is {stop!r} with budget {budget}; valid are None, {', '.join(get_args(StopRule))} with a budget > 1.")
    check_count("n_draws", n_draws)
    inputs = check_inputs(inputs, grid_px=grid_px)
    generator = fresh_generator(generator)
    groups = _groups(genes, inputs.shape[1])
    descent = Descent(n_steps=n_steps, lr=lr, lr_decay=lr_decay, n_draws=n_draws, noise=noise, stop=stop, budget=budget)
    results: list[Tensor] = []
    with frozen(model):
        with torch.no_grad():
            clean = target_map(model, inputs, target)
        weight = torch.full_like(clean[:, 0, 0], information_weight)
        if adaptive_weight:
            weight = weight * clean.flatten(1).var(1, correction=0).clamp_min(torch.finfo(clean.dtype).tiny)
        shape = torch.Size((len(inputs), sum(map(len, groups)), inputs.shape[2] // grid_px, inputs.shape[3] // grid_px))
        field = _initial_field(initial, shape, like=inputs)
        square = None
        if not isinstance(initial, (int, float)):  # a number is the start itself; a shape still needs its scale
            log_norm = closed_form(model, inputs, target, n_probes=_SCALE_PROBES, grid_px=grid_px, generator=generator)
            square = (2 * log_norm).exp()
        column = 0
        for group in groups:
            start = field[:, column : column + len(group)]
            column += len(group)
            if square is not None:
                start = _meet_budget(start, square[:, group], weight, n_outputs=clean[0].numel())
            objective = Objective(model, inputs, target, clean, weight, group, grid_px)
            results.append(-descend(objective, start, descent, generator))
    return torch.cat(results, 1)


def _initial_field(initial: Tensor | float | None, shape: torch.Size, *, like: Tensor) -> Tensor:
    """(B, C, h, w) log sigma to start from."""
    if initial is None:
        return torch.zeros(shape, dtype=like.dtype, device=like.device)
    if isinstance(initial, (int, float)):
        _check_numbers(initial=initial)
        return torch.full(shape, math.log(initial), dtype=like.dtype, device=like.device)
    if initial.shape != shape or not bool(torch.isfinite(initial).all()):
        raise InputError(f"initial has shape {tuple(initial.shape)}; give a finite attribution of shape {tuple(shape)}, a number or None.")
    return -initial.detach().to(like)


def _meet_budget(log_sigma: Tensor, square: Tensor, weight: Tensor, *, n_outputs: int) -> Tensor:
    """Shift each item of `log_sigma` so that its MSE is weight / 2 to second order; unshifted where nothing has influence."""
    mse = ((2 * log_sigma).exp() * square).flatten(1).sum(1) / n_outputs
    tiny = torch.finfo(mse.dtype).tiny
    influential = mse > mse.new_tensor(tiny) * square[0].numel() * 1e3
    shift = torch.where(influential, 0.5 * (weight / (2 * mse.clamp_min(tiny))).log(), torch.zeros_like(mse))
    return log_sigma + shift.view(-1, 1, 1, 1)


def _groups(genes: Sequence[int] | None, n_genes: int) -> list[list[int]]:
    if genes is None:
        return [list(range(n_genes))]
    wrong = [gene for gene in genes if not 0 <= gene < n_genes]
    if wrong or not genes:
        raise InputError(f"genes is {list(genes)}; give channel indices, valid are 0..{n_genes - 1}.")
    return [[gene] for gene in genes]


def _check_numbers(**values: float) -> None:
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; give a finite number > 0.")
