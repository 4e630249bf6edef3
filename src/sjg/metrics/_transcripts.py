"""Agreement of two assignments of transcripts to cells."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjg.core import InputError
from sjg.metrics._instances import InstanceMatches
from sjg.metrics._overlap import Overlap, label_overlap
from sjg.metrics._pairing import optimal_pairs

#: how true cells find their predicted cell
CellMatching = Literal["optimal", "id"] | InstanceMatches


class TranscriptAssignment(NamedTuple):
    """Shares of transcripts that are assigned rightly; see :func:`transcript_assignment`."""

    accuracy: float
    precision: float
    recall: float


def transcript_assignment(true_cell: ArrayLike, cell: ArrayLike, *, matching: CellMatching = "optimal") -> TranscriptAssignment:
    """Share of transcripts that lie in the right cell.

    A transcript is right in a cell if its predicted cell is the match of its true cell, and rightly outside if both are 0.

    - accuracy: right (in a cell or outside) over all transcripts
    - precision: right in a cell over all assigned to some cell
    - recall: right in a cell over all that truly lie in some cell

    Parameters
    ----------
    true_cell, cell
        (N,) integer ids of the true and the predicted cell of each transcript, 0 = none.
    matching
        ``"optimal"``: one-to-one between true and predicted cells, such that as many transcripts as possible are right (ids are
        free, a cell cut in two is right in one part only). ``"id"``: cells with the same id belong together, as where both
        started from the same nuclei; stricter. Or the pairs that :func:`matched_instances` found on the masks.

    Returns
    -------
    accuracy, precision and recall in [0, 1]; NaN where the denominator is 0.

    Raises
    ------
    InputError
        Lengths differ, ids are no non-negative integers, or `matching` is unknown.

    References
    ----------
    Clustering accuracy under the best one-to-one map: Kuhn (1955), Naval Research Logistics Quarterly 2:83.

    Examples
    --------
    Cell 1 matches 7 (2 shared) and cell 2 matches 8; 3 of 5 right in a cell and 1 rightly outside.

    >>> transcript_assignment([1, 1, 1, 2, 0, 2], [7, 7, 8, 8, 0, 0])
    TranscriptAssignment(accuracy=0.6666666666666666, precision=0.75, recall=0.6)
    >>> transcript_assignment([1, 1, 1, 2, 0, 2], [7, 7, 8, 8, 0, 0], matching="id").recall
    0.0
    """
    overlap = label_overlap(np.asarray(true_cell), np.asarray(cell))
    right = int(overlap.shared[_matching_pairs(overlap, matching, overlap.shared)].sum())
    return TranscriptAssignment(
        accuracy=_ratio(right + overlap.n_background, overlap.n_elements),
        precision=_ratio(right, int(overlap.label_size.sum())),
        recall=_ratio(right, int(overlap.truth_size.sum())),
    )


def right_transcripts(true_cell: ArrayLike, cell: ArrayLike, *, matching: CellMatching = "optimal") -> NDArray[np.bool_]:
    """Which transcripts are right, in a cell or outside; their share is the accuracy of :func:`transcript_assignment`.

    Parameters
    ----------
    true_cell, cell, matching
        See :func:`transcript_assignment`.

    Returns
    -------
    (N,) bool.

    Raises
    ------
    InputError
        See :func:`transcript_assignment`.

    Examples
    --------
    >>> right_transcripts([1, 1, 1, 2, 0, 2], [7, 7, 8, 8, 0, 0])
    array([ True,  True, False,  True,  True, False])
    """
    first, second = np.asarray(true_cell), np.asarray(cell)
    overlap = label_overlap(first, second)
    chosen = _matching_pairs(overlap, matching, overlap.shared)
    partner = np.full(len(overlap.label_id), -1, dtype=np.int64)
    partner[overlap.label_index[chosen]] = overlap.truth_id[overlap.truth_index[chosen]]
    right = (first == 0) & (second == 0)
    inside = second > 0
    right[inside] = partner[np.searchsorted(overlap.label_id, second[inside])] == first[inside]
    return right


def transcript_jaccard(true_cell: ArrayLike, cell: ArrayLike, *, matching: CellMatching = "optimal") -> float:
    """Mean over true cells of the Jaccard index between the transcripts of a cell and of its match; unmatched cells count 0.

    Parameters
    ----------
    true_cell, cell
        (N,) integer ids of the true and the predicted cell of each transcript, 0 = none.
    matching
        ``"optimal"``: one-to-one with the largest sum of Jaccard indices. ``"id"``: cells with the same id. Or the pairs that
        :func:`matched_instances` found on the masks.

    Returns
    -------
    A number in [0, 1]; NaN where no transcript lies in a true cell. True cells without any transcript cannot be seen here.

    Raises
    ------
    InputError
        Lengths differ, ids are no non-negative integers, or `matching` is unknown.

    References
    ----------
    The gene IoU of SegJointGene (Jaccard index of the transcripts of matched cells), with missed cells counted.

    Examples
    --------
    Cell 1 has 2 of 3 in common with 7, cell 2 has 1 of 2 in common with 8, cell 3 was missed.

    >>> round(transcript_jaccard([1, 1, 1, 2, 2, 3], [7, 7, 0, 8, 0, 0]), 4)
    0.3889
    """
    overlap = label_overlap(np.asarray(true_cell), np.asarray(cell))
    values = overlap.iou
    return _ratio(float(values[_matching_pairs(overlap, matching, values)].sum()), len(overlap.truth_id))


def _matching_pairs(
    overlap: Overlap, matching: str | InstanceMatches, weight: NDArray[np.floating] | NDArray[np.integer]
) -> NDArray[np.bool_]:
    """(k,) bool: which pairs of the overlap table belong together."""
    truth, label = overlap.truth_id[overlap.truth_index], overlap.label_id[overlap.label_index]
    if isinstance(matching, InstanceMatches):
        # matches are sorted by true id, each at most once
        position = np.searchsorted(matching.truth_id, truth)
        known = position < len(matching)
        known[known] = matching.truth_id[position[known]] == truth[known]
        known[known] = matching.label_id[position[known]] == label[known]
        return known
    if matching == "id":
        return np.asarray(truth == label)
    if matching == "optimal":
        return optimal_pairs(overlap.truth_index, overlap.label_index, weight)
    msg = f"matching={matching!r} is unknown; choose 'optimal', 'id' or the result of matched_instances"
    raise InputError(msg)


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
