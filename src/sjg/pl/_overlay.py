"""Cells, nuclei and outlines blended over an image: arrays in, an RGB array out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

#: instances of fewer display pixels across would be hidden by outlines
_MIN_CELL_PX = 5.0
_MIN_NUCLEUS_PX = 12.0


def gray_background(image: NDArray[np.float32] | None, shape: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W, 3) gray picture of an image between its 1st and 99.8th percentiles; black where there is none."""
    if image is None:
        return np.zeros((*shape, 3), dtype=np.float32)
    finite = image[np.isfinite(image)]
    if finite.size == 0:
        return np.zeros((*shape, 3), dtype=np.float32)
    low, high = np.percentile(finite, [1.0, 99.8])
    scaled = np.clip((np.nan_to_num(image, nan=low) - low) / max(float(high - low), 1e-12), 0.0, 1.0)
    # bright nuclei at full white would leave no room for colours
    return np.repeat((0.9 * scaled)[..., None], 3, axis=2).astype(np.float32)


def typical_diameter(labels: NDArray[np.int64]) -> float:
    """Median over the instances of the diameter of the circle of equal area, in pixels; 0 where there is no instance."""
    counts = np.unique(labels[labels > 0], return_counts=True)[1]
    return float(2.0 * np.sqrt(np.median(counts) / np.pi)) if len(counts) else 0.0


def outline_mask(labels: NDArray[np.int64], width_px: int) -> NDArray[np.bool_]:
    """Inner rim of each instance, `width_px` pixels wide; the border of the window is no rim.

    Examples
    --------
    >>> import numpy as np
    >>> outline_mask(np.array([[0, 1, 1, 1, 0]]), 1).astype(int)
    array([[0, 1, 0, 1, 0]])
    """
    size = 2 * width_px + 1
    low = ndimage.minimum_filter(labels, size, mode="nearest")
    high = ndimage.maximum_filter(labels, size, mode="nearest")
    return np.asarray((labels > 0) & (low != high))


def outline_width(labels: NDArray[np.int64], wanted_px: float, *, marks: bool = False) -> int:
    """Width of outlines that does not swallow the instances; 0 = draw none.

    `marks` are outlines in a colour of their own (nuclei, truth): they need larger instances than those in the colour of the cell.
    """
    diameter = typical_diameter(labels)
    if diameter < (_MIN_NUCLEUS_PX if marks else _MIN_CELL_PX):
        return 0
    return int(np.clip(round(wanted_px), 1, max(1, int(0.07 * diameter))))


def paint_cells(
    canvas: NDArray[np.float32],
    labels: NDArray[np.int64],
    ids: NDArray[np.int64],
    rgb: NDArray[np.float32],
    *,
    fill_alpha: float,
    outline_px: int,
) -> None:
    """Blend each cell's colour into `canvas` (in place) and draw its rim opaque."""
    if len(ids) == 0:
        return
    inside = labels > 0
    colors = rgb[np.searchsorted(ids, labels[inside])]
    canvas[inside] = (1.0 - fill_alpha) * canvas[inside] + fill_alpha * colors
    if outline_px:
        rim = outline_mask(labels, outline_px)
        canvas[rim] = rgb[np.searchsorted(ids, labels[rim])]


def paint_rim(canvas: NDArray[np.float32], labels: NDArray[np.int64], color: tuple[float, float, float], width_px: int) -> None:
    """Draw the rims of all instances in one colour (in place)."""
    if width_px:
        canvas[outline_mask(labels, width_px)] = np.asarray(color, dtype=np.float32)
