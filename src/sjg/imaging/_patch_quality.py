"""Whether there is anything to segment in a patch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from sjg.imaging._foreground import intensity_range, stabilise
from sjg.imaging._sample import sample_windows
from sjg.imaging._scene import fill_missing

#: smoothing before noise and structure are told apart
_SMOOTHING_PX = 1.0
#: a Gaussian of this width leaves this fraction of the standard deviation of white noise
_LEFT_OF_NOISE = 1 / (2 * np.sqrt(np.pi) * _SMOOTHING_PX)


@dataclass(frozen=True)
class QualityThresholds:
    """When a patch is empty or noisy.

    Parameters
    ----------
    empty_nonzero
        Published rule: empty where less than this fraction of the pixels is not zero.
    noisy_mean
        Published rule: noisy where the mean is below this many raw units.
    empty_foreground
        Robust rule: empty where less than this fraction of the pixels is foreground of the slide.
    noisy_focus
        Robust rule: noisy where structure is less than this many times what noise alone would leave.
    """

    empty_nonzero: float = 0.05
    noisy_mean: float = 1.0
    empty_foreground: float = 0.005
    noisy_focus: float = 2.0


@dataclass(frozen=True)
class Exposure:
    """Intensity of a channel over the slide: black and white point and the border of the foreground (of the square root between)."""

    low: float
    high: float
    threshold: float


def expose(channel: Any) -> Exposure:
    """Look at a channel as a whole; `channel` is a (y, x) array or anything that can be sliced to one."""
    pixels = np.concatenate([fill_missing(window).ravel() for window in sample_windows(channel)] or [np.zeros(1)])
    low, high = intensity_range(pixels) if pixels.size else (0.0, 0.0)
    if high <= low:
        return Exposure(low, high, np.inf)
    return Exposure(low, high, float(threshold_otsu(stabilise(pixels[:: max(1, pixels.size // 2_000_000)], low, high))))


def measure_patch(pixels: NDArray[Any], exposure: Exposure) -> dict[str, float]:
    """Statistics of a patch.

    Returns
    -------
    dict with

    ``mean``, ``sd``, ``median``, ``p01``, ``p99``
        Of the intensity, in raw units.
    ``nonzero_fraction``
        Pixels that are not zero.
    ``foreground_fraction``
        Pixels of the lightly smoothed patch above the foreground threshold of the slide.
    ``focus``
        Standard deviation of the lightly smoothed patch over what white noise of the strength seen between neighbouring pixels would
        leave: about 1 for noise, large for sharp structure; 0 where the patch is constant.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging._patch_quality import Exposure, measure_patch
    >>> values = measure_patch(np.array([[0, 2], [0, 2]]), Exposure(0.0, 2.0, 0.5))
    >>> values["mean"], values["nonzero_fraction"], values["foreground_fraction"] > 0
    (1.0, 0.5, True)
    """
    pixels = fill_missing(pixels)
    p01, median, p99 = (float(value) for value in np.percentile(pixels, [1, 50, 99]))
    values = {
        "mean": float(pixels.mean(dtype=np.float64)),
        "sd": float(pixels.std(dtype=np.float64)),
        "median": median,
        "p01": p01,
        "p99": p99,
        "nonzero_fraction": float(np.count_nonzero(pixels) / pixels.size),
        "foreground_fraction": 0.0,
        "focus": 0.0,
    }
    if exposure.high <= exposure.low:
        return values
    root = stabilise(pixels, exposure.low, exposure.high)
    smooth = ndimage.gaussian_filter(root, _SMOOTHING_PX)
    values["foreground_fraction"] = float((smooth > exposure.threshold).mean())
    noise = _noise(root)
    if noise > 0:
        values["focus"] = float(smooth.std() / (noise * _LEFT_OF_NOISE))
    return values


def _noise(root: NDArray[np.float32]) -> float:
    """Standard deviation of white noise, from differences between neighbours (mean square where most pixels are equal)."""
    steps = np.concatenate([np.diff(root, axis=axis).ravel() for axis in (0, 1)])
    if steps.size == 0:
        return 0.0
    robust = float(np.median(np.abs(steps))) / 0.6745
    return (robust or float(steps.std())) / float(np.sqrt(2))


def published_status(values: dict[str, float], thresholds: QualityThresholds) -> str:
    """``empty``, ``noisy`` or ``informative`` by the published rule, in raw units."""
    if values["nonzero_fraction"] < thresholds.empty_nonzero:
        return "empty"
    return "noisy" if values["mean"] < thresholds.noisy_mean else "informative"


def robust_status(values: dict[str, float], thresholds: QualityThresholds) -> str:
    """The same whatever the unit and the offset of the intensity: by foreground of the slide and structure beyond noise."""
    if values["foreground_fraction"] < thresholds.empty_foreground:
        return "empty"
    return "noisy" if values["focus"] < thresholds.noisy_focus else "informative"
