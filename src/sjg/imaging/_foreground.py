"""Nuclear signal on an even background, and what of it is nucleus."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sjg.imaging._enlarge import coarse_neighbours

#: coarse pixels per nuclear diameter on which the background is looked for, and the width of its window in them
_COARSE_PER_DIAMETER = 4
_BACKGROUND_WINDOW = 13


def intensity_range(image: NDArray[Any]) -> tuple[float, float]:
    """Robust black and white point; the same number twice for an image without contrast."""
    low, high = (float(value) for value in np.percentile(image, [0.1, 99.9]))
    if high <= low:
        # a few small nuclei on a constant background
        low, high = float(np.min(image)), float(np.max(image))
    return low, high


def stabilise(image: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Square root of the intensity between black (0) and white (1) point.

    Photon noise then has the same spread everywhere, and dim nuclei beside bright ones keep their contrast.
    """
    signal = np.clip((image.astype(np.float32) - np.float32(low)) / np.float32(high - low), 0, None)
    root: NDArray[np.float32] = np.sqrt(signal, out=signal)
    return root


def subtract_background(root: NDArray[np.float32], diameter_px: float) -> NDArray[np.float32]:
    """Lightly smoothed signal above the local background, which is the smoothed minimum over about three diameters."""
    smooth = ndimage.gaussian_filter(root, light_smoothing_px(diameter_px))
    cell = coarse_cell(diameter_px)
    coarse = block_mean(smooth, cell)
    lowest = ndimage.minimum_filter(coarse, size=_BACKGROUND_WINDOW, mode="nearest")
    even = ndimage.gaussian_filter(lowest, _BACKGROUND_WINDOW / 3, mode="nearest")
    smooth -= _enlarge(even, cell, smooth.shape)
    signal: NDArray[np.float32] = np.clip(smooth, 0, None, out=smooth)
    return signal


def light_smoothing_px(diameter_px: float) -> float:
    """Standard deviation of the Gaussian that takes the noise and leaves the outlines."""
    return max(0.5, diameter_px / 20)


def block_mean(image: NDArray[Any], factor: int) -> NDArray[np.float32]:
    """Mean over blocks of `factor` x `factor` pixels; incomplete blocks at the far borders repeat the last pixel."""
    if factor == 1:
        return image.astype(np.float32, copy=False)
    height, width = image.shape
    rows, columns = -(-height // factor), -(-width // factor)
    result = np.empty((rows, columns), dtype=np.float32)
    # a strip at a time: a padded float copy of a whole section would be several times its size
    strip = max(1, 1024 // factor)
    for first in range(0, rows, strip):
        part = image[first * factor : (first + strip) * factor]
        padded = np.pad(part, ((0, -part.shape[0] % factor), (0, -width % factor)), mode="edge")
        blocks = padded.reshape(padded.shape[0] // factor, factor, columns, factor)
        result[first : first + strip] = blocks.mean(axis=(1, 3), dtype=np.float32)
    return result


def noise_floor(signal: NDArray[np.float32]) -> float:
    """Highest signal that background alone may show.

    The 20th and 3rd percentile belong to the background as long as nuclei cover less than about 60 % of the image; their distance
    is one standard deviation of normal noise, and the floor lies four above its mean.
    """
    low, middle = np.percentile(signal, [3.2, 20.0])
    return float(middle + 5 * (middle - low))


def local_peak(signal: NDArray[np.float32], diameter_px: float) -> NDArray[np.float32]:
    """Height of the brightest nucleus within about half a diameter."""
    smooth = ndimage.gaussian_filter(signal, diameter_px / 8)
    highest = ndimage.maximum_filter(smooth, size=int(diameter_px) | 1)
    peak: NDArray[np.float32] = ndimage.gaussian_filter(highest, diameter_px / 4)
    return peak


def roundness(root: NDArray[np.float32], diameter_px: float) -> NDArray[np.float32]:
    """Downward curvature of the brightness at the scale of a nucleus, relative to the brightness itself.

    Laplacian of Gaussian at a quarter of a diameter: positive inside a blob, negative in the valley between two, whatever the level
    on which they lie. In crowded tissue it tells nuclei apart where no threshold does.
    """
    sigma = diameter_px / 4
    curvature = ndimage.gaussian_laplace(root, sigma) * np.float32(-(sigma**2))
    level = ndimage.gaussian_filter(root, sigma) + np.float32(0.05)
    relative: NDArray[np.float32] = np.divide(curvature, level, out=curvature)
    return relative


def local_spread(root: NDArray[np.float32], diameter_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation within about three diameters."""
    cell = coarse_cell(diameter_px)
    coarse = block_mean(root, cell)
    width = 1.5 * diameter_px / cell
    mean = ndimage.gaussian_filter(coarse, width, truncate=3)
    square = ndimage.gaussian_filter(block_mean(root * root, cell), width, truncate=3)
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    return _enlarge(mean, cell, root.shape), _enlarge(spread, cell, root.shape)


def crowding(mask: NDArray[np.bool_], diameter_px: float) -> NDArray[np.float32]:
    """Fraction of the surroundings (about four diameters) that is foreground."""
    cell = coarse_cell(diameter_px)
    coarse = ndimage.gaussian_filter(block_mean(mask, cell), 2 * diameter_px / cell, truncate=3)
    return _enlarge(coarse, cell, mask.shape)


def coarse_cell(diameter_px: float) -> int:
    """Side of the blocks of pixels on which what is wider than a nucleus is computed."""
    return max(1, round(diameter_px / _COARSE_PER_DIAMETER))


def fill_holes(mask: NDArray[np.bool_], max_area_px2: float) -> NDArray[np.bool_]:
    """Fill the holes of at most `max_area_px2`; larger ones are background that nuclei surround."""
    holes, _ = ndimage.label(~mask)
    sizes = np.bincount(holes.ravel())
    small = sizes <= max_area_px2
    small[0] = False
    # the background that reaches the border is no hole
    for border in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        small[border] = False
    filled: NDArray[np.bool_] = mask | small[holes]
    return filled


def _enlarge(coarse: NDArray[np.float32], factor: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Linear between the centres of the blocks."""
    if factor == 1:
        return coarse[: shape[0], : shape[1]]
    # axis by axis, in the same order of operations wherever a window begins
    top, bottom, down = coarse_neighbours(np.arange(shape[0]), factor, coarse.shape[0])
    left, right, along = coarse_neighbours(np.arange(shape[1]), factor, coarse.shape[1])
    columns = coarse[:, left] + along * (coarse[:, right] - coarse[:, left])
    result: NDArray[np.float32] = columns[bottom]
    result -= columns[top]
    result *= down[:, None]
    result += columns[top]
    return result
