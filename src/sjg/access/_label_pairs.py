"""Two labels elements on one raster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from spatialdata.models import Labels2DModel
from spatialdata.transformations import get_transformation

from sjg.access._frames import affine_matrix
from sjg.access._grid import labels_grid
from sjg.access._labels import read_labels_on_grid
from sjg.access._raster import raster_levels
from sjg.core import InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData
    from xarray import DataArray

_CHUNK_PX = 2048


def read_label_pair(
    sdata: SpatialData, first_key: str, second_key: str, *, coordinate_system: str = "global"
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.int64] | None]:
    """Both labels in the pixels of the first.

    Returns
    -------
    first, second
        (y, x) labels with their own ids.
    source_ids
        None where the second lies on the raster of the first, else the ids that its numbers 1..n have in the element.

    Raises
    ------
    InputError
        Labels that are no integers, or no transformation to the coordinate system.
    """
    first = np.asarray(raster_levels(sdata.labels[first_key])[0].transpose("y", "x").data)
    other = raster_levels(sdata.labels[second_key])[0].transpose("y", "x").data
    for key, array in ((first_key, first), (second_key, other)):
        if array.dtype.kind not in "iu":
            raise InputError(f"labels[{key!r}] holds {array.dtype} values; labels must be integers.")
    one, two = (affine_matrix(sdata, key, coordinate_system) for key in (first_key, second_key))
    if first.shape == other.shape and np.allclose(one, two, rtol=1e-9, atol=1e-9):
        return first, np.asarray(other), None
    grid = labels_grid(sdata, first_key, coordinate_system=coordinate_system)
    second, source_ids = read_labels_on_grid(sdata, second_key, grid, coordinate_system=coordinate_system)
    return first, second, source_ids


def labels_like(sdata: SpatialData, source_key: str, arrays: Mapping[str, NDArray[np.int32]]) -> dict[str, DataArray]:
    """Labels elements in the pixels of another, with its transformations."""
    transformations: Any = get_transformation(sdata.labels[source_key], get_all=True)
    return {
        name: Labels2DModel.parse(
            array,
            dims=("y", "x"),
            chunks=(min(_CHUNK_PX, array.shape[0]), min(_CHUNK_PX, array.shape[1])),
            transformations=dict(transformations),
        )
        for name, array in arrays.items()
    }
