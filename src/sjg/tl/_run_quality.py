"""Truth-free quality of a finished run."""

from __future__ import annotations

import numpy as np

from sjg.access import areas_and_centroids
from sjg.core import Segmentation
from sjg.metrics import cell_calling_score
from sjg.tl._inputs import RunInputs

_DISTANCES_PX = (3, 5, 7)


def run_quality(inputs: RunInputs, result: Segmentation) -> dict[str, float]:
    """Numbers to read beside any segmentation; areas are in working pixels where no pixel size is known.

    Parameters
    ----------
    inputs
        What went in.
    result
        What came out.
    """
    n = int(result.labels.max())
    unit = "um2" if inputs.grid.pixel_size_um else "px2"
    area = areas_and_centroids(result.labels)[0]
    masks = {
        "n_cells": float(n),
        f"median_area_{unit}": float(np.median(area)) * (inputs.grid.pixel_size_um or 1.0) ** 2 if n else float("nan"),
        "covered_fraction": float((result.labels > 0).mean()),
    }
    # of channels no molecule is assigned, and those drawn from them say nothing that the image does not
    return masks if inputs.report is None else {**masks, **_transcript_quality(inputs, result, n)}


def _transcript_quality(inputs: RunInputs, result: Segmentation, n: int) -> dict[str, float]:
    cell = result.molecule_cell
    assigned = cell > 0
    counts = np.bincount(cell[assigned], minlength=n + 1)[1:]
    pairs = np.unique(cell[assigned].astype(np.int64) * len(inputs.molecules.gene_names) + inputs.molecules.gene[assigned])
    genes = np.bincount(pairs // len(inputs.molecules.gene_names), minlength=n + 1)[1:]
    quality = {
        "fraction_assigned": float(assigned.mean()) if len(assigned) else float("nan"),
        "mean_confidence": float(result.molecule_confidence[assigned].mean()) if assigned.any() else float("nan"),
        "median_transcripts_per_cell": float(np.median(counts)) if n else float("nan"),
        "median_genes_per_cell": float(np.median(genes)) if n else float("nan"),
    }
    for distance, score in zip(
        _DISTANCES_PX, cell_calling_score(result.labels, inputs.molecules.yx_px, distance_px=list(_DISTANCES_PX)), strict=True
    ):
        quality[f"cell_calling_score_{distance}px"] = float(score)
    return quality
