"""The store of dynamic labels: what each pixel of the tissue is believed to be."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjg.core import release, scratch_zeros

UNKNOWN = -1
#: room for "never predicted" (0) below unknown, so that a fresh file needs no writing
_SHIFT = 2


class DynamicLabels:
    """Instance of each pixel, 0 = background, :data:`UNKNOWN` = not known; fixed inside nuclei.

    Memory-mapped where the tissue is large. Training visits a sample of the pixels, so what it has learned is small: that alone goes
    into checkpoints and between processes.

    Parameters
    ----------
    nuclei_labels
        (H, W) int32, 0 = no nucleus.
    """

    def __init__(self, nuclei_labels: NDArray[np.int32]) -> None:
        self._nuclei = nuclei_labels
        self._code = scratch_zeros(nuclei_labels.shape, np.int32)
        self._visited = np.zeros(0, np.int64)
        self._recent: list[NDArray[np.int64]] = []
        self._n_known = sum(int(np.count_nonzero(row)) for row in nuclei_labels)
        release(nuclei_labels)

    def read(self, flat: NDArray[np.int64]) -> NDArray[np.int32]:
        """(P,) labels of the pixels of flat index `flat`."""
        y, x = np.divmod(flat, self._code.shape[1])
        nucleus, code = self._nuclei[y, x], self._code[y, x]
        return np.where(nucleus > 0, nucleus, np.where(code == 0, UNKNOWN, code - _SHIFT)).astype(np.int32)

    def write(self, flat: NDArray[np.int64], label: NDArray[np.integer]) -> None:
        """Set pixels outside nuclei; of a pixel that is named twice the last label stands."""
        flat, last = np.unique(flat[::-1], return_index=True)
        label = label[::-1][last]
        y, x = np.divmod(flat, self._code.shape[1])
        self._n_known += int((label != UNKNOWN).sum()) - int((self._code[y, x] >= _SHIFT).sum())
        self._code[y, x] = label + _SHIFT
        self._recent.append(flat)

    @property
    def known_fraction(self) -> float:
        """Fraction of all pixels that are known."""
        return self._n_known / max(self._code.size, 1)

    def visited(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Flat index and label of every pixel ever written: all that a checkpoint needs."""
        if self._recent:
            self._visited = np.unique(np.concatenate([self._visited, *self._recent]))
            self._recent = []
        return self._visited, self.read(self._visited)

    def restore(self, flat: NDArray[np.int64], label: NDArray[np.int32]) -> None:
        """Take up what :meth:`visited` gave, in a store that has not been written."""
        self.write(flat, label)

    def release(self) -> None:
        """Give back the memory in which parts of the file are held."""
        release(self._code)
