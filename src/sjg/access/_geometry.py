"""Area, centroid and outline of every label."""

from __future__ import annotations

import numpy as np
import shapely
from dask.delayed import delayed
from numpy.typing import NDArray

from sjg.access._compute import compute_in_order
from sjg.core import release, strips

#: side of the regions in which cells are outlined together
_REGION_PX = 1024
#: half the diagonal of the bridge between two parts of a cell that touch at a corner
_BRIDGE_PX = 0.05


def areas_and_centroids(labels: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Area and centre of mass of labels 1..n.

    Parameters
    ----------
    labels
        (height, width) integer labels, 0 = background.

    Returns
    -------
    area_px2
        (n,) number of pixels; 0 for an id that is missing.
    centroid_xy
        (n, 2) mean ``(x, y)`` of the pixel centres in grid pixels; NaN for an id that is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.access import areas_and_centroids
    >>> area, centroid = areas_and_centroids(np.array([[0, 1, 1]]))
    >>> area.tolist(), centroid.tolist()
    ([2], [[2.0, 0.5]])
    """
    count = _n_labels(labels) + 1
    sums = np.zeros((3, count))
    for rows in strips(labels.shape):
        y, x = np.nonzero(labels[rows])
        ids = labels[rows][y, x]
        # the ids of a strip are few of all, mostly
        first, last = int(ids.min(initial=count)), int(ids.max(initial=0))
        for total, weight in zip(sums, (None, x, y + rows.start), strict=True):
            total[first : last + 1] += np.bincount(ids - first, weight)
        release(labels)
    area = sums[0, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        centroid = (sums[1:, 1:] / area).T + 0.5
    return area.astype(np.int64), centroid


def _n_labels(labels: NDArray[np.int32]) -> int:
    largest = 0
    for rows in strips(labels.shape):
        largest = max(largest, int(labels[rows].max(initial=0)))
        release(labels)
    return largest


def bounding_boxes(labels: NDArray[np.int32], n_labels: int) -> NDArray[np.int64]:
    """(n, 4) first row, first column, last row + 1, last column + 1 of labels 1..n; an empty box for an id that is missing."""
    low = np.full((n_labels + 1, 2), np.iinfo(np.int64).max)
    high = np.zeros((n_labels + 1, 2), dtype=np.int64)
    for part in strips(labels.shape):
        strip, top = labels[part], part.start
        # the ends of runs along rows are enough, and far fewer than the pixels
        change = np.ones(strip.shape, dtype=bool)
        change[:, 1:] = strip[:, 1:] != strip[:, :-1]
        rows, first = np.nonzero(change)
        ids = strip[rows, first]
        last = np.append(first[1:], 0)
        last[last == 0] = strip.shape[1]
        np.minimum.at(low[:, 0], ids, rows + top)
        np.minimum.at(low[:, 1], ids, first)
        np.maximum.at(high[:, 0], ids, rows + top + 1)
        np.maximum.at(high[:, 1], ids, last)
        release(labels)
    return np.column_stack([np.minimum(low, high), high])[1:]


def outlines(labels: NDArray[np.int32], *, simplify_px: float = 0.0) -> NDArray[np.object_]:
    """One valid polygon for each of the labels 1..n, along the pixel borders.

    The area of a polygon is the number of pixels of its label. A label in several parts gives one polygon all the same: parts
    that touch at a corner are joined there by a bridge of 0.1 px, and of parts that stay apart the largest is kept. Labels are worked on a
    region at a time, by the workers of a ``distributed.Client`` where there is one.

    Parameters
    ----------
    labels
        (height, width) int32 with ids 1..n, each of them present.
    simplify_px
        Tolerance in pixels of a simplification that keeps borders shared within a region; 0 keeps every corner.

    Returns
    -------
    (n,) shapely polygons in grid pixels ``(x, y)``.
    """
    n_labels = _n_labels(labels)
    polygons = np.empty(n_labels, dtype=object)
    if n_labels == 0:
        return polygons
    box = bounding_boxes(labels, n_labels)
    region = (box[:, 0] // _REGION_PX) * (labels.shape[1] // _REGION_PX + 1) + box[:, 1] // _REGION_PX
    order = np.argsort(region, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(region[order])) + 1)
    trace = delayed(_trace)
    jobs = (trace(*_cut(labels, box, group), group + 1, simplify_px) for group in groups)
    for group, found in zip(groups, compute_in_order(jobs), strict=True):
        polygons[group] = found
        release(labels)
    return polygons


def _cut(labels: NDArray[np.int32], box: NDArray[np.int64], group: NDArray[np.int64]) -> tuple[NDArray[np.int32], int, int]:
    """The window that holds the labels of a group whole, and where it starts."""
    top, left = box[group, :2].min(axis=0)
    bottom, right = box[group, 2:].max(axis=0)
    return labels[top:bottom, left:right].copy(), int(top), int(left)


def _trace(window: NDArray[np.int32], top: int, left: int, ids: NDArray[np.int64], simplify_px: float) -> NDArray[np.object_]:
    """Polygons of the ids of a window."""
    from rasterio.features import shapes as trace

    wanted = np.isin(window, ids)
    traced, coordinates = [], []
    ring_ends, polygon_ends = [0], [0]
    # GDAL does the tracing; what is left to this loop is a fifth of the time
    for geometry, value in trace(window.astype(np.int32, copy=False), mask=wanted, connectivity=4):
        traced.append(int(value))
        for ring in geometry["coordinates"]:
            coordinates.append(np.asarray(ring, dtype=np.float64))
            ring_ends.append(ring_ends[-1] + len(ring))
        polygon_ends.append(len(ring_ends) - 1)
    parts = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, np.concatenate(coordinates) + np.array([left, top]), (np.asarray(ring_ends), np.asarray(polygon_ends))
    )
    label = np.asarray(traced)
    if simplify_px > 0:
        parts = shapely.coverage_simplify(parts, simplify_px)
    order = np.argsort(label, kind="stable")
    parts, label = parts[order], label[order]
    starts = np.flatnonzero(np.diff(label, prepend=0))
    polygons = parts[starts]
    sizes = np.diff(np.append(starts, len(label)))
    for index in np.flatnonzero(sizes > 1):
        polygons[index] = _one_polygon(parts[starts[index] : starts[index] + sizes[index]])
    for index in np.flatnonzero(~shapely.is_valid(polygons)):
        polygons[index] = _one_polygon(shapely.get_parts(shapely.make_valid(polygons[index])))
    return np.asarray(polygons, dtype=object)


def _one_polygon(parts: NDArray[np.object_]) -> shapely.Polygon:
    parts = parts[shapely.get_type_id(parts) == shapely.GeometryType.POLYGON]
    merged = shapely.union_all(parts)
    if merged.geom_type == "MultiPolygon":
        pieces = shapely.get_parts(merged)
        tree = shapely.STRtree(pieces)
        left, right = tree.query(pieces, predicate="touches")
        corners = shapely.intersection(pieces[left[left < right]], pieces[right[left < right]])
        bridges = shapely.buffer(corners, _BRIDGE_PX, quad_segs=1)
        merged = shapely.union_all(np.concatenate([pieces, bridges]))
    if merged.geom_type == "MultiPolygon":
        pieces = shapely.get_parts(merged)
        merged = pieces[int(np.argmax(shapely.area(pieces)))]
    return merged
