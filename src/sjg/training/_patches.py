"""Where training patches may lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sjg.training._parameters import Parameters
from sjg.training._tissue import Tissue
from sjg.training._windows import Window


def patch_starts(tissue: Tissue, parameters: Parameters) -> NDArray[np.int64]:
    """Corners of a regular grid of patches that hold nuclei."""
    side = parameters.patch_size_px
    height, width = tissue.shape
    cell = (tissue.nuclei.centre_px // side).astype(np.int64)
    corners = np.unique(cell, axis=0) * side
    return np.minimum(corners, np.maximum(np.array([height - side, width - side]), 0))


def inside_of(yx: NDArray, window: Window) -> NDArray[np.bool_]:
    """(N,) whether positions (N, 2) lie in a window."""
    y, x = yx[:, 0] - window.y0, yx[:, 1] - window.x0
    return (y >= 0) & (y < window.height) & (x >= 0) & (x < window.width)
