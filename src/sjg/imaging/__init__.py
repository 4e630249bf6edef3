"""Nuclei and cells from pixels: patches, watershed, stitching, repair, quality; arrays in and out."""

from __future__ import annotations

from sjg.imaging._boundaries import inner_boundary
from sjg.imaging._layout import Box, PatchLayout, lay_patches, split_evenly
from sjg.imaging._match import NucleusMatches, match_nuclei, repaired_labels
from sjg.imaging._patch_quality import Exposure, QualityThresholds, expose, measure_patch, published_status, robust_status
from sjg.imaging._patch_results import FolderResults, MemoryResults
from sjg.imaging._quality import QUALITY_METRICS, quality_metrics, quality_scores
from sjg.imaging._scene import Scene, survey
from sjg.imaging._segment import PatchRun
from sjg.imaging._stitch import Stitcher, number_present
from sjg.imaging._tissue import tissue_foreground
from sjg.imaging._watershed import WatershedParameters, nuclei_in_window, watershed_nuclei
from sjg.imaging._watershed_cells import CellParameters, Stains, cells_in_window, judge_stains
from sjg.imaging._watershed_volume import watershed_volume

__all__ = [
    "QUALITY_METRICS",
    "Box",
    "CellParameters",
    "Exposure",
    "FolderResults",
    "MemoryResults",
    "NucleusMatches",
    "PatchLayout",
    "PatchRun",
    "QualityThresholds",
    "Scene",
    "Stains",
    "Stitcher",
    "WatershedParameters",
    "cells_in_window",
    "expose",
    "inner_boundary",
    "judge_stains",
    "lay_patches",
    "match_nuclei",
    "measure_patch",
    "nuclei_in_window",
    "number_present",
    "published_status",
    "quality_metrics",
    "quality_scores",
    "repaired_labels",
    "robust_status",
    "split_evenly",
    "survey",
    "tissue_foreground",
    "watershed_nuclei",
    "watershed_volume",
]
