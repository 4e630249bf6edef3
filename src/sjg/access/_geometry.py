"""Area, centroid and outline of every label."""

from __future__ import annotations

import numpy as np
import shapely
from numpy.typing import NDArray

#: rows of labels that are reduced at once, to bound the memory
_STRIP_PX = 512
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
    count = int(labels.max(initial=0)) + 1
    sums = np.zeros((3, count))
    for top in range(0, labels.shape[0], _STRIP_PX):
        strip = labels[top : top + _STRIP_PX]
        rows, columns = np.nonzero(strip)
        ids = strip[rows, columns]
        sums[0] += np.bincount(ids, minlength=count)
        sums[1] += np.bincount(ids, columns, minlength=count)
        sums[2] += np.bincount(ids, rows + top, minlength=count)
    area = sums[0, 1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        centroid = (sums[1:, 1:] / area).T + 0.5
    return area.astype(np.int64), centroid


def outlines(labels: NDArray[np.int32], *, simplify_px: float = 0.0) -> NDArray[np.object_]:
    """One valid polygon for each of the labels 1..n, along the pixel borders.

    The area of a polygon is the number of pixels of its label. A label in several parts gives one polygon all the same: parts
    that touch at a corner are joined there by a bridge of 0.1 px, and of parts that stay apart the largest is kept.

    Parameters
    ----------
    labels
        (height, width) int32 with ids 1..n, each of them present.
    simplify_px
        Tolerance in pixels of a simplification that keeps shared borders shared; 0 keeps every corner.

    Returns
    -------
    (n,) shapely polygons in grid pixels ``(x, y)``.
    """
    from rasterio.features import shapes as trace

    ids: list[int] = []
    coordinates: list[NDArray[np.float64]] = []
    ring_ends, polygon_ends = [0], [0]
    for geometry, value in trace(labels.astype(np.int32, copy=False), mask=labels > 0, connectivity=4):
        ids.append(int(value))
        for ring in geometry["coordinates"]:
            coordinates.append(np.asarray(ring, dtype=np.float64))
            ring_ends.append(ring_ends[-1] + len(ring))
        polygon_ends.append(len(ring_ends) - 1)
    if not ids:
        return np.empty(0, dtype=object)
    parts = shapely.from_ragged_array(
        shapely.GeometryType.POLYGON, np.concatenate(coordinates), (np.asarray(ring_ends), np.asarray(polygon_ends))
    )
    if simplify_px > 0:
        parts = shapely.coverage_simplify(parts, simplify_px)
    order = np.argsort(ids, kind="stable")
    parts, label = parts[order], np.asarray(ids)[order]
    starts = np.flatnonzero(np.diff(label, prepend=0))
    polygons = parts[starts]
    sizes = np.diff(np.append(starts, len(label)))
    for index in np.flatnonzero(sizes > 1):
        polygons[index] = _one_polygon(parts[starts[index] : starts[index] + sizes[index]])
    invalid = np.flatnonzero(~shapely.is_valid(polygons))
    for index in invalid:
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
