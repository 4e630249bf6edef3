"""Nuclear signal on an even background, and what of it is nucleus."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

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
    smooth = ndimage.gaussian_filter(root, max(0.5, diameter_px / 20))
    cell = max(1, round(diameter_px / _COARSE_PER_DIAMETER))
    coarse = block_mean(smooth, cell)
    lowest = ndimage.minimum_filter(coarse, size=_BACKGROUND_WINDOW, mode="nearest")
    even = ndimage.gaussian_filter(lowest, _BACKGROUND_WINDOW / 3, mode="nearest")
    smooth -= _enlarge(even, cell, smooth.shape)
    signal: NDArray[np.float32] = np.clip(smooth, 0, None, out=smooth)
    return signal


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
    if factor == 1:
        return coarse
    fine = ndimage.zoom(coarse, factor, order=1, mode="nearest", grid_mode=True)
    result: NDArray[np.float32] = fine[: shape[0], : shape[1]]
    return result
