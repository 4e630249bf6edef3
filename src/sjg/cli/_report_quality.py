"""Scores of a report: what each says, with and without truth, and the borders of tiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sjg.cli._evaluate import number
from sjg.metrics import fraction_cut_at_lines

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: metrics that need no truth; all others that tl.evaluate returns compare with it
_TRUTH_FREE = ("n_cells", "median_", "fraction_", "cell_calling_score", "negative_marker", "coexpression", "mean_confidence", "covered_")
_POSTERIOR = "_posterior"
#: what a run records of its posterior under a plain name
_ALWAYS_POSTERIOR = ("mean_confidence",)
#: what a score says, by the longest beginning that fits
_MEANING = {
    "n_cells": "cells in the labels",
    "median_area": "size of a typical cell",
    "fraction_assigned": "transcripts in a cell; grows with the masks",
    "median_transcripts": "transcripts of a typical cell",
    "median_genes": "genes of a typical cell",
    "cell_calling_score": "density inside over that in a ring around; grows with the masks, read it beside the purity",
    "negative_marker_purity": "1 = no cell has a gene that its type never has",
    "coexpression_rate": "genes of different types in one cell; less is better",
    "mean_confidence": "mean probability of the chosen cell over the transcripts",
    "covered_fraction": "share of the image under cells",
    "f1_at_iou": "true cells found with at least this overlap, and few others",
    "panoptic_quality": "F1 at IoU 0.5 times the mean overlap of the pairs",
    "aggregated_jaccard": "overlap of all pairs, with what is missed and invented",
    "mean_iou": "mean overlap of a true cell with its match; 0 where there is none",
    "transcript_accuracy": "transcripts in the right cell, or rightly in none",
    "transcript_precision": "of those in a cell, the share in the right one",
    "transcript_recall": "of those that belong to a cell, the share in it",
    "transcript_jaccard": "shared transcripts of a true cell and its match, over both; 0 where there is none",
    "calibration_error": "gap between the confidence of transcripts and the share that is right; 0 is best",
    "cell_type_accuracy": "true cells whose match has the same type",
}


def score_rows(values: Mapping[str, float], *, truth: bool) -> tuple[list[list[str]], dict[str, str]]:
    """Rows (metric, by posterior, by mask) of the metrics that compare with a truth, or of those that need none, and what each says."""
    rows: dict[str, list[str]] = {}
    for name, value in values.items():
        base = name.removesuffix(_POSTERIOR)
        if np.isnan(value) or base.startswith(_TRUTH_FREE) == truth:
            continue
        row = rows.setdefault(base, [base.replace("_", " "), "", ""])
        row[1 if name.endswith(_POSTERIOR) or base in _ALWAYS_POSTERIOR else 2] = number(value)
    # a store does not keep their order
    order = sorted(rows, key=lambda base: (list(_MEANING).index(_start(base)) if _start(base) else len(_MEANING), base))
    return [rows[base] for base in order], {rows[base][0]: _MEANING.get(_start(base), "") for base in order}


def _start(name: str) -> str:
    """The longest key of the explanations with which a name begins; empty where there is none."""
    return max((start for start in _MEANING if name.startswith(start)), key=len, default="")


def seam_scores(sdata: SpatialData, labels_key: str, record: Mapping[str, Any]) -> dict[str, float]:
    """Cells cut at the borders of the tiles of a run, and at lines midway between; empty where the run had one tile or did not say."""
    side = int(record.get("parameters", {}).get("tile_size_px", 0))
    labels = sdata.labels[labels_key].to_numpy()
    height, width = labels.shape
    if side == 0 or max(height, width) <= side:
        return {}
    half = side // 2
    return {
        "fraction_cut_at_seams": fraction_cut_at_lines(labels, rows_px=range(side, height, side), columns_px=range(side, width, side)),
        "fraction_cut_elsewhere": fraction_cut_at_lines(labels, rows_px=range(half, height, side), columns_px=range(half, width, side)),
    }
