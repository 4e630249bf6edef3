"""How large the nuclei of an image are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from sjg.imaging._foreground import (
    block_mean,
    fill_holes,
    intensity_range,
    local_peak,
    roundness,
    stabilise,
    subtract_background,
)
from sjg.imaging._sample import sample_windows

#: diameters looked for
MIN_DIAMETER_PX = 6.0
MAX_DIAMETER_PX = 200.0
#: a blob of diameter d answers a Laplacian of Gaussian of this many d most, as measured on manual masks
_SIGMA_TO_DIAMETER = 2.26
#: below this the surface of brightness is a valley (see :func:`roundness`)
MIN_ROUNDNESS = -0.01
#: how many of the windows of a large image are judged
_MAX_WINDOWS = 5


def estimate_diameter_px(image: NDArray[Any]) -> float | None:
    """Typical diameter of the nuclei in a (y, x) image, weighted by area; None where nothing blob-like stands out.

    The scale of the strongest blob response (Laplacian of Gaussian) gives a first guess; the inscribed circles of the foreground,
    one for each peak of its distance map, refine it. Large images are judged by the median over a few windows.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging._diameter import estimate_diameter_px
    >>> y, x = np.mgrid[:200, :200]
    >>> image = sum(np.exp(-((((y - i) ** 2 + (x - j) ** 2) / 10**2) ** 4)) for i in range(30, 200, 50) for j in range(30, 200, 50))
    >>> bool(15 < estimate_diameter_px(image) < 25)
    True
    """
    return diameter_of_windows(sample_windows(image))


def diameter_of_windows(windows: Sequence[NDArray[Any]]) -> float | None:
    """:func:`estimate_diameter_px` of an image of which only some windows are at hand."""
    found = [diameter for window in _most_contrast(windows) if (diameter := _of_window(window)) is not None]
    return float(np.median(found)) if found else None


def _most_contrast(windows: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """A few windows, spread over the half with most contrast."""
    if len(windows) == 1:
        return list(windows)
    contrast = [float(np.std(window[::4, ::4].astype(np.float32))) for window in windows]
    order = np.argsort(contrast, kind="stable")[::-1][: max(1, (len(windows) + 1) // 2)]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(_MAX_WINDOWS, len(order))).round().astype(int))]
    return [windows[index] for index in chosen]


def _of_window(image: NDArray[Any]) -> float | None:
    low, high = intensity_range(image)
    if high <= low or min(image.shape) < 2 * MIN_DIAMETER_PX:
        return None
    root = stabilise(image, low, high)
    blob = _blob_diameter(root)
    first = 20.0 if blob is None else blob
    diameter = first
    for _ in range(2):
        inscribed = _inscribed_diameter(root, diameter)
        if inscribed is None:
            return blob
        diameter = float(np.clip(inscribed, MIN_DIAMETER_PX, min(MAX_DIAMETER_PX, 1.3 * first)))
    return diameter


def _blob_diameter(root: NDArray[np.float32]) -> float | None:
    """Diameter at the first peak over scales of the mean squared positive Laplacian response."""
    sigmas = 1.5 * 2 ** (np.arange(22) / 4)
    sigmas = sigmas[sigmas < min(root.shape) / 4]
    energy = []
    for sigma in sigmas:
        factor = max(1, int(sigma / 3))
        scaled = sigma / factor
        response = -ndimage.gaussian_laplace(block_mean(root, factor), scaled, mode="nearest") * scaled**2
        energy.append(float((np.clip(response, 0, None) ** 2).mean()))
    for index in range(1, len(energy) - 1):
        if energy[index - 1] <= energy[index] > energy[index + 1]:
            return float(_SIGMA_TO_DIAMETER * sigmas[index])
    return None


def _inscribed_diameter(root: NDArray[np.float32], diameter_px: float) -> float | None:
    """Area-weighted median of the inscribed circles of the foreground, given the scale at which to look for it."""
    signal = subtract_background(root, diameter_px)
    mask = (signal > 0.8 * threshold_otsu(signal)) & (signal > 0.55 * local_peak(signal, diameter_px))
    # crowded nuclei are told apart by the valleys between them: the foreground alone would be one large blob
    mask &= roundness(root, diameter_px) > MIN_ROUNDNESS
    mask = ndimage.binary_opening(fill_holes(mask, np.pi / 4 * diameter_px**2))
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 1.0)
    peaks = (depth == ndimage.maximum_filter(depth, size=max(3, int(diameter_px / 2) | 1))) & (depth > 1.5)
    radii = np.sort(depth[peaks])
    if radii.size == 0:
        return None
    weight = np.cumsum(radii**2)
    # smoothing lowers the peak of the distance map and the mask is tight: hence a tenth more
    return float(2.2 * radii[np.searchsorted(weight, weight[-1] / 2)])
