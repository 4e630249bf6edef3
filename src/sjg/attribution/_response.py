"""From attribution to noise of a given budget, and the measured effect of that noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sjg.attribution._grid import spread_cells
from sjg.attribution._module import check_count, check_inputs, fresh_generator, frozen, target_map
from sjg.core import InputError


def noise_scale(attribution: Tensor, *, budget: float, n_outputs: int, n_probes: int | None = None) -> Tensor:
    r"""The noise sigma of a closed-form attribution that should change the logits by a mean square of `budget`.

    With :math:`\sigma_p = s / \|J_p\|` the mean squared change is :math:`s^2 n / N` for n inputs and N output pixels, to second order.

    Parameters
    ----------
    attribution
        (B, C, H / grid, W / grid) result of :func:`closed_form`, whose constant is meaningful (``log||J||``).
    budget
        Mean squared change of the logit map; `information_weight` / 2 of :func:`optimize`.
    n_outputs
        H * W, pixels of the logit map.
    n_probes
        Number of random signs that `attribution` was estimated with, at least 3; None = exact. An estimated norm in the
        denominator makes sigma too large on average, by ``n / (n - 2)`` in the squared change where many output pixels contribute.

    Returns
    -------
    sigma, shape of `attribution`.

    Raises
    ------
    InputError
        `budget` is not positive or there are too few probes.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import noise_scale
    >>> noise_scale(torch.zeros(1, 2, 4, 4), budget=0.5, n_outputs=16).unique()
    tensor([0.5000])
    """
    if not budget > 0:
        raise InputError(f"budget is {budget}; give a mean squared change > 0.")
    check_count("n_outputs", n_outputs)
    n_inputs = attribution[0].numel()
    if n_probes is not None:
        if n_probes < 3:
            raise InputError(f"n_probes is {n_probes}; with fewer than 3 the mean squared change is not determined.")
        budget = budget * (n_probes - 2) / n_probes
    scale: float = (budget * n_outputs / n_inputs) ** 0.5
    return scale * (-attribution).exp()


def noise_response(
    model: nn.Module,
    inputs: Tensor,
    target: int,
    *,
    sigma: Tensor,
    n_draws: int = 16,
    grid_px: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean squared change of a logit map when Gaussian noise of scale `sigma` is added to the inputs.

    Parameters
    ----------
    model
        Maps (B, C, H, W) to logits (B, K, H, W); run frozen and left as it was.
    inputs
        (B, C, H, W) floating point tensor.
    target
        Class index.
    sigma
        (B, C, H / grid, W / grid) standard deviations.
    n_draws
        Draws to average over.
    grid_px
        Side of the cells that share their noise, in pixels.
    generator
        Source of the noise; None takes fresh entropy.

    Returns
    -------
    (B,) mean over pixels and draws of the squared change.

    Raises
    ------
    InputError
        As in :func:`closed_form`; also where `sigma` has another shape.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import noise_response
    >>> model = torch.nn.Conv2d(1, 1, 1)
    >>> noise_response(model, torch.rand(1, 1, 8, 8), 0, sigma=torch.zeros(1, 1, 8, 8))
    tensor([0.])
    """
    check_count("n_draws", n_draws)
    inputs = check_inputs(inputs, grid_px=grid_px)
    expected = (*inputs.shape[:2], inputs.shape[2] // grid_px, inputs.shape[3] // grid_px)
    if sigma.shape != expected:
        raise InputError(f"sigma has shape {tuple(sigma.shape)}; it must be {expected}.")
    generator = fresh_generator(generator)
    with frozen(model), torch.no_grad():
        clean = target_map(model, inputs, target)
        total = torch.zeros_like(clean[:, 0, 0])
        for _ in range(n_draws):
            unit = torch.randn(sigma.shape, generator=generator, device=generator.device, dtype=inputs.dtype).to(inputs.device)
            changed = target_map(model, inputs + spread_cells(sigma.to(inputs) * unit, grid_px), target)
            total += (changed - clean).square().flatten(1).mean(1) / n_draws
    return total
