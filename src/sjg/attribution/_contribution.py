"""What the transcripts that are there add to each class map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sjg.attribution._module import channel, check_inputs, frozen, run
from sjg.core import InputError


def type_contribution(head: nn.Module, splat_maps: Tensor, target: Sequence[int]) -> Tensor:
    r"""How much the transcripts around a pixel speak for each class: gradient times input, with its sign.

    :math:`\sum_d X_{dp} \, \partial(\sum_q f_c(q)) / \partial X_{dp}`. :func:`type_attribution` says how far noise at the pixel *could* move a class map,
    whatever is there and in either direction; this says in which direction what is there does move it. One backward pass a class.

    Parameters
    ----------
    head
        Maps the splat (B, D, H, W) to logits (B, K, H, W); run frozen and left as it was.
    splat_maps
        (B, D, H, W) result of :func:`sjg.raster.splat_batch`.
    target
        The T classes.

    Returns
    -------
    (B, T, H, W). For a linear network without bias the sum over pixels is that of the logits.

    Raises
    ------
    InputError
        Shapes or `target` do not fit, or logits are not finite.

    Examples
    --------
    >>> import torch
    >>> from sjg.attribution import type_contribution
    >>> head = torch.nn.Conv2d(2, 2, 1, bias=False)
    >>> _ = head.weight.data[:, :, 0, 0].copy_(torch.tensor([[1.0, 0.0], [0.0, -2.0]]))
    >>> type_contribution(head, torch.ones(1, 2, 4, 4), [0, 1]).mean((0, 2, 3))
    tensor([ 1., -2.])
    """
    if not target:
        raise InputError("target is empty; give at least one class index.")
    maps = check_inputs(splat_maps, grid_px=1)
    contributions = []
    with frozen(head):
        maps.requires_grad_()
        logits = run(head, maps)
        outputs = [channel(logits, one) for one in target]
        for output in outputs:
            product = torch.zeros_like(maps, requires_grad=False)
            if output.requires_grad:  # else the class does not depend on the transcripts at all
                (product,) = torch.autograd.grad(output.sum(), maps, retain_graph=True)
            contributions.append((product * maps.detach()).sum(1))
    return torch.stack(contributions, 1)
