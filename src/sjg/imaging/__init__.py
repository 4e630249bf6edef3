"""Nuclei and cells from pixels: patches, watershed, stitching, repair, quality; arrays in and out."""

from __future__ import annotations

from sjg.imaging._layout import Box, PatchLayout, lay_patches, split_evenly
from sjg.imaging._watershed import WatershedParameters, watershed_nuclei

__all__ = [
    "Box",
    "PatchLayout",
    "WatershedParameters",
    "lay_patches",
    "split_evenly",
    "watershed_nuclei",
]
