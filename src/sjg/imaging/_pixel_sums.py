"""Statistics of pixels that come in batches."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: pixels that are worked on in float64 at a time
_BATCH = 1 << 18


class Moments:
    """Mean and scatter of vectors; merged batch by batch (Chan, Golub & LeVeque 1983), so that no digits are lost."""

    def __init__(self, size: int) -> None:
        self.count = 0
        self.mean = np.zeros(size)
        self.scatter = np.zeros((size, size))

    def add(self, values: NDArray[Any]) -> None:
        """Take in (size, n) vectors."""
        for start in range(0, values.shape[1], _BATCH):
            batch = values[:, start : start + _BATCH].astype(np.float64)
            n = batch.shape[1]
            mean = batch.mean(axis=1)
            batch -= mean[:, None]
            delta = mean - self.mean
            total = self.count + n
            self.scatter += batch @ batch.T + np.outer(delta, delta) * (self.count * n / total)
            self.mean += delta * (n / total)
            self.count = total

    @property
    def deviation(self) -> NDArray[np.float64]:
        """(size,) standard deviations."""
        deviation: NDArray[np.float64] = np.sqrt(np.diag(self.scatter) / max(1, self.count))
        return deviation


class LabelSums:
    """Pixels, and sum of each channel, of labels 1..n."""

    def __init__(self, n_labels: int, n_channels: int) -> None:
        self.size = np.zeros(n_labels + 1)
        self.sums = np.zeros((n_channels, n_labels + 1))

    def add(self, channel: int, ids: NDArray[Any], values: NDArray[Any]) -> None:
        """Take in the pixels of a channel; those of the first are counted."""
        length = len(self.size)
        self.sums[channel] += np.bincount(ids, values, minlength=length)
        if channel == 0:
            self.size += np.bincount(ids, minlength=length)

    @property
    def means(self) -> NDArray[np.float64]:
        """(n, channels), NaN without pixels."""
        with np.errstate(invalid="ignore"):
            means: NDArray[np.float64] = (self.sums[:, 1:] / self.size[1:]).T
        return means
