"""Smoothing of outlines by majority vote."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError

Labels = NDArray[np.integer]

#: rows voted on together, which bounds the memory
_STRIP_ROWS = 512


def smooth_outlines(labels: Labels, *, n_rounds: int = 2) -> Labels:
    """Give each pixel the label that most of its 3 x 3 neighbourhood has, background included.

    A pixel keeps its label where no other label alone has the most votes, so that no id is favoured. Beyond the border the nearest
    pixel votes once more.

    Parameters
    ----------
    labels
        (H, W) integer ids, 0 = background.
    n_rounds
        Number of votes one after the other.

    Returns
    -------
    (H, W) labels of the same dtype.

    Raises
    ------
    InputError
        `labels` is no (H, W) integer raster, or `n_rounds` is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import smooth_outlines
    >>> spike = np.zeros((5, 6), int)
    >>> spike[1:4, :3] = 1
    >>> spike[2, 3:5] = 1
    >>> smooth_outlines(spike)[2]
    array([1, 1, 1, 0, 0, 0])
    """
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise InputError(f"labels are {labels.dtype} of shape {labels.shape}; give an integer (H, W) raster.")
    if n_rounds < 0:
        raise InputError(f"n_rounds is {n_rounds}; give a whole number >= 0.")
    if labels.size == 0:
        return labels.copy()
    for _ in range(n_rounds):
        padded = np.pad(labels, 1, mode="edge")
        strips = [_vote(padded[top : top + _STRIP_ROWS + 2]) for top in range(0, labels.shape[0], _STRIP_ROWS)]
        labels = np.concatenate(strips)
    return labels


def _vote(padded: Labels) -> Labels:
    """One vote over a strip with a margin of one pixel."""
    height, width = padded.shape[0] - 2, padded.shape[1] - 2
    votes = np.stack([padded[dy : dy + height, dx : dx + width] for dy in range(3) for dx in range(3)])
    own = votes[4].copy()
    votes.sort(axis=0)
    run = np.ones(own.shape, np.int8)
    most, runner_up, best = np.zeros_like(run), np.zeros_like(run), own.copy()
    for k in range(len(votes)):
        if k:
            run = np.where(votes[k] == votes[k - 1], run + 1, 1).astype(np.int8)
        same = votes[k] == best
        ahead = (run > most) | (same & (most > 0))
        # A longer run of another label sends the one that led to second place.
        runner_up = np.where((run > most) & ~same, most, np.where(~same, np.maximum(runner_up, run), runner_up))
        best = np.where(run > most, votes[k], best)
        most = np.where(ahead, np.maximum(most, run), most)
    return np.where(most > runner_up, best, own).astype(padded.dtype)
