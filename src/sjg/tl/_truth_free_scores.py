"""What can be said of a segmentation without truth."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sjg._keys import cell_id_column
from sjg._keys import labels_key as run_labels_key
from sjg.access import areas_and_centroids, count_matrix, named_area
from sjg.metrics import cell_calling_score, coexpression_rate, negative_marker_purity
from sjg.tl._aggregate import cells_by_column

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sjg.access import LabelledMolecules
    from sjg.tl._expression_reference import ExpressionReference
    from sjg.tl._truth_scores import Masks

#: widths of the rings of the cell calling score
_RING_PX = (3, 5, 7)


def assignments(sdata: SpatialData, labels_key: str, points_key: str, counted: LabelledMolecules) -> dict[str, NDArray[np.int32]]:
    """Cell 1..n of each molecule: by mask (suffix "") and by posterior, where the labels are those of a run."""
    assigned = {"": counted.cell}
    prefix = labels_key.removesuffix("_cells")
    column = cell_id_column(prefix)
    if labels_key == run_labels_key(prefix) and column in sdata.points[points_key].columns:
        assigned["_posterior"] = cells_by_column(sdata, points_key, column, counted)
    return assigned


def mask_scores(masks: Masks) -> dict[str, float]:
    area, _ = areas_and_centroids(masks.labels)
    name, values = named_area(area, masks.grid)
    return {"n_cells": float(len(masks.source_ids)), f"median_{name}": float(np.median(values)) if len(values) else float("nan")}


def calling_scores(counted: LabelledMolecules) -> dict[str, float]:
    """Cell calling score at each width of the ring."""
    values = cell_calling_score(counted.labels, counted.molecules.yx_px, distance_px=_RING_PX)
    return {f"cell_calling_score_{width}px": float(value) for width, value in zip(_RING_PX, values, strict=True)}


def count_scores(
    counted: LabelledMolecules, known: ExpressionReference | None, types: tuple[tuple[str, ...], NDArray[np.int32]] | None, suffix: str
) -> dict[str, float]:
    """What depends on which transcript is in which cell."""
    names = counted.molecules.gene_names
    counts = count_matrix(counted.cell, counted.molecules.gene, (len(counted.source_ids), len(names)))
    n_passed = counted.report.n_kept + counted.report.n_outside
    scores = {
        "fraction_assigned": float((counted.cell > 0).sum() / n_passed),
        "median_transcripts_per_cell": float(np.median(np.asarray(counts.sum(axis=1)))),
        "median_genes_per_cell": float(np.median(np.diff(counts.indptr))),
    }
    if known is not None:
        shared, reference = known.on_genes(names)
        counts = counts[:, shared]
        if types is None:
            code = reference.most_likely_type(counts)
        else:
            position = pd.Index(reference.types).get_indexer(pd.Index(types[0]))
            code = np.where(types[1] >= 0, position[types[1]], -1)
        scores["negative_marker_purity"] = negative_marker_purity(
            counts, code, reference.expressing(counts, code), negative=reference.negative
        )
        scores["coexpression_rate"] = coexpression_rate(counts, reference.exclusive_pairs())
    return {name + suffix: value for name, value in scores.items()}
