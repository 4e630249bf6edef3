"""Where the tissue is, as CellSegmentationEvaluator separates it from the background; block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sjg.imaging._blocks import Region, Report, iter_boxes, read
from sjg.imaging._disks import closed, opened
from sjg.imaging._layout import Box

#: radii of the closings and openings, and how far they look together
_RADII_PX = (1, 2, 20, 10)
_SHAPE_HALO_PX = 2 * sum(_RADII_PX)
#: steps of the contour, each of which looks at most four pixels far
_CONTOUR_STEPS = 5
_CONTOUR_HALO_PX = 4 * _CONTOUR_STEPS


def tissue_foreground(
    channels: Sequence[Any] | NDArray[Any],
    *,
    min_channels: int = 1,
    region: Region | None = None,
    blank: Callable[[str], Any] | None = None,
    report: Report | None = None,
) -> Any:
    """Tissue, as CellSegmentationEvaluator separates it from the background.

    Pixels above the mean of at least `min_channels` channels, closed by 1, opened by 2, closed by 20 and opened by 10 px; holes under
    20,000 px are filled, five steps of a geodesic active contour settle the outline, holes under 1,000 px are filled. Blocks are
    read with the margin that each step needs and holes are followed across them, so that the result is that of one piece.

    Parameters
    ----------
    channels
        (c, y, x) intensities, those that were segmented, or a sequence of (y, x) arrays; NumPy, Zarr or Dask.
    min_channels
        In how many of them tissue is bright.
    region
        Returns (y, x) bool for a box: the pixels that count, all others are background; None for all.
    blank
        Makes a raster of that name and the shape of the image, bool and all False, e.g. on disk; None makes it in memory.
    report
        Is told (blocks done, blocks in all) of the last and longest step.

    Returns
    -------
    (y, x) bool, what `blank` made.
    """
    shape = channels[0].shape
    make = blank or (lambda name: np.zeros(shape, dtype=bool))
    means = [_mean(channel, region) for channel in channels]

    def raw(box: Box) -> NDArray[np.bool_]:
        wanted = None if region is None else region(box)
        if wanted is not None and not wanted.any():
            return wanted
        bright = np.zeros(box.shape, dtype=np.int32)
        for channel, mean in zip(channels, means, strict=True):
            bright += read(channel, box) > mean
        found: NDArray[np.bool_] = bright >= min_channels
        return found if wanted is None else found & wanted

    solid, tissue = make("solid"), make("tissue")
    for box in iter_boxes(shape):
        outer = box.grown(_SHAPE_HALO_PX, shape)
        mask = raw(outer)
        for radius, step in zip(_RADII_PX, (closed, opened, closed, opened), strict=True):
            mask = step(mask, radius)
        solid[box.slices] = mask[box.inside(outer)]
    _fill_holes(solid, 20_000)
    for box in iter_boxes(shape, report=report):
        outer = box.grown(_CONTOUR_HALO_PX, shape)
        tissue[box.slices] = _settled(raw(outer), read(solid, outer))[box.inside(outer)]
    _fill_holes(tissue, 1000)
    return tissue


def _mean(channel: Any, region: Region | None) -> float:
    total, count = 0.0, 0
    for box in iter_boxes(channel.shape):
        wanted = np.ones(box.shape, dtype=bool) if region is None else region(box)
        if wanted.any():
            total += float(read(channel, box).sum(dtype=np.float64, where=wanted))
            count += int(wanted.sum())
    return total / max(1, count)


def _fill_holes(mask: Any, max_area_px2: int) -> None:
    """Fill the parts of the background (8 neighbours) smaller than an area, in place."""
    sizes: list[NDArray[np.int64]] = []
    touching: list[NDArray[np.int64]] = []
    # ids of the row of pixels above the blocks, with a pixel of nothing at both ends, and of the column beside the block
    above = np.zeros(mask.shape[1] + 2, dtype=np.int64)
    beneath = above.copy()
    beside = np.zeros(0, dtype=np.int64)
    first = 1
    for box in iter_boxes(mask.shape):
        holes, count = ndimage.label(~read(mask, box), structure=np.ones((3, 3)))
        ids = np.where(holes > 0, holes.astype(np.int64) + (first - 1), 0)
        sizes.append(np.bincount(holes.ravel(), minlength=count + 1)[1:])
        if box.left == 0:
            above, beneath = beneath, np.zeros_like(above)
        else:
            padded = np.pad(beside, 1)
            touching += [_pairs(ids[:, 0], padded[shift : shift + len(beside)]) for shift in range(3)]
        touching += [_pairs(ids[0], above[box.left + shift : box.right + shift]) for shift in range(3)]
        beneath[box.left + 1 : box.right + 1] = ids[-1]
        beside = ids[:, -1].copy()
        first += count
    if first == 1:
        return
    one, other = np.concatenate(touching).T
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(first, first))
    _, whole = connected_components(graph, directed=False)
    area = np.bincount(whole, np.concatenate([np.zeros(1, np.int64), *sizes]))
    small = (area < max_area_px2)[whole]
    small[0] = False
    first = 1
    for box in iter_boxes(mask.shape):
        part = read(mask, box)
        holes, count = ndimage.label(~part, structure=np.ones((3, 3)))
        filled = np.concatenate([[False], small[first : first + count]])
        if filled.any():
            mask[box.slices] = part | filled[holes]
        first += count


def _pairs(one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    both = np.column_stack([one, other])[(one > 0) & (other > 0)]
    # long seams repeat few pairs
    return both[np.append(True, (np.diff(both, axis=0) != 0).any(axis=1))] if len(both) else both


def _settled(raw: NDArray[np.bool_], solid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Foreground after the morphological geodesic active contour of scikit-image.

    The contour grows out of the background (balloon 0.8, threshold 0.5) and is held where the raw mask begins. Its smoothing
    alternates between two filters, in scikit-image on from wherever the last call of the process left it; here always from the first.

    References
    ----------
    Marquez-Neila, Baumela & Alvarez (2014), IEEE Transactions on Pattern Analysis and Machine Intelligence 36:2.
    """
    if solid.all():
        return solid
    background = ~solid
    slopes = _slopes((~raw).astype(np.int8))
    for step in range(_CONTOUR_STEPS):
        square = background.copy()
        for axis in range(2):
            square = _neighbours(square, axis, np.logical_or)
        background |= square & ~raw
        down, along = (one * other for one, other in zip(slopes, _slopes(background.astype(np.int8)), strict=True))
        pull = down + along
        background = (background | (pull > 0)) & ~(pull < 0)
        background = _sup_inf(_inf_sup(background)) if step % 2 == 0 else _inf_sup(_sup_inf(background))
    return ~background


