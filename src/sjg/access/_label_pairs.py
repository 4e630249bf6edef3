"""Labels elements on the pixels of another element."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from spatialdata.models import Labels2DModel
from spatialdata.transformations import get_transformation

from sjg.access._frames import affine_matrix
from sjg.access._grid import labels_grid
from sjg.access._labels import read_labels_on_grid
from sjg.access._raster import raster_levels
from sjg.access._stitched import CHUNK_PX
from sjg.core import Grid, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData
    from xarray import DataArray


def labels_on_grid(
    sdata: SpatialData, labels_key: str, grid: Grid, *, coordinate_system: str = "global"
) -> tuple[Any, NDArray[np.int64] | None]:
    """Labels in the pixels of a grid, lazily where they lie there already.

    Returns
    -------
    labels
        (y, x) NumPy or Dask array.
    source_ids
        None where the labels have their own ids, else the ids in the element of their numbers 1..n.

    Raises
    ------
    InputError
        Labels that are no integers, or no transformation to the coordinate system.
    """
    array = raster_levels(sdata.labels[labels_key])[0].transpose("y", "x").data
    if array.dtype.kind not in "iu":
        raise InputError(f"labels[{labels_key!r}] holds {array.dtype} values; labels must be integers.")
    matrix = affine_matrix(sdata, labels_key, coordinate_system)
    if tuple(array.shape) != grid.shape or not np.allclose(matrix, grid.matrix, rtol=1e-9, atol=1e-9):
        return read_labels_on_grid(sdata, labels_key, grid, coordinate_system=coordinate_system)
    return array, None


def read_label_pair(
    sdata: SpatialData, first_key: str, second_key: str, *, coordinate_system: str = "global"
) -> tuple[Any, Any, NDArray[np.int64] | None]:
    """Both labels in the pixels of the first.

    Returns
    -------
    first, second
        (y, x) labels with their own ids, see :func:`labels_on_grid`.
    source_ids
        None where the second has its own ids, else the ids that its numbers 1..n have in the element.

    Raises
    ------
    InputError
        Labels that are no integers, or no transformation to the coordinate system.
    """
    grid = labels_grid(sdata, first_key, coordinate_system=coordinate_system)
    first, _ = labels_on_grid(sdata, first_key, grid, coordinate_system=coordinate_system)
    second, source_ids = labels_on_grid(sdata, second_key, grid, coordinate_system=coordinate_system)
    return first, second, source_ids


def labels_like(sdata: SpatialData, source_key: str, arrays: Mapping[str, Any]) -> dict[str, DataArray]:
    """Labels elements in the pixels of another, with its transformations; NumPy or Zarr arrays."""
    transformations: Any = get_transformation(sdata.labels[source_key], get_all=True)
    return {
        name: Labels2DModel.parse(
            # without a name, which would be a hash of the whole array
            da.from_array(array, tuple(min(CHUNK_PX, side) for side in array.shape), name=False),
            dims=("y", "x"),
            transformations=dict(transformations),
        )
        for name, array in arrays.items()
    }
