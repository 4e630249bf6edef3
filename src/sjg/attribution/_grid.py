"""Noise shared by the pixels of a grid cell, and the step from squared Jacobians to scores."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def sum_cells(x: Tensor, grid_px: int) -> Tensor:
    """(..., H, W) -> (..., H / grid, W / grid), sums over cells.

    Noise shared by a cell moves all its pixels together, so their derivatives add before they are squared.
    """
    if grid_px == 1:
        return x
    height, width = x.shape[-2:]
    return x.reshape(*x.shape[:-2], height // grid_px, grid_px, width // grid_px, grid_px).sum((-3, -1))


def spread_cells(x: Tensor, grid_px: int) -> Tensor:
    """(B, C, H / grid, W / grid) -> (B, C, H, W): the adjoint of :func:`sum_cells`."""
    return x if grid_px == 1 else F.interpolate(x, scale_factor=grid_px, mode="nearest")


def half_log(square: Tensor, *, peak: Tensor | None = None) -> Tensor:
    """``log sqrt(square)`` with a floor, finite everywhere.

    Below the rounding error of the largest derivative nothing is known: squares under ``eps**2`` times `peak` (default: the
    largest of each item of the first axis) count as that floor, about 16 below the maximum in float32. A field that is zero everywhere gives one
    constant, the logarithm of the smallest normal number.
    """
    info = torch.finfo(square.dtype)
    if peak is None:
        peak = square.flatten(1).amax(1)
    floor = (peak * info.eps**2).clamp_min(info.tiny)
    return 0.5 * square.maximum(floor.reshape(-1, *[1] * (square.ndim - 1))).log()
