"""Whether probabilities mean what they say."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjg.core import InputError


class Reliability(NamedTuple):
    """A reliability diagram; see :func:`reliability`."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    n: NDArray[np.int64]


def reliability(confidence: ArrayLike, correct: ArrayLike, *, n_bins: int = 10) -> Reliability:
    """Mean confidence beside the share that is right, in bins of confidence.

    Parameters
    ----------
    confidence
        (N,) probabilities that the decisions are right, in [0, 1].
    correct
        (N,) bool, whether they are.
    n_bins
        Bins of equal width; one holds its upper edge, the first its lower edge too.

    Returns
    -------
    Mean confidence, share right (NaN for an empty bin) and number of decisions, each (n_bins,).

    Raises
    ------
    InputError
        Lengths differ, a confidence lies outside [0, 1], `correct` is not bool, or there is no bin.

    References
    ----------
    The reliability diagram of DeGroot and Fienberg (1983), Journal of the Royal Statistical Society D 32:12.

    Examples
    --------
    >>> reliability([0.25, 0.5, 0.75, 1.0], [True, False, True, True], n_bins=2)
    Reliability(confidence=array([0.375, 0.875]), accuracy=array([0.5, 1. ]), n=array([2, 2]))
    """
    values, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if values.ndim != 1 or values.shape != right.shape or (right.dtype != np.bool_ and right.size):
        msg = f"confidence and correct must be (N,), the second bool, got shapes {values.shape} and {right.shape} ({right.dtype})"
        raise InputError(msg)
    if not ((values >= 0) & (values <= 1)).all():
        msg = "confidence must lie in [0, 1]"
        raise InputError(msg)
    if isinstance(n_bins, bool) or not isinstance(n_bins, int | np.integer) or n_bins < 1:
        msg = f"n_bins={n_bins!r} must be a whole number of at least 1"
        raise InputError(msg)
    index = np.searchsorted(np.linspace(0, 1, n_bins + 1)[1:-1], values, side="left")
    count = np.bincount(index, minlength=n_bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(index, weights, n_bins) / count for weights in (values, right.astype(np.float64))]
    return Reliability(means[0], means[1], count)


def calibration_error(confidence: ArrayLike, correct: ArrayLike, *, n_bins: int = 10) -> float:
    """Expected calibration error: the gap between mean confidence and share right in a bin, averaged over all decisions.

    0 is perfect; a method that is 90 % sure and 70 % right has 0.2.

    Parameters
    ----------
    confidence, correct, n_bins
        See :func:`reliability`.

    Returns
    -------
    A number in [0, 1]; NaN where there is no decision.

    Raises
    ------
    InputError
        See :func:`reliability`.

    References
    ----------
    Naeini, Cooper and Hauskrecht (2015), AAAI; Guo et al. (2017), On calibration of modern neural networks, ICML, equation 3.

    Examples
    --------
    Two decisions of mean confidence 0.375, half of them right; two of 0.875, all right: (2 x 0.125 + 2 x 0.125) / 4.

    >>> calibration_error([0.25, 0.5, 0.75, 1.0], [True, False, True, True], n_bins=2)
    0.125
    """
    bins = reliability(confidence, correct, n_bins=n_bins)
    total = int(bins.n.sum())
    if total == 0:
        return float("nan")
    filled = bins.n > 0
    gap = np.abs(bins.confidence[filled] - bins.accuracy[filled])
    return float((gap * bins.n[filled]).sum() / total)
