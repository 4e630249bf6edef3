"""Plots of segmentations and of what they were made from."""

from sjg.pl._attribution_map import attribution_map
from sjg.pl._comparison import comparison
from sjg.pl._gene_importance import gene_importance
from sjg.pl._history import history
from sjg.pl._panel_curve import panel_curve
from sjg.pl._quality import quality
from sjg.pl._segmentation import segmentation

__all__ = ["attribution_map", "comparison", "gene_importance", "history", "panel_curve", "quality", "segmentation"]
