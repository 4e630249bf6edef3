"""Nuclei without trained weights: thresholds, seeds from shape and brightness, watershed."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import starmap
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import disk, opening

from sjg.core import Spread, release, scratch_zeros, strips
from sjg.imaging._basins import deep_basins
from sjg.imaging._diameter import MIN_ROUNDNESS
from sjg.imaging._enlarge import enlarge_labels
from sjg.imaging._flood import flood
from sjg.imaging._foreground import (
    block_mean,
    crowding,
    fill_holes,
    light_smoothing_px,
    local_peak,
    local_spread,
    roundness,
    stabilise,
    subtract_background,
)
from sjg.imaging._layout import lay_patches
from sjg.imaging._scene import Scene, fill_missing, survey
from sjg.imaging._stitch import Stitcher, number_present


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
    local_spread
        Where nuclei crowd out the background, they are brighter than their surroundings (three diameters) less this many standard
        deviations.
    plain_roundness
        There they are also at least this round: a slope of the background is bright on one side, but flat.
    roundness_weight
        Weight of the roundness of the brightness (Laplacian of Gaussian at the scale of a nucleus) in the landscape of the seeds, where
        nuclei are crowded.
    crowded_from, crowded_over
        Nuclei begin to be crowded where this fraction of the surroundings is foreground, and are wholly so this much above.
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
    local_spread: float = 0.25
    plain_roundness: float = 0.02
    roundness_weight: float = 5.0
    crowded_from: float = 0.3
    crowded_over: float = 0.2
    seed_depth: float = 0.1
    brightness_weight: float = 1.0
    smoothing: float = 1 / 12
    opening: float = 0.06
    min_area: float = 0.12
    work_diameter_px: float = 12.0
    tile_px: int = 2560


def watershed_nuclei(
    image: NDArray[Any],
    *,
    diameter_px: float | None = None,
    parameters: WatershedParameters | None = None,
    spread: Spread = starmap,
) -> NDArray[np.int32]:
    """Segment bright nuclei on a dark background.

    1. Square root of the intensity, background (local minimum) subtracted.
    2. Foreground: above a fraction of Otsu's threshold, of the brightest nucleus near by, and above the noise; in crowded tissue, which
       has no background to rise from, above the mean of the surroundings. Valleys of the brightness are no foreground.
    3. Seeds: maxima, deep enough, of log depth in the foreground plus log brightness, and in crowded tissue plus the roundness of
       the brightness; watershed on the same landscape.
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
    spread
        Does the tiles, as :func:`itertools.starmap` would: here, or by the workers of a cluster.

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
    >>> from sjg.imaging._watershed import watershed_nuclei
    >>> y, x = np.mgrid[:120, :120]
    >>> image = sum(np.exp(-((((y - i) ** 2 + (x - j) ** 2) / 10**2) ** 2)) for i in (30, 80) for j in (30, 80))
    >>> int(watershed_nuclei(image).max())
    4
    """
    parameters = parameters or WatershedParameters()
    image = np.asarray(image)
    if image.ndim != 2:
        raise ValueError(f"image must be (y, x), got {image.ndim} dimensions")
    if diameter_px is not None and not (np.isfinite(diameter_px) and diameter_px > 0):
        raise ValueError(f"diameter_px must be a positive length, got {diameter_px!r}")
    labels = scratch_zeros(image.shape, np.int32)
    scene = survey(image, diameter_px=diameter_px, work_diameter_px=parameters.work_diameter_px, global_fraction=parameters.global_fraction)
    if scene is None:
        return labels
    side = parameters.tile_px * scene.factor
    layout = lay_patches((image.shape[0], image.shape[1]), (side, side), overlap=0.0)
    stitcher = Stitcher(layout, np.ones(len(layout), dtype=bool), {"nuclei": labels})
    windows = [layout.box(index).grown(scene.halo_px, layout.shape, grain_px=scene.grain_px) for index in range(len(layout))]
    found = spread(nuclei_in_window, ((np.array(image[outer.slices]), scene, parameters) for outer in windows))
    for index, (outer, nuclei) in enumerate(zip(windows, found, strict=True)):
        stitcher.add(index, outer, {"nuclei": nuclei})
        release(image, labels)
    sizes = np.zeros(stitcher.n_objects + 1, np.int64)
    for rows in strips(labels.shape):
        sizes += np.bincount(labels[rows].ravel(), minlength=len(sizes))
    number = number_present(sizes)
    for rows in strips(labels.shape):
        labels[rows] = number[labels[rows]]
    release(labels)
    return labels


def nuclei_in_window(image: NDArray[Any], scene: Scene, parameters: WatershedParameters | None = None) -> NDArray[np.int32]:
    """Nuclei of a part of an image of which the scene is known; what lies further than ``scene.halo_px`` has no say.

    Parameters
    ----------
    image
        (y, x) pixels; the first row and column should be multiples of ``scene.grain_px`` in the whole image.
    scene
        From :func:`survey`.
    parameters
        Knobs; None for the defaults.

    Returns
    -------
    (y, x) int32 labels 1..n, ids may have gaps.
    """
    parameters = parameters or WatershedParameters()
    reduced = block_mean(fill_missing(image), scene.factor)
    return enlarge_labels(_segment_tile(reduced, scene, parameters), scene.factor, (image.shape[0], image.shape[1]))


def _segment_tile(image: NDArray[np.float32], scene: Scene, parameters: WatershedParameters) -> NDArray[np.int32]:
    diameter = scene.diameter_px
    root = stabilise(image, scene.low, scene.high)
    signal = subtract_background(root, diameter)
    shape = roundness(root, diameter)
    round_enough = shape > MIN_ROUNDNESS
    bright, crowded = _bright(root, signal, shape, scene, parameters)
    relief = np.float32(parameters.roundness_weight) * crowded * shape
    mask = _tidy(bright & round_enough, diameter, parameters)
    landscape, labels = _split(mask, signal, relief, diameter, parameters)
    reach = ndimage.binary_dilation(mask, iterations=max(1, int(diameter / 12))) & (bright | (signal > scene.contrast / 2))
    own_brightness = parameters.own_fraction * _brightness(labels, signal)
    grown = flood(-landscape, labels, mask=reach)
    mask = _tidy((grown > 0) & (signal > own_brightness[grown]) & round_enough, diameter, parameters)
    _, labels = _split(mask, signal, relief, diameter, parameters)
    sizes = np.bincount(labels.ravel())
    keep = sizes >= parameters.min_area * np.pi / 4 * diameter**2
    keep[0] = False
    kept: NDArray[np.int32] = np.where(keep[labels], labels, 0).astype(np.int32)
    return kept


def _bright(
    root: NDArray[np.float32],
    signal: NDArray[np.float32],
    shape: NDArray[np.float32],
    scene: Scene,
    parameters: WatershedParameters,
) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Foreground, and how crowded its surroundings are (0 to 1).

    What rises above its background is foreground; where nuclei leave no background to rise from, what is bright at all.
    """
    diameter = scene.diameter_px
    rising = (signal > scene.contrast) & (signal > parameters.local_fraction * local_peak(signal, diameter))
    smooth = ndimage.gaussian_filter(root, light_smoothing_px(diameter))
    mean, spread = local_spread(root, diameter)
    plain = (smooth > max(scene.level, scene.noise)) & (smooth > mean - parameters.local_spread * spread)
    plain &= shape > parameters.plain_roundness
    crowded = (crowding(rising | plain, diameter) - parameters.crowded_from) / parameters.crowded_over
    return rising | (plain & (crowded > 0)), np.clip(crowded, 0, 1)