def _slopes(values: NDArray[np.int8]) -> list[NDArray[np.int8]]:
    """Twice the gradient of numpy.gradient, in whole numbers."""
    slopes = []
    for axis in range(2):
        along = np.moveaxis(values, axis, 0)
        slope = np.zeros_like(along)
        if len(along) > 1:
            slope[1:-1] = along[2:] - along[:-2]
            slope[0], slope[-1] = 2 * (along[1] - along[0]), 2 * (along[-1] - along[-2])
        slopes.append(np.moveaxis(slope, 0, axis))
    return slopes


def _neighbours(mask: NDArray[np.bool_], axis: int, combine: Any) -> NDArray[np.bool_]:
    """A pixel combined with its two neighbours along an axis; beyond the border there is nothing."""
    padded = np.pad(mask, [(1, 1) if axis == other else (0, 0) for other in range(2)])
    size = mask.shape[axis]
    before, after = (padded.take(range(start, start + size), axis=axis) for start in (0, 2))
    return np.asarray(combine(combine(mask, before), after))


def _diagonal(mask: NDArray[np.bool_], turn: int, combine: Any) -> NDArray[np.bool_]:
    padded = np.pad(mask, 1)
    height, width = mask.shape
    before = padded[:height, 1 - turn : 1 - turn + width]
    after = padded[2:, 1 + turn : 1 + turn + width]
    return np.asarray(combine(combine(mask, before), after))


def _lines(mask: NDArray[np.bool_], combine: Any) -> list[NDArray[np.bool_]]:
    straight = [_neighbours(mask, axis, combine) for axis in range(2)]
    return [*straight, *(_diagonal(mask, turn, combine) for turn in (-1, 1))]


def _sup_inf(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels that lie with both neighbours of some line of three in the mask."""
    return np.logical_or.reduce(_lines(mask, np.logical_and))


def _inf_sup(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of which every line of three touches the mask."""
    return np.logical_and.reduce(_lines(mask, np.logical_or))
