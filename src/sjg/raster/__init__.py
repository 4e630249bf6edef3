"""Transcripts to rasters: splatting of gene embeddings, Gaussian blur, binning."""

from sjg.raster._blur import gaussian_blur
from sjg.raster._splat import bin_counts, splat, splat_batch

__all__ = ["bin_counts", "gaussian_blur", "splat", "splat_batch"]
