"""Patch by patch over an image: segment what is informative, then stitch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sjg.imaging._layout import Box, PatchLayout
from sjg.imaging._segmenters import Segmenter
from sjg.imaging._stitch import Stitcher


class Results(Protocol):
    """Where the labels of patches wait, see :class:`MemoryResults`."""

    def __contains__(self, index: int) -> bool: ...
    def save(self, index: int, labels: Mapping[str, NDArray[np.int32]]) -> None: ...
    def load(self, index: int) -> dict[str, NDArray[np.int32]]: ...


@dataclass(frozen=True)
class PatchRun:
    """Patches of an image and what segments them.

    Parameters
    ----------
    layout
        The patches.
    informative
        (number of patches,) the others are skipped.
    read
        Returns the (channel, y, x) pixels of a box.
    segmenter
        What turns windows into labels.
    n_channels, itemsize
        Channels that are read and bytes of a pixel, to size the batches.
    max_memory_gb
        Memory that a batch may take.
    """

    layout: PatchLayout
    informative: NDArray[np.bool_]
    read: Callable[[Box], NDArray[Any]]
    segmenter: Segmenter
    n_channels: int
    itemsize: int
    max_memory_gb: float = 2.0

    def window(self, index: int) -> Box:
        """A patch with the margin that its objects need."""
        return self.layout.box(index).grown(self.segmenter.halo_px, self.layout.shape, grain_px=self.segmenter.grain_px)

    @property
    def batch_size(self) -> int:
        """How many windows are worked on at a time."""
        shapes = [self.window(index).shape for index in np.flatnonzero(self.informative).tolist()]
        sizes = [height * width for height, width in shapes]
        if not sizes:
            return 1
        each = max(sizes) * (self.n_channels * self.itemsize + self.segmenter.bytes_per_px)
        return max(1, int(self.max_memory_gb * 1e9 // each))

    def segment(self, results: Results, *, report: Callable[[int, int], None] | None = None) -> int:
        """Segment the informative patches that `results` lacks; `report` is told (patches done, patches in all).

        Returns
        -------
        How many patches were segmented now.
        """
        wanted = np.flatnonzero(self.informative).tolist()
        todo = [index for index in wanted if index not in results]
        done = len(wanted) - len(todo)
        size = self.batch_size
        for start in range(0, len(todo), size):
            batch = todo[start : start + size]
            for index, labels in zip(batch, self.segmenter([self.read(self.window(index)) for index in batch]), strict=True):
                results.save(index, labels)
            done += len(batch)
            if report is not None:
                report(done, len(wanted))
        return len(todo)

    def stitch(self, results: Results, out: Mapping[str, Any]) -> tuple[int, int]:
        """Write the labels of the whole image into `out`.

        Returns
        -------
        Largest id written, and how many objects reach beyond the margin of their patch.
        """
        groups = [list(out)] if self.segmenter.joint else [[name] for name in out]
        beyond, largest = 0, 0
        for names in groups:
            stitcher = Stitcher(self.layout, self.informative, {name: out[name] for name in names})
            indices = np.flatnonzero(self.informative).tolist()
            for late in (False, True):
                for index in indices:
                    loaded = results.load(index)
                    labels = {name: loaded[name] for name in names}
                    if late:
                        stitcher.fill_gaps(index, self.window(index), labels, slack_px=self.segmenter.halo_px / 2)
                    else:
                        stitcher.add(index, self.window(index), labels)
            beyond += stitcher.n_beyond
            largest = max(largest, stitcher.n_objects)
        return largest, beyond
