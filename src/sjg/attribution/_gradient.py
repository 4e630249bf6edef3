"""Plain saliency, the usual yardstick."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sjg.attribution._grid import sum_cells
from sjg.attribution._module import check_inputs, frozen, target_map


def gradient(model: nn.Module, inputs: Tensor, target: int, *, grid_px: int = 1) -> Tensor:
    """Magnitude of the derivative of the summed logits of a class.

    One backward pass. Unlike :func:`closed_form`, effects of opposite sign on different output pixels cancel, and the scale is linear:
    take the logarithm to compare the two.

    Parameters
    ----------
    model
        Maps (B, C, H, W) to logits (B, K, H, W); run frozen and left as it was.
    inputs
        (B, C, H, W) floating point tensor.
    target
        Class index.
    grid_px
        Side of the cells whose derivatives are added, in pixels; must divide H and W.

    Returns
    -------
    (B, C, H / grid, W / grid), non-negative.

    Raises
    ------
    InputError
        As in :func:`closed_form`.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import gradient
    >>> gradient(torch.nn.Conv2d(3, 2, 1), torch.rand(1, 3, 8, 8), 0).shape
    torch.Size([1, 3, 8, 8])
    """
    inputs = check_inputs(inputs, grid_px=grid_px)
    with frozen(model):
        inputs.requires_grad_()
        output = target_map(model, inputs, target)
        if not output.requires_grad:
            return sum_cells(torch.zeros_like(inputs, requires_grad=False), grid_px)
        (product,) = torch.autograd.grad(output.sum(), inputs)
    return sum_cells(product, grid_px).abs()
