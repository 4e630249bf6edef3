"""Whole cells around nuclei without trained weights: an expected distance, and the membrane stains as far as they deserve it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import expand_labels

from sjg.imaging._flood import flood
from sjg.imaging._foreground import block_mean, intensity_range, light_smoothing_px, local_spread, stabilise
from sjg.imaging._sample import sample_windows
from sjg.imaging._scene import Scene, fill_missing
from sjg.imaging._watershed import WatershedParameters, nuclei_in_window

#: how many windows of a large image tell how much a stain is worth
_EVIDENCE_WINDOWS = 3


@dataclass(frozen=True)
class CellParameters:
    """Knobs of :func:`cells_in_window`; lengths are in nuclear diameters.

    Parameters
    ----------
    rim
        Where no stain says otherwise, a cell ends this far outside its nucleus.
    reach
        No cell reaches further than this.
    plain_reach
        The same where no stain marks membranes.
    stain_weight
        Weight of a stain that marks membranes perfectly, against the square of the distance from the rim.
    full_evidence
        A stain counts fully that is this many standard deviations brighter between nuclei than in them.
    """

    rim: float = 0.1
    reach: float = 1.0
    plain_reach: float = 0.5
    stain_weight: float = 0.3
    full_evidence: float = 0.8


@dataclass(frozen=True)
class Stains:
    """What holds for the membrane stains of a whole image.

    Parameters
    ----------
    ranges
        (low, high) of each channel.
    weights
        How much each channel is worth, 0 to 1.
    """

    ranges: tuple[tuple[float, float], ...]
    weights: tuple[float, ...]


def judge_stains(
    nucleus: Any,
    stains: Sequence[Any],
    scene: Scene,
    *,
    nuclei_parameters: WatershedParameters | None = None,
    parameters: CellParameters | None = None,
) -> Stains:
    """How much each stain knows about the borders of cells.

    A membrane stain is brighter midway between neighbouring nuclei than inside them, by its *evidence*: the difference of the means in
    local standard deviations. A stain that lacks this (one of nuclei, of debris, or out of focus) would only fray the borders and gets
    no weight.

    Parameters
    ----------
    nucleus
        (y, x) array, or anything that can be sliced to one.
    stains
        The same for each membrane channel.
    scene
        The scene of the nuclei.
    """
    parameters = parameters or CellParameters()
    samples = [sample_windows(stain) for stain in stains]
    if not samples:
        return Stains((), ())
    ranges = tuple(intensity_range(np.concatenate([fill_missing(window).ravel() for window in sample])) for sample in samples)
    windows = sample_windows(nucleus)
    order = np.argsort([-float(np.std(window[::4, ::4].astype(np.float32))) for window in windows], kind="stable")
    found: list[list[float]] = [[] for _ in stains]
    for position in order[:_EVIDENCE_WINDOWS].tolist():
        nuclei = _coarser(nuclei_in_window(windows[position], scene, nuclei_parameters), scene.factor)
        between, inside = _zones(nuclei, scene.diameter_px, parameters)
        if not between.any() or not inside.any():
            continue
        for channel, sample in enumerate(samples):
            ridge = _contrast(sample[position], ranges[channel], scene)
            found[channel].append(float(ridge[between].mean() - ridge[inside].mean()))
    evidence = [float(np.median(values)) if values else 0.0 for values in found]
    return Stains(ranges, tuple(float(np.clip(value / parameters.full_evidence, 0, 1)) for value in evidence))


def cells_in_window(
    nuclei: NDArray[np.int32],
    membrane: NDArray[Any] | None,
    scene: Scene,
    *,
    stains: Stains | None = None,
    parameters: CellParameters | None = None,
) -> NDArray[np.int32]:
    """The cell around each nucleus.

    Nuclei and the far background flood a landscape whose crest is the outline of the cells: a dome over the distance from the nearest
    nucleus, highest at the rim that cells have on average, plus the membrane stains.

    Parameters
    ----------
    nuclei
        (y, x) labels of a window.
    membrane
        (k, y, x) stains, or None.
    scene, stains
        What holds for the whole image.
    parameters
        Knobs; None for the defaults.

    Returns
    -------
    (y, x) int32 labels with the ids of the nuclei; a cell contains its nucleus.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.imaging._scene import Scene
    >>> from sjg.imaging._watershed_cells import cells_in_window
    >>> nuclei = np.zeros((1, 30), dtype=np.int32)
    >>> nuclei[0, 10:20] = 1
    >>> scene = Scene(diameter_px=10, factor=1, low=0, high=1, contrast=0, level=0, noise=0)
    >>> np.flatnonzero(cells_in_window(nuclei, None, scene)).tolist() == list(range(9, 21))
    True
    """
    parameters = parameters or CellParameters()
    if not nuclei.any():
        return np.zeros(nuclei.shape, dtype=np.int32)
    small = _coarser(nuclei, scene.factor)
    diameter = scene.diameter_px
    distance = ndimage.distance_transform_edt(small == 0).astype(np.float32)
    landscape = -(((distance - parameters.rim * diameter) / diameter) ** 2)
    weights = stains.weights if stains is not None and membrane is not None else ()
    best = max(weights, default=0.0)
    if best > 0 and membrane is not None and stains is not None:
        ridge = sum(
            weight * _contrast(channel, bounds, scene)
            for channel, bounds, weight in zip(membrane, stains.ranges, weights, strict=True)
            if weight > 0
        )
        landscape = landscape + np.float32(parameters.stain_weight * best / sum(weights)) * ridge
    reach = diameter * (parameters.plain_reach + best * (parameters.reach - parameters.plain_reach))
    outside = int(small.max()) + 1
    seeds = np.where(distance > reach, outside, small)
    # a seed must not lie on the crest: the rim of a nucleus belongs to it, and so does what is next to the far background
    cells = flood(landscape, seeds)
    cells = np.where(cells == outside, 0, cells).astype(np.int32)
    factor = scene.factor
    if factor > 1:
        cells = np.kron(cells, np.ones((factor, factor), dtype=np.int32))[: nuclei.shape[0], : nuclei.shape[1]]
    return np.where(nuclei > 0, nuclei, cells).astype(np.int32)


def _coarser(labels: NDArray[np.int32], factor: int) -> NDArray[np.int32]:
    """Every `factor`-th pixel, the middle one of each block."""
    if factor == 1:
        return labels
    height, width = labels.shape
    rows = np.minimum(np.arange(-(-height // factor)) * factor + factor // 2, height - 1)
    columns = np.minimum(np.arange(-(-width // factor)) * factor + factor // 2, width - 1)
    return labels[np.ix_(rows, columns)]


def _contrast(stain: NDArray[Any], bounds: tuple[float, float], scene: Scene) -> NDArray[np.float32]:
    """Brightness of a stain against its surroundings, in standard deviations; extremes count as 3."""
    low, high = bounds
    reduced = block_mean(fill_missing(stain), scene.factor)
    if high <= low:
        return np.zeros(reduced.shape, dtype=np.float32)
    root = np.minimum(stabilise(reduced, low, high), np.float32(1))
    mean, spread = local_spread(root, scene.diameter_px)
    smooth = ndimage.gaussian_filter(root, max(1.0, light_smoothing_px(scene.diameter_px)))
    contrast: NDArray[np.float32] = np.clip((smooth - mean) / (spread + np.float32(0.02)), -1, 3)
    return contrast


def _zones(nuclei: NDArray[np.int32], diameter_px: float, parameters: CellParameters) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Pixels midway between two neighbouring nuclei, and pixels well inside a nucleus."""
    grown = expand_labels(nuclei, (parameters.plain_reach + parameters.rim) * diameter_px)
    nobody = np.iinfo(np.int32).max
    highest = ndimage.maximum_filter(grown, 3)
    lowest = ndimage.minimum_filter(np.where(grown > 0, grown, nobody), 3)
    between = (grown > 0) & (nuclei == 0) & (highest != lowest)
    inside = ndimage.distance_transform_edt(nuclei > 0) > 0.15 * diameter_px
    return between, inside
