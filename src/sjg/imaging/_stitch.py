"""Labels of overlapping windows become labels of the whole image, without a cut object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjg.imaging._layout import Box, PatchLayout

#: an object joins late only where at least this much of it is still free
_MIN_FREE = 0.5


@dataclass
class Stitcher:
    """Writes objects whole, each from the one window that answers for it.

    A window is a patch with a margin. It answers for the objects whose centre lies in the patch's core; objects whose centre lies in
    the core of a patch that was skipped go to the first window that shows them. An object is written with all its pixels, those
    in the margin too, so that no object ends at a seam. Where two windows disagree about a pixel the first one stands; an object that
    finds most of its pixels taken is the same object seen twice and is dropped.

    Windows that differ at a seam may each hold the other responsible. :meth:`fill_gaps`, called for every window after all of them
    were added, writes those objects near a core that still find room.

    Parameters
    ----------
    layout
        The patches.
    processed
        (number of patches,) True for those whose windows will be added.
    out
        Arrays (height, width) of zeros into which labels go, by name, e.g. NumPy or Zarr arrays. The first name decides which
        window answers for an object; objects of the other names with the same id follow it.
    """

    layout: PatchLayout
    processed: NDArray[np.bool_]
    out: Mapping[str, Any]
    n_objects: int = 0
    n_beyond: int = 0

    def add(self, index: int, outer: Box, labels: Mapping[str, NDArray[np.int32]]) -> int:
        """Write the objects for which patch `index` answers.

        Parameters
        ----------
        index
            The patch.
        outer
            The pixels that `labels` cover.
        labels
            (y, x) int labels by the names of `out`, ids 1..n in each; the first name leads.

        Returns
        -------
        How many objects were written.
        """
        objects = _Objects.of(next(iter(labels.values())))
        owner = self.layout.owner(objects.y + outer.top, objects.x + outer.left)
        mine = objects.present & ((owner == index) | ~self.processed[owner])
        self.n_beyond += int((mine & objects.cut_by(outer, self.layout.shape)).sum())
        return self._write(outer, labels, mine)

    def fill_gaps(self, index: int, outer: Box, labels: Mapping[str, NDArray[np.int32]], *, slack_px: float) -> int:
        """Write objects with their centre at most `slack_px` outside the core of patch `index` that no window has written."""
        objects = _Objects.of(next(iter(labels.values())))
        core = self.layout.core(index)
        y, x = objects.y + outer.top, objects.x + outer.left
        owner = self.layout.owner(y, x)
        away = np.maximum(np.maximum(core.top - y, y - core.bottom), np.maximum(core.left - x, x - core.right))
        near = objects.present & (owner != index) & self.processed[owner] & (away <= slack_px)
        near &= ~objects.cut_by(outer, self.layout.shape)
        return self._write(outer, labels, near)

    def _write(self, outer: Box, labels: Mapping[str, NDArray[np.int32]], chosen: NDArray[np.bool_]) -> int:
        if not chosen.any():
            return 0
        names = list(labels)
        lead = labels[names[0]]
        window = np.asarray(self.out[names[0]][outer.slices])
        free = np.bincount(lead[window == 0], minlength=len(chosen))
        size = np.bincount(lead.ravel(), minlength=len(chosen))
        chosen = chosen & (free >= _MIN_FREE * size)
        count = int(chosen.sum())
        if not count:
            return 0
        new_id = np.zeros(len(chosen), dtype=np.int64)
        new_id[chosen] = self.n_objects + np.arange(1, count + 1)
        written: NDArray[np.bool_] | None = None
        for name in names:
            if name != names[0]:
                window = np.asarray(self.out[name][outer.slices])
            ids = new_id[np.minimum(labels[name], len(chosen) - 1)]
            ids[labels[name] >= len(chosen)] = 0
            place = (ids > 0) & (window == 0)
            window = np.where(place, ids, window).astype(window.dtype)
            if written is not None:
                # what leads keeps its pixels: a nucleus is never inside another cell
                window = np.where(written, new_id[lead], window).astype(window.dtype)
            else:
                written = place
            self.out[name][outer.slices] = window
        self.n_objects += count
        return count


@dataclass(frozen=True)
class _Objects:
    """Centres of labels 0..n (0 is never present), in pixels of the window."""

    present: NDArray[np.bool_]
    y: NDArray[np.float64]
    x: NDArray[np.float64]
    border: tuple[NDArray[np.bool_], ...]

    @classmethod
    def of(cls, labels: NDArray[np.int32]) -> _Objects:
        flat = np.flatnonzero(labels)
        ids = labels.ravel()[flat]
        count = int(ids.max(initial=0)) + 1
        row, column = np.divmod(flat, labels.shape[1])
        size = np.bincount(ids, minlength=count)
        divisor = np.maximum(size, 1)
        y = np.bincount(ids, row + 0.5, minlength=count) / divisor
        x = np.bincount(ids, column + 0.5, minlength=count) / divisor
        sides = (labels[:1], labels[-1:], labels[:, :1], labels[:, -1:])
        border = tuple(np.bincount(side.ravel(), minlength=count) > 0 for side in sides)
        return cls((size > 0) & (np.arange(count) > 0), y, x, border)

    def cut_by(self, outer: Box, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Objects that touch a side of the window that is no side of the image."""
        inner = (outer.top > 0, outer.bottom < shape[0], outer.left > 0, outer.right < shape[1])
        cut = np.zeros(len(self.present), dtype=bool)
        for is_inner, touches in zip(inner, self.border, strict=True):
            if is_inner:
                cut |= touches
        return cut


def number_present(sizes: NDArray[np.int64]) -> NDArray[np.int32]:
    """(n + 1,) new ids 1..m of the labels that have pixels, 0 for the others and the background."""
    present = sizes > 0
    present[0] = False
    return (np.cumsum(present) * present).astype(np.int32)
