"""Masks, transcripts and types of a segmentation beside the truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from sjg._keys import confidence_column
from sjg.access import annotating_tables, molecule_column
from sjg.metrics import InstanceMatches, calibration_error, matched_instances, right_transcripts, transcript_assignment, transcript_jaccard
from sjg.tl._aggregate import original_ids, read_id_column

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sjg.access import LabelledMolecules
    from sjg.core import Grid


@dataclass(frozen=True)
class Masks:
    """Labels 1..n on a grid, and the id of each in its element."""

    grid: Grid
    labels: NDArray[np.int32]
    source_ids: NDArray[np.int64]


def matched_masks(truth: Masks, labels: Masks) -> InstanceMatches:
    """One-to-one pairs with the largest summed IoU, by the ids of the elements."""
    pairs = matched_instances(truth.labels, labels.labels, iou=0)
    return InstanceMatches(truth.source_ids[pairs.truth_id - 1], labels.source_ids[pairs.label_id - 1], pairs.iou)


def true_cells(sdata: SpatialData, points_key: str, true_cell_key: str, truth: LabelledMolecules) -> NDArray[np.int64]:
    """(N,) id of the true cell of each molecule on the raster of the truth, 0 = none."""
    if true_cell_key in sdata.points[points_key].columns:
        return read_id_column(sdata, points_key, true_cell_key)[truth.report.row]
    return original_ids(truth)


def confidences(sdata: SpatialData, labels_key: str, points_key: str, truth: LabelledMolecules) -> NDArray[np.float64] | None:
    """(N,) posterior that a run wrote for each molecule on the raster of the truth; None where there is none."""
    points, column = sdata.points[points_key], confidence_column(labels_key.removesuffix("_cells"))
    if column not in points.columns:
        return None
    parts = [points[column].get_partition(index).compute().to_numpy(np.float64) for index in range(points.npartitions)]
    return np.concatenate(parts)[truth.report.row]


def transcript_scores(
    true_cell: NDArray[np.int64],
    truth: LabelledMolecules,
    counted: LabelledMolecules,
    assigned: Mapping[str, NDArray[np.int32]],
    matching: Literal["optimal", "id"] | InstanceMatches,
    confidence: NDArray[np.float64] | None = None,
) -> dict[str, float]:
    """Shares of transcripts in their right cell, for each way in which the cells were assigned, and how far the posterior is to be trusted."""
    scores: dict[str, float] = {}
    for suffix, cell in assigned.items():
        # through the rows of the points: the rasters of truth and labels may differ
        of_all = molecule_column(counted.report.row, original_ids(replace(counted, cell=cell)), counted.report.n_total)
        found = of_all[truth.report.row]
        shares = transcript_assignment(true_cell, found, matching=matching)
        scores |= {f"transcript_{name}{suffix}": value for name, value in shares._asdict().items()}
        scores[f"transcript_jaccard{suffix}"] = transcript_jaccard(true_cell, found, matching=matching)
        if confidence is not None and suffix == "_posterior":
            scores["calibration_error_posterior"] = calibration_error(confidence, right_transcripts(true_cell, found, matching=matching))
    return scores


def has_types(sdata: SpatialData, key: str, cell_type_key: str, table_key: str | None) -> bool:
    """Whether there are types to compare; a table that was named must have them."""
    return table_key is not None or any(cell_type_key in table.obs for table in annotating_tables(sdata, key).values())


def type_accuracy(
    truth: tuple[tuple[str, ...], NDArray[np.int32]],
    labels: tuple[tuple[str, ...], NDArray[np.int32]],
    truth_index: NDArray[np.intp],
    label_index: NDArray[np.intp],
) -> float:
    """Share of true cells with a type whose match has the same."""
    # the code of a missing type, -1, is the last entry
    truth_names = np.array([*truth[0], None], dtype=object)[truth[1]]
    label_names = np.array([*labels[0], None], dtype=object)[labels[1]]
    has_type = truth[1] >= 0
    right = (truth_names[truth_index] == label_names[label_index]) & has_type[truth_index]
    return float(right.sum() / has_type.sum())
