"""Truth-free quality of a finished run."""

from __future__ import annotations

import numpy as np

from sjg.access import areas_and_centroids, count_matrix, named_area
from sjg.core import Segmentation, parts
from sjg.metrics import cell_calling_score
from sjg.tl._inputs import RunInputs

_DISTANCES_PX = (3, 5, 7)


def run_quality(inputs: RunInputs, result: Segmentation) -> dict[str, float]:
    """Numbers to read beside any segmentation; areas are in units of the coordinate system where no pixel size is known.

    Parameters
    ----------
    inputs
        What went in.
    result
        What came out.
    """
    area = areas_and_centroids(result.labels)[0]
    name, values = named_area(area, inputs.grid)
    n = int(np.count_nonzero(area))
    masks = {
        "n_cells": float(n),
        f"median_{name}": float(np.median(values)) if n else float("nan"),
        "covered_fraction": int(area.sum()) / max(result.labels.size, 1),
    }
    # of channels no molecule is assigned, and those drawn from them say nothing that the image does not
    return masks if inputs.report is None else {**masks, **_transcript_quality(inputs, result)}


def _transcript_quality(inputs: RunInputs, result: Segmentation) -> dict[str, float]:
    n, n_molecules = len(result.cell_type), len(result.molecule_cell)
    counts = count_matrix(result.molecule_cell, inputs.molecules.gene, (n, len(inputs.molecules.gene_names)))
    n_assigned, confidence = int(counts.sum()), 0.0
    for rows in parts(n_molecules):
        confidence += float(result.molecule_confidence[rows][result.molecule_cell[rows] > 0].sum(dtype=np.float64))
    quality = {
        "fraction_assigned": n_assigned / n_molecules if n_molecules else float("nan"),
        "mean_confidence": confidence / n_assigned if n_assigned else float("nan"),
        "median_transcripts_per_cell": float(np.median(np.asarray(counts.sum(axis=1)))) if n else float("nan"),
        "median_genes_per_cell": float(np.median(np.diff(counts.indptr))) if n else float("nan"),
    }
    for distance, score in zip(
        _DISTANCES_PX, cell_calling_score(result.labels, inputs.molecules.yx_px, distance_px=list(_DISTANCES_PX)), strict=True
    ):
        quality[f"cell_calling_score_{distance}px"] = float(score)
    return quality
