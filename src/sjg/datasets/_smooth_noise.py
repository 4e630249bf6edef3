"""Smooth random fields from additions and multiplications alone, so that every platform gives the same bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: standard deviation of a cubic B-spline field with independent unit-normal coefficients: the mean over a period of the
#: sum of the squared weights is 151 / 315 along an axis, and the field is a product of two axes
_SPLINE_STD = 151 / 315


def _spline_weights(size: int, scale_px: float) -> tuple[NDArray[np.int64], list[NDArray[np.float64]]]:
    """First coefficient and the four cubic B-spline weights of each position along one axis."""
    position = (np.arange(size) + 0.5) / scale_px
    first = np.floor(position).astype(np.int64)
    t = position - first
    u = 1 - t
    weights = [
        u * u * u / 6,
        (3 * t * t * t - 6 * t * t + 4) / 6,
        (3 * u * u * u - 6 * u * u + 4) / 6,
        t * t * t / 6,
    ]
    return first, weights


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale_px: float) -> NDArray[np.float64]:
    """A random field of mean 0 and standard deviation 1 that varies over about `scale_px` pixels.

    A cubic B-spline over normal coefficients on a coarse lattice. No filter with exponential weights and no Fourier transform is
    involved: those differ in the last bit between platforms.

    Parameters
    ----------
    rng
        Source of the coefficients.
    shape
        (height, width) in pixels.
    scale_px
        Distance between coefficients in pixels.

    Returns
    -------
    (height, width) float64.
    """
    (row, row_weights), (column, column_weights) = (_spline_weights(size, scale_px) for size in shape)
    coefficients = rng.standard_normal((int(row[-1]) + 4, int(column[-1]) + 4))
    rows = np.zeros((shape[0], coefficients.shape[1]))
    for k, weight in enumerate(row_weights):
        rows += weight[:, None] * coefficients[row + k]
    field = np.zeros(shape)
    for k, weight in enumerate(column_weights):
        field += weight[None, :] * rows[:, column + k]
    return field / _SPLINE_STD
