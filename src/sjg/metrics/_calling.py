"""Cell calling score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjg.core import Buckets, InputError, parts, release, scratch_zeros
from sjg.metrics._overlap import as_ids

#: pixels looked at together
_BLOCK_PX2 = 1 << 21


@overload
def cell_calling_score(labels: ArrayLike, yx_px: ArrayLike, *, distance_px: float = ..., density: bool = ...) -> float: ...
@overload
def cell_calling_score(
    labels: ArrayLike, yx_px: ArrayLike, *, distance_px: Sequence[float], density: bool = ...
) -> NDArray[np.float64]: ...
def cell_calling_score(
    labels: ArrayLike, yx_px: ArrayLike, *, distance_px: float | Sequence[float] = 3, density: bool = False
) -> float | NDArray[np.float64]:
    """Transcripts inside the cells over transcripts in the ring around them.

    The ring is every background pixel whose centre lies at most `distance_px` from the centre of some cell's pixel. Cells in
    contact have no ring between them. Needs no truth, but grows with the masks: read it beside a purity.

    Parameters
    ----------
    labels
        (height, width) integer label image, 0 = background.
    yx_px
        (N, 2) positions of the transcripts as (y, x) in pixels of `labels`; those outside the image are left out.
    distance_px
        Width of the ring, or several.
    density
        Divide both counts by the area that they were found in, so that 1 means "no denser inside than around".

    Returns
    -------
    One number, or an array with one for each distance: not negative, infinite where the ring is empty of transcripts, NaN where
    the cells are empty too.

    Raises
    ------
    InputError
        `labels` is no (height, width) integer image, `yx_px` is not (N, 2) and finite, or a distance is not positive.

    References
    ----------
    The cell calling score of SegJointGene, with counts and d = 3, 5, 7 px.

    Examples
    --------
    Two transcripts in the cell, one in the ring, one far away.

    >>> import numpy as np
    >>> labels = np.zeros((9, 20), dtype=int)
    >>> labels[3:6, 3:6] = 1
    >>> cell_calling_score(labels, [[4.5, 4.5], [3.0, 3.9], [4.5, 7.5], [4.5, 18.0]])
    2.0
    """
    image, points = as_ids(labels, "labels"), np.asarray(yx_px)
    if image.ndim != 2:
        msg = f"labels must be (height, width), got shape {tuple(image.shape)}"
        raise InputError(msg)
    if points.dtype.kind != "f":
        points = points.astype(np.float64)
    if points.ndim != 2 or points.shape[1] != 2 or not all(np.isfinite(points[rows]).all() for rows in parts(len(points))):
        msg = f"yx_px must be finite positions of shape (N, 2) as (y, x), got shape {points.shape}"
        raise InputError(msg)
    distances = np.atleast_1d(np.asarray(distance_px, dtype=np.float64))
    if not (distances > 0).all():
        msg = f"distance_px={distance_px} must be positive"
        raise InputError(msg)

    inside, ring = _counts(image, points, distances, with_area=density)
    with np.errstate(divide="ignore", invalid="ignore"):
        score = inside[0] / ring[:, 0]
        if density:
            score = (inside[0] / inside[1]) / (ring[:, 0] / ring[:, 1])
    return float(score[0]) if np.ndim(distance_px) == 0 else score


def _counts(
    image: NDArray[np.integer], points: NDArray[np.floating], distances: NDArray[np.float64], *, with_area: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(2,) transcripts and pixels inside; (n_distances, 2) the same in each ring."""
    height, width = image.shape
    halo = int(np.ceil(distances.max()))
    step = max(4 * halo, _BLOCK_PX2 // max(1, width))
    n_strips = -(-height // step)

    def strip_of(rows: slice) -> NDArray[np.int64]:
        pixel = np.floor(points[rows])
        within = ((pixel >= 0) & (pixel < (height, width))).all(axis=1)
        return np.where(within, pixel[:, 0] // step, n_strips).astype(np.int64)

    strips = Buckets(strip_of, len(points), n_strips + 1)
    pixels = scratch_zeros(points.shape, np.int32)
    for part, place in strips.places():
        pixels[place] = np.floor(points[part])
        release(pixels, points)
    inside, ring = np.zeros(2), np.zeros((len(distances), 2))
    for start in range(0, height, step):
        stop = min(start + step, height)
        top = max(0, start - halo)
        foreground = np.asarray(image[top : min(height, stop + halo)]) > 0
        core = foreground[start - top : stop - top]
        rows, columns = pixels[strips.starts[start // step] : strips.starts[start // step + 1]].astype(np.int64).T
        hit = core[rows - start, columns]
        inside += hit.sum(), core.sum()
        if with_area or not hit.all():
            along = _gap_along_rows(foreground, halo)
            ring[:, 0] += _n_near(along, rows[~hit] - top, columns[~hit], distances)
            if with_area:
                y, x = np.nonzero(~core)
                ring[:, 1] += _n_near(along, y + start - top, x, distances)
        release(image, pixels)
    return inside, ring


def _gap_along_rows(foreground: NDArray[np.bool_], reach_px: int) -> NDArray[np.integer]:
    """Distance of each pixel to the nearest foreground in its row, `reach_px` + 1 where there is none within reach."""
    gap: NDArray[Any] = np.where(foreground, 0, reach_px + 1).astype(np.uint8 if reach_px < 255 else np.int32)
    for step in range(1, reach_px + 1):
        # a pixel beside one at distance step - 1 is at distance step; the ones still open are all beyond
        near = gap == step - 1
        for to, of in ((np.s_[:, 1:], near[:, :-1]), (np.s_[:, :-1], near[:, 1:])):
            np.minimum(gap[to], step, out=gap[to], where=of)
    return gap


def _n_near(
    along: NDArray[np.integer], rows: NDArray[np.intp], columns: NDArray[np.intp], distances: NDArray[np.float64]
) -> NDArray[np.int64]:
    """(n_distances,) pixels whose nearest foreground is at most that far.

    The nearest foreground of a pixel lies in one of the rows around it: Pythagoras over the distances along them, for these pixels only.
    """
    height, width = along.shape
    halo = int(np.ceil(distances.max()))
    far = (halo + 1) ** 2
    squared = np.full(len(rows), far, np.int64)
    flat = along.ravel()
    for dy in range(-halo, halo + 1):
        row = rows + dy
        gap = flat[np.clip(row, 0, height - 1) * width + columns].astype(np.int64)
        np.minimum(squared, np.where((row >= 0) & (row < height) & (gap <= halo), gap * gap + dy * dy, far), out=squared)
    return (np.sqrt(squared)[None] <= distances[:, None]).sum(axis=1)
