"""Whether a loss has settled."""

from __future__ import annotations

import math
from collections.abc import Sequence

#: steps whose mean losses are compared; one step sees one patch, and patches differ more than the loss falls
WINDOW = 20


def has_settled(losses: Sequence[float], least_fall: float, *, window: int) -> bool:
    """Whether the mean of the last `window` losses lies less than `least_fall` below the mean of as many before them.

    Fewer losses, losses that are not numbers and a fall of 0 settle nothing.

    Examples
    --------
    >>> from sjg.training._settling import has_settled
    >>> has_settled([3.0, 3.0, 2.0, 2.0], 0.1, window=2)
    False
    >>> has_settled([3.0, 3.0, 2.0, 2.0, 2.0, 1.95], 0.1, window=2)
    True
    """
    if len(losses) < 2 * window or least_fall <= 0:
        return False
    return (sum(losses[-2 * window : -window]) - sum(losses[-window:])) / window < least_fall


def mean_of_numbers(values: Sequence[float]) -> float:
    """Mean of the values that are numbers; NaN where none is."""
    known = [v for v in values if not math.isnan(v)]
    return sum(known) / len(known) if known else float("nan")
