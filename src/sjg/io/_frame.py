"""The frame of molecules in micrometres against that of an image in pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from spatialdata.transformations import BaseTransformation


def to_pixels(um_to_px: ArrayLike) -> dict[str, BaseTransformation]:
    """Transformations of an element in micrometres, where ``global`` is the pixel grid of the image.

    A plain Scale where there is neither shift nor shear, as spatialdata-io writes it; a new object at each call, because
    elements must not share one.
    """
    from spatialdata.transformations import Affine, Scale

    matrix = np.asarray(um_to_px, dtype=np.float64)
    if np.array_equal(matrix, np.diag(np.diag(matrix))) and matrix[2, 2] == 1:
        return {"global": Scale(np.diag(matrix)[:2], axes=("x", "y"))}
    return {"global": Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))}
