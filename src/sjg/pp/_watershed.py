"""Nuclei without trained weights: thresholds, seeds from shape and brightness, watershed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu
from skimage.morphology import disk, opening
from skimage.segmentation import watershed

from sjg.pp._basins import deep_basins
from sjg.pp._diameter import MIN_DIAMETER_PX, estimate_diameter_px
from sjg.pp._enlarge import enlarge_labels
from sjg.pp._foreground import (
    block_mean,
    fill_holes,
    intensity_range,
    local_peak,
    noise_floor,
    stabilise,
    subtract_background,
)

#: the statistics of a large image come from about this many of its pixels
_SAMPLE_PX = 2_000_000


@dataclass(frozen=True)
class WatershedParameters:
    """Knobs of :func:`watershed_nuclei`; brightness is the square root of the intensity above background, lengths are in diameters.

    Parameters
    ----------
    global_fraction
        Nuclei are brighter than this fraction of Otsu's threshold of the whole image.
    local_fraction
        They are brighter than this fraction of the brightest nucleus near by.
    own_fraction
        A nucleus reaches out to this fraction of its own brightness (its 95th percentile).
    seed_depth
        Two seeds are kept apart where the saddle between them lies this much lower (natural logarithm of depth times brightness).
    brightness_weight
        Weight of brightness beside depth (distance to the outline) in the landscape of the seeds.
    smoothing
        Standard deviation of the Gaussian that smooths this landscape, in diameters.
    opening
        Radius of the disk that removes spurs, in diameters.
    min_area
        Smallest nucleus as a fraction of the disk of the typical diameter.
    work_diameter_px
        Images with nuclei at least twice as large are reduced by a whole factor, so that nuclei stay at least this wide.
    tile_px
        Side of the tiles in which a (reduced) image is processed, without their halos.
    """

    global_fraction: float = 0.8
    local_fraction: float = 0.6
    own_fraction: float = 0.55
    seed_depth: float = 0.1
    brightness_weight: float = 1.0
    smoothing: float = 1 / 12
    opening: float = 0.06
    min_area: float = 0.12
    work_diameter_px: float = 12.0
    tile_px: int = 2560


def watershed_nuclei(
    image: NDArray[Any], *, diameter_px: float | None = None, parameters: WatershedParameters | None = None
) -> NDArray[np.int32]:
    """Segment bright nuclei on a dark background.

    1. Square root of the intensity, background (local minimum) subtracted.
    2. Foreground: above a fraction of Otsu's threshold, of the brightest nucleus near by, and above the noise.
    3. Seeds: maxima, deep enough, of log depth in the foreground plus log brightness; watershed on the same landscape.
    4. The outline of each nucleus at a fraction of its own brightness, and seeds and watershed once more inside these outlines.
    5. Nuclei that are too small go.

    Large nuclei are found on a reduced image and enlarged with smooth borders. Large images are processed in tiles whose halos are
    wider than the reach of every step, so tiling leaves no seams. The result does not depend on random numbers.

    Parameters
    ----------
    image
        (y, x) intensities of any real type; a value that is not finite counts as the smallest.
    diameter_px
        Typical diameter of the nuclei in pixels; None to estimate it.
    parameters
        Knobs; None for the defaults.

    Returns
    -------
    (y, x) int32 labels 1..n, 0 = background; all 0 for an image that is empty, constant or nothing but noise.

    Raises
    ------
    ValueError
        The image is not 2-D, or `diameter_px` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.pp._watershed import watershed_nuclei
    >>> y, x = np.mgrid[:120, :120]
    >>> image = sum(np.exp(-((((y - i) ** 2 + (x - j) ** 2) / 10**2) ** 2)) for i in (30, 80) for j in (30, 80))
    >>> int(watershed_nuclei(image).max())
    4
    """
    parameters = parameters or WatershedParameters()
    image = _finite(np.asarray(image))
    if image.ndim != 2:
        raise ValueError(f"image must be (y, x), got {image.ndim} dimensions")
    if diameter_px is not None and not (np.isfinite(diameter_px) and diameter_px > 0):
        raise ValueError(f"diameter_px must be a positive length, got {diameter_px!r}")
    nothing = np.zeros(image.shape, dtype=np.int32)
    if image.size == 0 or image.min() == image.max():
        return nothing
    diameter = diameter_px or estimate_diameter_px(image)
    if diameter is None:
        return nothing
    factor = max(1, int(diameter // parameters.work_diameter_px))
    reduced = block_mean(image, factor)
    labels = _segment(reduced, max(diameter / factor, MIN_DIAMETER_PX / 2), parameters)
    return enlarge_labels(labels, factor, image.shape)


def _finite(image: NDArray[Any]) -> NDArray[Any]:
    if image.dtype.kind != "f":
        return image
    finite = np.isfinite(image)
    if finite.all():
        return image
    return np.where(finite, image, image[finite].min() if finite.any() else 0)


@dataclass(frozen=True)
class _Scene:
    """What holds for the whole image."""

    diameter_px: float
    low: float
    high: float
    threshold: float


def _segment(image: NDArray[np.float32], diameter_px: float, parameters: WatershedParameters) -> NDArray[np.int32]:
    labels = np.zeros(image.shape, dtype=np.int32)
    low, high = intensity_range(image)
    if high <= low:
        return labels
    # the background looks over three diameters and is then smoothed: beyond eight nothing matters
    tiles = _tiles(image.shape, parameters.tile_px, int(np.ceil(8 * diameter_px)))
    stride = max(1, int(np.sqrt(image.size / _SAMPLE_PX)))
    samples = [
        subtract_background(stabilise(image[outer], low, high), diameter_px)[inner][::stride, ::stride].ravel() for outer, inner in tiles
    ]
    signal = np.concatenate(samples)
    if signal.min() == signal.max():
        return labels
    threshold = max(parameters.global_fraction * float(threshold_otsu(signal)), noise_floor(signal))
    scene = _Scene(diameter_px, low, high, threshold)
    n_nuclei = 0
    for outer, inner in tiles:
        tile = _segment_tile(image[outer], scene, parameters)
        own = _owned(tile, inner)
        own[own > 0] += n_nuclei
        n_nuclei = max(n_nuclei, int(own.max(initial=0)))
        # a nucleus that reaches into the next tile is written whole; where tiles disagree on a border the first one stands
        window = labels[outer]
        np.copyto(window, own, where=(own > 0) & (window == 0))
    if len(tiles) == 1:
        return labels
    # a nucleus may have lost every pixel to one of an earlier tile
    sizes = np.bincount(labels.ravel(), minlength=1)
    present = sizes > 0
    present[0] = False
    numbered: NDArray[np.int32] = (np.cumsum(present) * present).astype(np.int32)[labels]
    return numbered


def _tiles(shape: tuple[int, ...], tile_px: int, halo_px: int) -> list[tuple[tuple[slice, slice], tuple[slice, slice]]]:
    """(tile with halo in the image, tile in tile with halo), row by row."""
    spans = []
    for size in shape:
        count = -(-size // tile_px)
        edges = np.linspace(0, size, count + 1).astype(int)
        spans.append(
            [
                (slice(max(0, a - halo_px), min(size, b + halo_px)), slice(a - max(0, a - halo_px), b - max(0, a - halo_px)))
                for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
            ]
        )
    return [((row[0], column[0]), (row[1], column[1])) for row, column in product(*spans)]


def _owned(labels: NDArray[np.int32], inner: tuple[slice, slice]) -> NDArray[np.int32]:
    """The nuclei whose centroid lies in the tile, numbered from 1."""
    flat = np.flatnonzero(labels)
    ids = labels.ravel()[flat]
    sizes = np.bincount(ids, minlength=1)
    row, column = np.divmod(flat, labels.shape[1])
    keep = sizes > 0
    for position, span in ((row, inner[0]), (column, inner[1])):
        centroid = np.bincount(ids, position + 0.5, minlength=1) / np.maximum(sizes, 1)
        keep &= (centroid >= span.start) & (centroid < span.stop)
    renumbered: NDArray[np.int32] = (np.cumsum(keep) * keep).astype(np.int32)[labels]
    return renumbered


def _segment_tile(image: NDArray[np.float32], scene: _Scene, parameters: WatershedParameters) -> NDArray[np.int32]:
    diameter = scene.diameter_px
    signal = subtract_background(stabilise(image, scene.low, scene.high), diameter)
    bright = signal > scene.threshold
    mask = _tidy(bright & (signal > parameters.local_fraction * local_peak(signal, diameter)), diameter, parameters)
    landscape, labels = _split(mask, signal, diameter, parameters)
    reach = ndimage.binary_dilation(mask, iterations=max(1, int(diameter / 12))) & (signal > scene.threshold / 2)
    own_brightness = parameters.own_fraction * _brightness(labels, signal)
    grown = watershed(-landscape, labels, mask=reach)
    mask = _tidy((grown > 0) & (signal > own_brightness[grown]), diameter, parameters)
    _, labels = _split(mask, signal, diameter, parameters)
    sizes = np.bincount(labels.ravel())
    keep = sizes >= parameters.min_area * np.pi / 4 * diameter**2
    keep[0] = False
    kept: NDArray[np.int32] = np.where(keep[labels], labels, 0).astype(np.int32)
    return kept


def _tidy(mask: NDArray[np.bool_], diameter_px: float, parameters: WatershedParameters) -> NDArray[np.bool_]:
    filled = fill_holes(mask, np.pi / 4 * diameter_px**2)
    radius = round(parameters.opening * diameter_px)
    tidy: NDArray[np.bool_] = opening(filled, disk(radius)) if radius else filled
    return tidy


def _split(
    mask: NDArray[np.bool_], signal: NDArray[np.float32], diameter_px: float, parameters: WatershedParameters
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Landscape (log depth + weight * log brightness inside the mask) and its basins.

    On logarithms a saddle is compared with its peaks by ratio, so that small and large nuclei split alike.
    """
    width = parameters.smoothing * diameter_px
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask).astype(np.float32), width)
    brightness = ndimage.gaussian_filter(signal, width)
    landscape = np.log(depth + np.float32(0.3)) + np.float32(parameters.brightness_weight) * np.log(brightness + np.float32(1e-3))
    return landscape, deep_basins(landscape, mask, parameters.seed_depth)


def _brightness(labels: NDArray[np.int32], signal: NDArray[np.float32], quantile: float = 0.95) -> NDArray[np.float32]:
    """(n + 1,) quantile of the signal in each label, 0 for the background."""
    n_labels = int(labels.max(initial=0))
    result = np.zeros(n_labels + 1, dtype=np.float32)
    flat = np.flatnonzero(labels)
    if flat.size == 0:
        return result
    ids, values = labels.ravel()[flat], signal.ravel()[flat]
    order = np.lexsort((values, ids))
    sizes = np.bincount(ids, minlength=n_labels + 1)[1:]
    start = np.cumsum(sizes) - sizes
    present = sizes > 0
    rank = start + np.floor(quantile * (sizes - 1)).astype(np.int64)
    result[1:][present] = values[order][rank[present]]
    return result
