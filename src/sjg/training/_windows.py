"""Windows of the tissue and the molecules inside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjg.core import Buckets, Molecules, parts, release, scratch_zeros

_TILE_PX = 64


@dataclass(frozen=True)
class Window:
    """A rectangle of grid pixels, ``[y0, y0 + height) x [x0, x0 + width)``; may reach beyond the grid."""

    y0: int
    x0: int
    height: int
    width: int

    def grown(self, margin: int) -> Window:
        """The window with `margin` more pixels on every side."""
        return Window(self.y0 - margin, self.x0 - margin, self.height + 2 * margin, self.width + 2 * margin)

    def moved(self, y: int, x: int) -> Window:
        """The window somewhere else."""
        return Window(self.y0 + y, self.x0 + x, self.height, self.width)

    def joined(self, other: Window) -> Window:
        """The smallest window that holds both."""
        y0, x0 = min(self.y0, other.y0), min(self.x0, other.x0)
        y1, x1 = max(self.y0 + self.height, other.y0 + other.height), max(self.x0 + self.width, other.x0 + other.width)
        return Window(y0, x0, y1 - y0, x1 - x0)

    def holds(self, yx_px: NDArray) -> NDArray[np.bool_]:
        """(N,) whether positions (N, 2) lie in the window."""
        y, x = yx_px[:, 0] - self.y0, yx_px[:, 1] - self.x0
        return (y >= 0) & (y < self.height) & (x >= 0) & (x < self.width)

    def within(self, shape: tuple[int, int]) -> Window:
        """The part of the window inside a grid of `shape`."""
        y0, x0 = max(self.y0, 0), max(self.x0, 0)
        return Window(y0, x0, min(self.y0 + self.height, shape[0]) - y0, min(self.x0 + self.width, shape[1]) - x0)

    def of(self, raster: NDArray) -> NDArray:
        """View of an (H, W) raster, of which the window is a part."""
        return raster[self.y0 : self.y0 + self.height, self.x0 : self.x0 + self.width]

    def cut(self, raster: NDArray, fill: float = 0) -> NDArray:
        """The part of an (H, W) raster inside the window; `fill` beyond the raster."""
        height, width = raster.shape
        out = np.full((self.height, self.width), fill, raster.dtype)
        y1, x1 = max(self.y0, 0), max(self.x0, 0)
        y2, x2 = min(self.y0 + self.height, height), min(self.x0 + self.width, width)
        if y2 > y1 and x2 > x1:
            out[y1 - self.y0 : y2 - self.y0, x1 - self.x0 : x2 - self.x0] = raster[y1:y2, x1:x2]
        return out


def tiles(shape: tuple[int, int], side: int) -> Iterator[Window]:
    """Windows of at most `side` pixels that cover `shape` without overlap, row by row."""
    for y0 in range(0, shape[0], side):
        for x0 in range(0, shape[1], side):
            yield Window(y0, x0, min(side, shape[0] - y0), min(side, shape[1] - x0))


class MoleculeIndex:
    """Molecules sorted once by tile, so that those of a window lie in a few slices.

    Sorting copies them into working files where they are many, so that a window reads its own part of the disk and no other.

    Parameters
    ----------
    molecules
        N molecules in any order.
    shape
        (H, W) of the grid.
    """

    def __init__(self, molecules: Molecules, shape: tuple[int, int]) -> None:
        self._n_x = -(-shape[1] // _TILE_PX)
        self._n_y = -(-shape[0] // _TILE_PX)
        n = len(molecules)
        yx, gene = molecules.yx_px, molecules.gene

        def tile(rows: slice) -> NDArray[np.int64]:
            place = (yx[rows] // _TILE_PX).astype(np.int64)
            return place[:, 0] * self._n_x + place[:, 1]

        buckets = Buckets(tile, n, self._n_x * self._n_y)
        self._starts = buckets.starts
        sorted_yx, sorted_gene = scratch_zeros((n, 2), np.float32), scratch_zeros(n, np.int32)
        #: (N,) place of each of the given molecules in :attr:`molecules`
        self.place = scratch_zeros(n, np.int32 if n < 2**31 else np.int64)
        for rows, place in buckets.places():
            sorted_yx[place], sorted_gene[place], self.place[rows] = yx[rows], gene[rows], place
            release(yx, gene, sorted_yx, sorted_gene, self.place)
        #: the molecules in the order of their tiles
        self.molecules = Molecules(sorted_yx, sorted_gene, molecules.gene_names)

    @property
    def tile_px(self) -> int:
        """Side of the tiles."""
        return _TILE_PX

    def densities(self) -> NDArray[np.float64]:
        """(tiles down, tiles across) molecules per pixel."""
        return np.diff(self._starts)[: self._n_y * self._n_x].reshape(self._n_y, self._n_x) / _TILE_PX**2

    def inside(self, window: Window) -> NDArray[np.int64]:
        """Indices into :attr:`molecules` of those in `window`, in tile order."""
        ty0, ty1 = max(window.y0 // _TILE_PX, 0), min((window.y0 + window.height - 1) // _TILE_PX, self._n_y - 1)
        tx0, tx1 = max(window.x0 // _TILE_PX, 0), min((window.x0 + window.width - 1) // _TILE_PX, self._n_x - 1)
        if ty1 < ty0 or tx1 < tx0:
            return np.zeros(0, np.int64)
        spans = [(self._starts[t * self._n_x + tx0], self._starts[t * self._n_x + tx1 + 1]) for t in range(ty0, ty1 + 1)]
        found = np.concatenate([np.arange(start, stop) for start, stop in spans])
        yx = np.concatenate([self.molecules.yx_px[start:stop] for start, stop in spans])
        return found[window.holds(yx)]

    def as_given(self, values: NDArray) -> NDArray:
        """Values by molecule of :attr:`molecules`, in the order in which the molecules were given."""
        out = scratch_zeros(values.shape, values.dtype)
        for rows in parts(len(values)):
            out[rows] = values[self.place[rows]]
            release(out, values, self.place)
        return out