def _tidy(mask: NDArray[np.bool_], diameter_px: float, parameters: WatershedParameters) -> NDArray[np.bool_]:
    filled = fill_holes(mask, np.pi / 4 * diameter_px**2)
    radius = round(parameters.opening * diameter_px)
    tidy: NDArray[np.bool_] = opening(filled, disk(radius)) if radius else filled
    return tidy


def _split(
    mask: NDArray[np.bool_],
    signal: NDArray[np.float32],
    relief: NDArray[np.float32],
    diameter_px: float,
    parameters: WatershedParameters,
) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Landscape (log depth + weight * log brightness + relief inside the mask) and its basins.

    On logarithms a saddle is compared with its peaks by ratio, so that small and large nuclei split alike.
    """
    width = parameters.smoothing * diameter_px
    depth = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask).astype(np.float32), width)
    brightness = ndimage.gaussian_filter(signal, width)
    landscape = np.log(depth + np.float32(0.3)) + np.float32(parameters.brightness_weight) * np.log(brightness + np.float32(1e-3))
    landscape += relief
    return landscape, deep_basins(landscape, mask, parameters.seed_depth)


def _brightness(labels: NDArray[np.int32], signal: NDArray[np.float32], quantile: float = 0.95) -> NDArray[np.float32]:
    """(n + 1,) quantile of the signal in each label, 0 for the background."""
    n_labels = int(labels.max(initial=0))
    result = np.zeros(n_labels + 1, dtype=np.float32)
    flat = np.flatnonzero(labels)
    if flat.size == 0:
        return result
    ids, values = labels.ravel()[flat], signal.ravel()[flat]
    # bits of floats that are not negative sort like the floats: one sort of whole numbers by label and value
    order = np.sort((ids.astype(np.uint64) << np.uint64(32)) | (values + np.float32(0)).view(np.uint32))
    sizes = np.bincount(ids, minlength=n_labels + 1)[1:]
    start = np.cumsum(sizes) - sizes
    present = sizes > 0
    rank = start + np.floor(quantile * (sizes - 1)).astype(np.int64)
    result[1:][present] = order[rank[present]].astype(np.uint32).view(np.float32)
    return result
