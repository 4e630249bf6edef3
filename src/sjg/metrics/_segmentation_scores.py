"""All scores of one label image against the truth, from one pass over the pixels."""

from __future__ import annotations

from collections.abc import Sequence

from numpy.typing import ArrayLike

from sjg.metrics._aggregated_jaccard import aggregated
from sjg.metrics._instances import f1, mean_iou, panoptic
from sjg.metrics._overlap import label_overlap


def segmentation_scores(truth: ArrayLike, labels: ArrayLike, *, iou: Sequence[float] = (0.5, 0.75, 0.9)) -> dict[str, float]:
    """F1 at each threshold, panoptic quality, aggregated Jaccard index and mean IoU.

    The pixels are looked at once; each value equals that of the function of its own.

    Parameters
    ----------
    truth, labels
        Integer label images of one shape, 0 = background.
    iou
        Thresholds of the F1 scores.

    Returns
    -------
    ``f1_at_iou_<threshold>`` for each threshold, ``panoptic_quality``, ``aggregated_jaccard`` and ``mean_iou``.

    Raises
    ------
    InputError
        Shapes differ, ids are no non-negative integers, or a threshold lies outside [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> segmentation_scores(np.array([[1, 1, 1, 1, 0]]), np.array([[5, 5, 5, 0, 0]]), iou=[0.5, 0.9])
    {'f1_at_iou_0.5': 1.0, 'f1_at_iou_0.9': 0.0, 'panoptic_quality': 0.75, 'aggregated_jaccard': 0.75, 'mean_iou': 0.75}
    """
    overlap = label_overlap(truth, labels)
    scores = {f"f1_at_iou_{threshold:g}": f1(overlap, threshold) for threshold in iou}
    scores["panoptic_quality"] = panoptic(overlap)
    scores["aggregated_jaccard"] = aggregated(overlap)
    scores["mean_iou"] = mean_iou(overlap, "best")
    return scores
