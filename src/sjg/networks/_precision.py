"""How the convolutions of a network compute: layout and number of bits."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def convolve(body: nn.Module, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Output of a stack of convolutions, in float32.

    Channels come last in memory: convolutions on a CPU take three quarters of the time, and those of a GPU's tensor units ask for
    it. In ``bfloat16`` products have 8 significant bits and sums 24; weights, and all that is not in `body`, stay in float32.

    Parameters
    ----------
    body
        The convolutions.
    x
        (B, C, H, W) input.
    dtype
        ``torch.float32`` or ``torch.bfloat16``.

    Examples
    --------
    >>> import torch
    >>> from sjg.networks._precision import convolve
    >>> convolve(torch.nn.Conv2d(1, 2, 1), torch.zeros(1, 1, 4, 4), torch.bfloat16).dtype
    torch.float32
    """
    x = x.contiguous(memory_format=torch.channels_last)
    if dtype == torch.float32:
        return body(x)
    with torch.autocast(x.device.type, dtype):
        return body(x).float()
