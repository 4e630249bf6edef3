"""Quality of a segmentation, with and without truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from sjg.access import (
    CONTROL_PATTERN,
    choose_labels,
    choose_points,
    labels_grid,
    labels_pixel_size_um,
    molecules_in_labels,
    read_labels_on_grid,
    read_nuclei_types,
)
from sjg.core import InputError
from sjg.metrics import segmentation_scores
from sjg.tl._expression_reference import read_expression_reference
from sjg.tl._truth_free_scores import assignments, calling_scores, count_scores, mask_scores
from sjg.tl._truth_scores import Masks, confidences, has_types, matched_masks, transcript_scores, true_cells, type_accuracy

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

    from sjg.access import LabelledMolecules
    from sjg.core import Grid


def evaluate(
    sdata: SpatialData,
    labels_key: str,
    *,
    truth_key: str | None = None,
    points_key: str | None = None,
    reference: str | AnnData | pd.DataFrame | None = None,
    coordinate_system: str = "global",
    matching: Literal["optimal", "id", "overlap"] = "optimal",
    true_cell_key: str = "true_cell",
    cell_type_key: str = "cell_type",
    table_key: str | None = None,
    truth_table_key: str | None = None,
    purity_types: Literal["reference", "table"] = "reference",
    feature_key: str | None = None,
    min_qv: float | None = 20.0,
    control_pattern: str | None = CONTROL_PATTERN,
    pixel_size_um: float | None = None,
) -> pd.DataFrame:
    """Measure labels of any source.

    Parameters
    ----------
    sdata
        The object; nothing in it is changed.
    labels_key
        2-D integer labels, 0 = background; from sjg or from any other tool.
    truth_key
        Labels of the true cells. The labels are compared on the pixels of the truth, through the transformations of both.
    points_key
        The transcripts; may be left out where there is one points element, or none.
    reference
        For the purities: reference cells (AnnData with raw counts and ``obs[cell_type_key]``), class means (AnnData types x genes,
        DataFrame genes x types), or the key of such a table. Cells tell the share of each type that expresses a gene, so that
        the published limits apply; from means, negative markers are genes whose share of a type's transcripts is at most a
        twentieth of their largest (:func:`sjg.metrics.negative_markers`), and pure cells are Poisson with the depth of the
        segmentation.
    coordinate_system
        Where the elements are brought together.
    matching
        How cells find their true cell when transcripts are compared: one-to-one with the most transcripts right (``"optimal"``),
        by the same id (``"id"``, where both started from the same nuclei; stricter), or one-to-one with the largest summed IoU of
        the masks (``"overlap"``).
    true_cell_key
        Column of the points with the true cell of each transcript (0 = none); without it, the true cell is the truth label at
        its position.
    cell_type_key
        Column of the tables (and of reference cells) with the type.
    table_key, truth_table_key
        Tables of the labels and of the truth, where several that annotate them hold types.
    purity_types
        Type of a cell for the negative marker purity: the most likely type of the reference given its counts, the same rule for
        every segmentation (``"reference"``), or the one in the table of the labels (``"table"``).
    feature_key, min_qv, control_pattern
        Which transcripts are counted; see :func:`assign_transcripts`.
    pixel_size_um
        Side of a full-resolution pixel of the image, as in :func:`segment`; it is scaled to labels of another resolution. None
        takes what the run of the labels recorded, else deduces it from the transformations.

    Returns
    -------
    DataFrame with columns ``metric`` and ``value``. A value is NaN where its definition divides by nothing.

    Always: ``n_cells``, ``median_area_um2`` (``median_area_px2`` where no pixel size is known).

    With transcripts: ``fraction_assigned`` (of all that pass the filters), ``median_transcripts_per_cell``,
    ``median_genes_per_cell``, ``cell_calling_score_3px``, ``_5px``, ``_7px`` (grows with the masks: read it beside a purity).

    With transcripts and a reference: ``negative_marker_purity``, ``coexpression_rate``.

    With truth: ``f1_at_iou_0.5``, ``_0.75``, ``_0.9``, ``panoptic_quality``, ``aggregated_jaccard``, ``mean_iou``; with
    transcripts ``transcript_accuracy``, ``transcript_precision``, ``transcript_recall``, ``transcript_jaccard`` (over the
    transcripts on the raster of the truth); where tables of both hold types ``cell_type_accuracy``: the share of true cells whose
    match (one-to-one, largest summed IoU) has the same type, a cell without match being wrong.

    Where the labels are those of an sjg run, ``<prefix>_cells``, and the points have its ``<prefix>_cell_id``, every metric that
    depends on the assignment of transcripts comes a second time with the suffix ``_posterior``; without suffix it is by mask.
    With truth and ``<prefix>_confidence``, ``calibration_error_posterior`` says how far those confidences are from the shares
    that are right (:func:`sjg.metrics.calibration_error`).

    Raises
    ------
    MissingElementError, AmbiguousElementError
        No such element, or several and none chosen.
    InputError
        An element or the reference cannot be read, elements do not overlap, or an argument has no such value.

    See Also
    --------
    sjg.metrics : the definition and source of each metric.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=20)
    >>> scores = sjg.tl.evaluate(sdata, "cells", truth_key="cells", reference="reference").set_index("metric")["value"]
    >>> float(scores["mean_iou"]), float(scores["cell_type_accuracy"])
    (1.0, 1.0)
    """
    _check_choice("matching", matching, ("optimal", "id", "overlap"))
    _check_choice("purity_types", purity_types, ("reference", "table"))
    labels_key = choose_labels(sdata, labels_key)
    if truth_key is not None:
        truth_key = choose_labels(sdata, truth_key, argument="truth_key")
    if points_key is not None or sdata.points:
        points_key = choose_points(sdata, points_key)
    known = None if reference is None else read_expression_reference(reference, sdata, cell_type_key=cell_type_key)
    if known is not None and points_key is None:
        raise InputError("reference= needs transcripts, and the SpatialData object has no points; add them, or leave reference out.")

    filters = _Filters(coordinate_system, feature_key, min_qv, control_pattern)
    masks, counted = _read(sdata, labels_key, points_key, filters, pixel_size_um)
    scores: dict[str, float] = {}
    assigned = {} if counted is None or points_key is None else assignments(sdata, labels_key, points_key, counted)
    if truth_key is not None:
        truth, truth_counted = _read(sdata, truth_key, points_key, filters, None)
        on_truth = masks if _same_grid(masks.grid, truth.grid) else _resampled(sdata, labels_key, truth.grid, coordinate_system)
        scores |= segmentation_scores(truth.labels, on_truth.labels)
        pairs = matched_masks(truth, on_truth)
        if truth_counted is not None and counted is not None and points_key is not None:
            scores |= transcript_scores(
                true_cells(sdata, points_key, true_cell_key, truth_counted),
                truth_counted,
                counted,
                assigned,
                pairs if matching == "overlap" else matching,
                confidences(sdata, labels_key, points_key, truth_counted),
            )
        if has_types(sdata, labels_key, cell_type_key, table_key) and has_types(sdata, truth_key, cell_type_key, truth_table_key):
            scores["cell_type_accuracy"] = type_accuracy(
                read_nuclei_types(sdata, truth_key, cell_type_key, truth.source_ids, table_key=truth_table_key),
                read_nuclei_types(sdata, labels_key, cell_type_key, on_truth.source_ids, table_key=table_key),
                np.searchsorted(truth.source_ids, pairs.truth_id),
                np.searchsorted(on_truth.source_ids, pairs.label_id),
            )
    scores |= mask_scores(masks)
    if counted is not None:
        types = None
        if known is not None and purity_types == "table":
            types = read_nuclei_types(sdata, labels_key, cell_type_key, counted.source_ids, table_key=table_key)
        for suffix, cell in assigned.items():
            scores |= count_scores(replace(counted, cell=cell), known, types, suffix)
        scores |= calling_scores(counted)
    return pd.DataFrame({"metric": list(scores), "value": np.array(list(scores.values()), dtype=np.float64)})


@dataclass(frozen=True)
class _Filters:
    coordinate_system: str
    feature_key: str | None
    min_qv: float | None
    control_pattern: str | None


def _check_choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    if value not in valid:
        raise InputError(f"{name}={value!r} is unknown; choose one of {', '.join(map(repr, valid))}.")


def _read(
    sdata: SpatialData, labels_key: str, points_key: str | None, filters: _Filters, pixel_size_um: float | None
) -> tuple[Masks, LabelledMolecules | None]:
    """Labels in their own pixels, and the transcripts on them where there are any."""
    if points_key is None:
        size = labels_pixel_size_um(sdata, labels_key, coordinate_system=filters.coordinate_system, pixel_size_um=pixel_size_um)
        grid = labels_grid(sdata, labels_key, coordinate_system=filters.coordinate_system, pixel_size_um=size)
        return _resampled(sdata, labels_key, grid, filters.coordinate_system), None
    counted = molecules_in_labels(
        sdata,
        labels_key,
        points_key,
        coordinate_system=filters.coordinate_system,
        feature_key=filters.feature_key,
        min_qv=filters.min_qv,
        control_pattern=filters.control_pattern,
        pixel_size_um=pixel_size_um,
    )
    return Masks(counted.grid, counted.labels, counted.source_ids), counted


def _resampled(sdata: SpatialData, labels_key: str, grid: Grid, coordinate_system: str) -> Masks:
    return Masks(grid, *read_labels_on_grid(sdata, labels_key, grid, coordinate_system=coordinate_system))


def _same_grid(first: Grid, second: Grid) -> bool:
    return first.shape == second.shape and np.allclose(first.matrix, second.matrix, rtol=1e-9, atol=1e-9)
