"""Computational information discarding, solved instead of optimised."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from sjg.attribution._grid import half_log, sum_cells
from sjg.attribution._module import as_targets, channel, check_count, check_inputs, fresh_generator, frozen, run_from_leaf
from sjg.attribution._probes import ProbeKind, probe_vectors
from sjg.core import InputError


def closed_form(
    model: nn.Module,
    inputs: Tensor,
    target: int | Sequence[int],
    *,
    n_probes: int = 16,
    grid_px: int = 1,
    generator: torch.Generator | None = None,
    probes: ProbeKind = "signs",
    origin_px: tuple[int, int] | None = None,
) -> Tensor:
    r"""Attribution of every channel at every pixel at the cost of `n_probes` backward passes.

    Minimising :math:`\mathrm{MSE}(f_c(X + \sigma\epsilon), f_c(X)) - \lambda\,\mathrm{mean}(\log\sigma)` over the noise scale
    :math:`\sigma_p` of each input gives, to second order in :math:`\sigma`, :math:`\sigma_p^2 = \lambda' / (2 \|J_p\|^2)` with
    :math:`J_p` the derivative of the whole map :math:`f_c` with respect to input p. Hence
    :math:`-\log\sigma_p = \log\|J_p\| + \mathrm{const}`; the norms are estimated with random signs,
    :math:`\|J_p\|^2 = E_v[(J^\top v)_p^2]`.

    Parameters
    ----------
    model
        Maps (B, C, H, W) to logits (B, K, H, W). It is run in evaluation mode with frozen weights and left as it was.
    inputs
        (B, C, H, W) floating point tensor; the items of the batch do not influence each other as long as they do not in `model`.
    target
        Class index c, or several, which share one forward pass.
    n_probes
        Backward passes per class. The relative standard error of the squared norm is at most ``sqrt(2 / n_probes)``.
    grid_px
        Side of the cells that share their noise, in pixels; must divide H and W.
    generator
        Source of the random signs; None takes fresh entropy, so that two calls differ.
    probes
        ``"signs"`` (dense Rademacher vectors) or ``"interleaved"`` (sparse ones, sharper for local networks, see the
        documentation of the method).
    origin_px
        (y, x) of the first pixel in a larger raster of which `inputs` are a window: the signs then belong to places of that raster, so
        that windows computed with equal generators join without a seam. None draws them for this call alone.

    Returns
    -------
    ``log||J||``, that is -log sigma up to one constant per item, (B, C, H / grid, W / grid); higher = more informative. For
    several classes they are stacked on a new first axis. Inputs without influence get a finite floor, about 16 (float32) below
    the item's largest value.

    Raises
    ------
    InputError
        Shapes, `target` or `grid_px` do not fit, or inputs or logits are not finite.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import closed_form
    >>> model = torch.nn.Conv2d(3, 2, 1, bias=False)
    >>> _ = model.weight.data[0, :, 0, 0].copy_(torch.tensor([1.0, 4.0, 0.5]))
    >>> closed_form(model, torch.rand(1, 3, 8, 8), 0, n_probes=2).mean((0, 2, 3)).exp()
    tensor([1.0000, 4.0000, 0.5000])
    """
    check_count("n_probes", n_probes)
    inputs = check_inputs(inputs, grid_px=grid_px)
    generator = fresh_generator(generator)
    targets, several = as_targets(target)
    if not targets:
        raise InputError("target is empty; give at least one class index.")
    with frozen(model):
        leaf, logits = run_from_leaf(model, inputs)
        scores = []
        for index, one in enumerate(targets):
            last = index == len(targets) - 1
            like = channel(logits, one).detach()
            vectors = probe_vectors(probes, n_probes, like=like, generator=generator, origin_px=origin_px)
            square = _squared_columns(logits, one, leaf, vectors, grid_px, keep_graph=not last)
            scores.append(half_log(square).contiguous())
    return torch.stack(scores) if several else scores[0]


def _squared_columns(logits: Tensor, target: int, leaf: Tensor, vectors: Iterator[Tensor], grid_px: int, *, keep_graph: bool) -> Tensor:
    """(B, C, H / grid, W / grid) estimate of ``||J_p||^2``."""
    total = sum_cells(torch.zeros_like(leaf, requires_grad=False), grid_px)
    if not logits.requires_grad:  # no class depends on the input
        return total
    cotangent = torch.zeros_like(logits, requires_grad=False)
    following = next(vectors, None)
    while following is not None:
        cotangent[:, target], following = following, next(vectors, None)
        keep = keep_graph or following is not None
        (product,) = torch.autograd.grad(logits, leaf, cotangent, retain_graph=keep)
        cells = sum_cells(product, grid_px)
        total.addcmul_(cells, cells)
    return total
