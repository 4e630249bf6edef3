"""Draws of unit noise for the optimisation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from sjg.attribution._probes import random_signs
from sjg.core import InputError

NoiseKind = Literal["orthogonal", "gaussian"]


def unit_noise(kind: NoiseKind, n_draws: int, *, like: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `n_draws` tensors like `like` (B, C, h, w) with mean 0, variance 1 and no correlation.

    ``"gaussian"`` is the published choice. ``"orthogonal"`` draws a random orthogonal matrix Q of size `n_draws` and gives channel c at
    a pixel the entries ``sqrt(n) Q[:, (c + shift) mod n]`` over the draws, with a random shift per pixel and random signs. The
    sample variance over the draws is then exactly 1 and the channels of a pixel are exactly uncorrelated (up to n of them), so
    the noise of the objective's gradient that comes from these two is gone; for many draws the entries are nearly Gaussian.
    """
    if kind not in get_args(NoiseKind):
        raise InputError(f"noise is {kind!r}; valid are {', '.join(get_args(NoiseKind))}.")
    home = generator.device
    if kind == "gaussian":
        for _ in range(n_draws):
            yield torch.randn(like.shape, generator=generator, device=home, dtype=like.dtype).to(like.device)
        return
    batch, n_channels, height, width = like.shape
    square = torch.randn(n_draws, n_draws, generator=generator, device=home, dtype=torch.float64)
    rotation = torch.linalg.qr(square).Q.to(device=like.device, dtype=like.dtype) * n_draws**0.5
    shift = torch.randint(0, n_draws, (batch, 1, height, width), generator=generator, device=home).to(like.device)
    column = (torch.arange(n_channels, device=like.device).view(1, -1, 1, 1) + shift) % n_draws
    signs = random_signs(like.shape, like=like, generator=generator)
    for row in rotation:
        yield row[column] * signs
