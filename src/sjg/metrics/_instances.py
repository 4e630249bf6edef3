"""Agreement of two label images, instance by instance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from sjg.core import InputError
from sjg.metrics._overlap import Overlap, label_overlap
from sjg.metrics._pairing import optimal_pairs


@dataclass(frozen=True)
class InstanceMatches:
    """One-to-one pairs of true and predicted instances, by ascending true id.

    Parameters
    ----------
    truth_id, label_id
        (k,) ids of the two sides of each pair.
    iou
        (k,) intersection over union.
    """

    truth_id: NDArray[Any]
    label_id: NDArray[Any]
    iou: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.iou)


def matched_instances(truth: ArrayLike, labels: ArrayLike, *, iou: float = 0.5) -> InstanceMatches:
    """Pair true with predicted instances, one to one, so that the summed IoU of the pairs is largest.

    Parameters
    ----------
    truth, labels
        Integer label images of one shape, 0 = background; ids need not be contiguous.
    iou
        Least IoU of a pair, in [0, 1]; pairs that share no pixel never match. Above 0.5 the pairing is unique.

    Returns
    -------
    The table of pairs.

    Raises
    ------
    InputError
        Shapes differ, ids are no non-negative integers, or `iou` lies outside [0, 1].

    References
    ----------
    Linear assignment: Kuhn (1955), Naval Research Logistics Quarterly 2:83.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 1, 2, 2, 0]])
    >>> labels = np.array([[9, 9, 0, 4, 4, 4]])
    >>> pairs = matched_instances(truth, labels)
    >>> pairs.truth_id, pairs.label_id, pairs.iou.round(3)
    (array([1, 2]), array([9, 4]), array([0.667, 0.667]))
    """
    return pair_instances(label_overlap(truth, labels), iou)


def f1_at_iou(truth: ArrayLike, labels: ArrayLike, *, iou: float = 0.5) -> float:
    """F1 score of detected instances, ``2 TP / (2 TP + FP + FN)``.

    TP is the largest number of one-to-one pairs whose IoU is at least `iou`; FP and FN are the predicted and true instances left.
    Symmetric in its two arguments. For several thresholds at once use :func:`segmentation_scores`.

    Parameters
    ----------
    truth, labels
        Integer label images of one shape, 0 = background.
    iou
        Threshold in [0, 1], inclusive.

    Returns
    -------
    A number in [0, 1]; NaN where neither image holds an instance.

    Raises
    ------
    InputError
        Shapes differ, ids are no non-negative integers, or `iou` lies outside [0, 1].

    References
    ----------
    Caicedo et al. (2019), Nature Methods 16:1247 (object-level F1); Weigert et al. (2020), WACV (StarDist).

    Examples
    --------
    One of two cells found (IoU 3/4), one missed, nothing invented: 2 / (2 + 0 + 1).

    >>> import numpy as np
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2]])
    >>> labels = np.array([[5, 5, 5, 0, 0, 0, 0]])
    >>> round(f1_at_iou(truth, labels, iou=0.75), 3), f1_at_iou(truth, labels, iou=0.8)
    (0.667, 0.0)
    """
    return f1(label_overlap(truth, labels), iou)


def panoptic_quality(truth: ArrayLike, labels: ArrayLike) -> float:
    """Panoptic quality of one class: summed IoU of the pairs with IoU > 0.5, over ``TP + FP / 2 + FN / 2``.

    Equals segmentation quality (mean IoU of the pairs) times recognition quality (their F1). Pairs above 0.5 are unique.

    Parameters
    ----------
    truth, labels
        Integer label images of one shape, 0 = background.

    Returns
    -------
    A number in [0, 1]; NaN where neither image holds an instance.

    Raises
    ------
    InputError
        Shapes differ or ids are no non-negative integers.

    References
    ----------
    Kirillov et al. (2019), Panoptic Segmentation, CVPR, equation 1.

    Examples
    --------
    One pair with IoU 3/4 and one missed cell: 0.75 / (1 + 1/2).

    >>> import numpy as np
    >>> panoptic_quality(np.array([[1, 1, 1, 1, 0, 2, 2]]), np.array([[5, 5, 5, 0, 0, 0, 0]]))
    0.5
    """
    return panoptic(label_overlap(truth, labels))


def instance_iou(truth: ArrayLike, labels: ArrayLike, *, matching: Literal["best", "id"] = "best") -> float:
    """Mean IoU over the true instances; a true instance that nothing overlaps counts 0.

    Parameters
    ----------
    truth, labels
        Integer label images of one shape, 0 = background.
    matching
        ``"best"``: each true instance takes the predicted one with the largest IoU (a predicted one may serve two; spurious
        predictions go unpunished, so read it beside :func:`f1_at_iou`). ``"id"``: the predicted instance with the same id,
        for labels that share their ids with the truth.

    Returns
    -------
    A number in [0, 1]; NaN where there is no true instance.

    Raises
    ------
    InputError
        Shapes differ, ids are no non-negative integers, or `matching` is unknown.

    References
    ----------
    The best-overlap average of Arbelaez et al. (2011), IEEE TPAMI 33:898 ("covering"), unweighted.

    Examples
    --------
    >>> import numpy as np
    >>> truth = np.array([[1, 1, 1, 1, 0, 2, 2]])
    >>> labels = np.array([[2, 2, 2, 0, 0, 0, 0]])
    >>> instance_iou(truth, labels), instance_iou(truth, labels, matching="id")
    (0.375, 0.0)
    """
    return mean_iou(label_overlap(truth, labels), matching)


def pair_instances(overlap: Overlap, iou: float) -> InstanceMatches:
    """:func:`matched_instances` from the overlap table."""
    _check_threshold(iou)
    values = overlap.iou
    near = np.flatnonzero(values >= iou)
    pairs = near[optimal_pairs(overlap.truth_index[near], overlap.label_index[near], values[near])]
    return InstanceMatches(overlap.truth_id[overlap.truth_index[pairs]], overlap.label_id[overlap.label_index[pairs]], values[pairs])


def f1(overlap: Overlap, iou: float) -> float:
    """:func:`f1_at_iou` from the overlap table."""
    _check_threshold(iou)
    n_truth, n_labels = len(overlap.truth_id), len(overlap.label_id)
    if n_truth + n_labels == 0:
        return float("nan")
    near = overlap.iou >= iou
    if not near.any():
        return 0.0
    row, column = overlap.truth_index[near], overlap.label_index[near]
    graph = csr_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(n_truth, n_labels))
    # the largest number of pairs does not depend on which of several largest matchings is found
    n_pairs = int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())
    return 2 * n_pairs / (n_truth + n_labels)


def panoptic(overlap: Overlap) -> float:
    """:func:`panoptic_quality` from the overlap table."""
    n_instances = len(overlap.truth_id) + len(overlap.label_id)
    values = overlap.iou
    return 2 * float(values[values > 0.5].sum()) / n_instances if n_instances else float("nan")


def mean_iou(overlap: Overlap, matching: str) -> float:
    """:func:`instance_iou` from the overlap table."""
    if matching not in ("best", "id"):
        msg = f"matching={matching!r} is unknown; choose 'best' or 'id'"
        raise InputError(msg)
    if not len(overlap.truth_id):
        return float("nan")
    values = overlap.iou
    if matching == "id":
        values = np.where(overlap.truth_id[overlap.truth_index] == overlap.label_id[overlap.label_index], values, 0.0)
    best = np.zeros(len(overlap.truth_id))
    np.maximum.at(best, overlap.truth_index, values)
    return float(best.mean())


def _check_threshold(iou: float) -> None:
    if not 0 <= iou <= 1:
        msg = f"iou={iou} must lie in [0, 1]"
        raise InputError(msg)
