"""Nuclei in a stack without trained weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu

from sjg.imaging._basins import deep_basins
from sjg.imaging._diameter import MIN_ROUNDNESS, diameter_of_windows
from sjg.imaging._flood import flood
from sjg.imaging._foreground import intensity_range, stabilise
from sjg.imaging._scene import fill_missing, pixel_noise
from sjg.imaging._stitch import number_present
from sjg.imaging._watershed import WatershedParameters

#: light from the planes above and below blurs outlines, which lie higher up the flank of a nucleus than in a section
VOLUME_PARAMETERS = WatershedParameters(own_fraction=0.7)


def watershed_volume(
    image: NDArray[Any],
    *,
    diameter_px: float | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    parameters: WatershedParameters | None = None,
) -> NDArray[np.int32]:
    """Segment bright nuclei in a (z, y, x) stack, by the steps of :func:`watershed_nuclei` with balls in place of disks.

    The whole stack is in memory.

    Parameters
    ----------
    image
        (z, y, x) intensities of any real type.
    diameter_px
        Typical diameter of the nuclei in pixels of the planes; None to estimate it from the planes.
    spacing
        Size of a voxel along z, y, x in units of a pixel of the planes, e.g. ``(2, 1, 1)`` where planes lie two pixel sides apart.
    parameters
        Knobs; None for the defaults.

    Returns
    -------
    (z, y, x) int32 labels 1..n, 0 = background; all 0 for a stack without contrast.

    Raises
    ------
    ValueError
        The image is not 3-D, or a length is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging import watershed_volume
    >>> z, y, x = np.mgrid[:24, :60, :60]
    >>> image = sum(np.exp(-((((z - 12) ** 2 + (y - i) ** 2 + (x - j) ** 2) / 7**2) ** 2)) for i in (15, 45) for j in (15, 45))
    >>> int(watershed_volume(image, diameter_px=14).max())
    4
    """
    parameters = parameters or VOLUME_PARAMETERS
    image = fill_missing(np.asarray(image))
    if image.ndim != 3:
        raise ValueError(f"image must be (z, y, x), got {image.ndim} dimensions")
    steps = np.asarray(spacing, dtype=np.float64)
    if steps.shape != (3,) or not (np.isfinite(steps).all() and (steps > 0).all()):
        raise ValueError(f"spacing must be three positive lengths, got {spacing!r}")
    if diameter_px is not None and not (np.isfinite(diameter_px) and diameter_px > 0):
        raise ValueError(f"diameter_px must be a positive length, got {diameter_px!r}")
    nothing = np.zeros(image.shape, dtype=np.int32)
    low, high = intensity_range(image) if image.size else (0.0, 0.0)
    if high <= low:
        return nothing
    diameter = diameter_px or diameter_of_windows([plane for plane in image if plane.min() < plane.max()] or [image[0]])
    if diameter is None:
        return nothing
    widths = diameter / steps
    root = stabilise(image, low, high)
    signal = _above_background(root, widths)
    if signal.min() == signal.max():
        return nothing
    contrast = max(
        parameters.global_fraction * float(threshold_otsu(signal)),
        7 * pixel_noise(root) * float(np.prod(1 / (2 * np.sqrt(np.pi) * np.maximum(0.5, widths / 20))) ** 0.5),
    )
    shape = _roundness(root, widths)
    rising = (signal > contrast) & (signal > parameters.local_fraction * _local_peak(signal, widths))
    smooth = ndimage.gaussian_filter(root, np.maximum(0.5, widths / 20))
    # where nuclei leave no background to rise from, what is bright and round
    level = parameters.global_fraction * float(threshold_otsu(root))
    plain = (smooth > level) & (shape > parameters.plain_roundness)
    surroundings = ndimage.gaussian_filter((rising | plain).astype(np.float32), 2 * widths, truncate=3)
    crowded = np.clip((surroundings - parameters.crowded_from) / parameters.crowded_over, 0, 1)
    relief = np.float32(parameters.roundness_weight) * crowded * shape
    bright = rising | (plain & (crowded > 0))
    mask = ndimage.binary_opening(ndimage.binary_fill_holes(bright & (shape > MIN_ROUNDNESS)))
    landscape, labels = _split(mask, signal, relief, widths, steps, parameters)
    reach = ndimage.binary_dilation(mask, iterations=max(1, int(diameter / 12))) & (bright | (signal > contrast / 2))
    own = parameters.own_fraction * _brightness(labels, signal)
    grown = flood(-landscape, labels, mask=reach)
    mask = ndimage.binary_opening(ndimage.binary_fill_holes((grown > 0) & (signal > own[grown])))
    _, labels = _split(mask, signal, relief, widths, steps, parameters)
    sizes = np.bincount(labels.ravel())
    # the smallest nucleus has the volume of a ball whose section has the smallest area
    sizes[sizes < parameters.min_area**1.5 * np.pi / 6 * float(np.prod(widths))] = 0
    return number_present(sizes)[labels]


def _above_background(root: NDArray[np.float32], widths: NDArray[np.float64]) -> NDArray[np.float32]:
    smooth = ndimage.gaussian_filter(root, np.maximum(0.5, widths / 20))
    size = [2 * int(1.5 * width) + 1 for width in widths]
    lowest = ndimage.gaussian_filter(ndimage.minimum_filter(smooth, size=size, mode="nearest"), widths, mode="nearest")
    above: NDArray[np.float32] = np.clip(smooth - lowest, 0, None)
    return above


def _local_peak(signal: NDArray[np.float32], widths: NDArray[np.float64]) -> NDArray[np.float32]:
    smooth = ndimage.gaussian_filter(signal, widths / 8)
    highest = ndimage.maximum_filter(smooth, size=[int(width) | 1 for width in widths])
    peak: NDArray[np.float32] = ndimage.gaussian_filter(highest, widths / 4)
    return peak


def _roundness(root: NDArray[np.float32], widths: NDArray[np.float64]) -> NDArray[np.float32]:
    """Downward curvature in units of the width, relative to the brightness."""
    sigma = widths / 4
    curvature = np.zeros_like(root)
    for axis in range(3):
        order = [2 if other == axis else 0 for other in range(3)]
        curvature -= ndimage.gaussian_filter(root, sigma, order=order) * np.float32(sigma[axis] ** 2)
    relative: NDArray[np.float32] = curvature / (ndimage.gaussian_filter(root, sigma) + np.float32(0.05))
    return relative


def _split(
    mask: NDArray[np.bool_],
    signal: NDArray[np.float32],
    relief: NDArray[np.float32],
    widths: NDArray[np.float64],
    steps: NDArray[np.float64],
    parameters: WatershedParameters,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    blur = parameters.smoothing * widths
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask, sampling=steps).astype(np.float32), blur)
    brightness = ndimage.gaussian_filter(signal, blur)
    landscape = np.log(depth + np.float32(0.3)) + np.float32(parameters.brightness_weight) * np.log(brightness + np.float32(1e-3))
    landscape += relief
    return landscape, deep_basins(landscape, mask, parameters.seed_depth)


def _brightness(labels: NDArray[np.int32], signal: NDArray[np.float32], quantile: float = 0.95) -> NDArray[np.float32]:
    """(n + 1,) quantile of the signal in each label, 0 for the background."""
    result = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.float32)
    for index, part in enumerate(ndimage.find_objects(labels), start=1):
        if part is not None:
            result[index] = np.quantile(signal[part][labels[part] == index], quantile)
    return result
