"""What holds for a whole image of nuclei, learned from a few windows of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from sjg.imaging._diameter import MIN_DIAMETER_PX, diameter_of_windows
from sjg.imaging._foreground import (
    block_mean,
    coarse_cell,
    intensity_range,
    light_smoothing_px,
    noise_floor,
    stabilise,
    subtract_background,
)
from sjg.imaging._sample import sample_windows

#: thresholds come from about this many pixels
_SAMPLE_PX = 2_000_000


@dataclass(frozen=True)
class Scene:
    """Scale and thresholds of an image, so that every tile of it is judged alike.

    Parameters
    ----------
    diameter_px
        Typical diameter of the nuclei, in pixels of the reduced image.
    factor
        Whole factor by which the image is reduced.
    low, high
        Black and white point of the intensity.
    contrast
        Otsu's threshold of the signal above the local background, or the noise where that is higher.
    level
        Otsu's threshold of the brightness itself (square root of the intensity between black and white).
    noise
        Highest brightness that background alone may show.
    """

    diameter_px: float
    factor: int
    low: float
    high: float
    contrast: float
    level: float
    noise: float

    @property
    def full_diameter_px(self) -> float:
        """Typical diameter in pixels of the image."""
        return self.diameter_px * self.factor

    @property
    def halo_px(self) -> int:
        """Margin beyond which nothing changes a tile: the background looks over three diameters and is then smoothed."""
        return int(np.ceil(8 * self.full_diameter_px))

    @property
    def grain_px(self) -> int:
        """Tiles that start at multiples of this see the same blocks of pixels as the whole image."""
        return self.factor * coarse_cell(self.diameter_px)


def survey(image: Any, *, diameter_px: float | None = None, work_diameter_px: float = 12.0, global_fraction: float = 0.8) -> Scene | None:
    """Look at an image as a whole.

    Parameters
    ----------
    image
        (y, x) array, or anything that can be sliced to one.
    diameter_px
        Typical diameter of the nuclei in pixels; None to estimate it.
    work_diameter_px
        Nuclei at least twice as wide let the image be reduced.
    global_fraction
        Fraction of Otsu's thresholds that counts.

    Returns
    -------
    The scene; None for an image that is empty, constant or without anything like a nucleus.
    """
    windows = [fill_missing(window) for window in sample_windows(image)]
    if not sum(window.size for window in windows) or all(window.min() == window.max() for window in windows):
        return None
    diameter = diameter_px or diameter_of_windows(windows)
    if diameter is None:
        return None
    factor = max(1, int(diameter // work_diameter_px))
    reduced = max(diameter / factor, MIN_DIAMETER_PX / 2)
    windows = [block_mean(window, factor) for window in windows]
    low, high = intensity_range(np.concatenate([window.ravel() for window in windows]))
    if high <= low:
        return None
    roots = [stabilise(window, low, high) for window in windows]
    signal = _sampled([subtract_background(root, reduced) for root in roots])
    brightness = _sampled(roots)
    if signal.min() == signal.max():
        return None
    contrast = max(global_fraction * float(threshold_otsu(signal)), noise_floor(signal))
    noise = max(_noise_level(root, reduced) for root in roots)
    return Scene(reduced, factor, low, high, contrast, global_fraction * float(threshold_otsu(brightness)), noise)


def _noise_level(root: NDArray[np.float32], diameter_px: float) -> float:
    """Seven standard deviations of the noise, as it is after light smoothing, above the darkest brightness.

    The noise is that between neighbouring pixels: unlike :func:`noise_floor` this holds where nuclei leave no background.
    """
    width = light_smoothing_px(diameter_px)
    darkest = float(np.percentile(ndimage.gaussian_filter(root, width), 1))
    return darkest + 7 * pixel_noise(root) / (2 * float(np.sqrt(np.pi)) * width)


def pixel_noise(root: NDArray[np.float32]) -> float:
    """Standard deviation of the noise of single pixels, from the differences between neighbours along the last axis."""
    step = np.diff(root, axis=-1)
    return float(np.median(np.abs(step - np.median(step)))) / 0.6745 / float(np.sqrt(2)) if step.size else 0.0


def fill_missing(image: NDArray[Any]) -> NDArray[Any]:
    """The image with its darkest value where it is not finite."""
    if image.dtype.kind != "f":
        return image
    finite = np.isfinite(image)
    if finite.all():
        return image
    return np.where(finite, image, image[finite].min() if finite.any() else 0)


def _sampled(images: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    stride = max(1, int(np.sqrt(sum(image.size for image in images) / _SAMPLE_PX)))
    return np.concatenate([image[::stride, ::stride].ravel() for image in images])
