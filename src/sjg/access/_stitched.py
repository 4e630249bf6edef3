"""Labels that were stitched into arrays, in memory or on disk, as elements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import zarr
from numpy.typing import NDArray
from spatialdata import read_zarr
from spatialdata.models import Image2DModel, Labels2DModel
from spatialdata.transformations import get_transformation

from sjg.imaging import inner_boundary, number_present

if TYPE_CHECKING:
    from spatialdata import SpatialData
    from xarray import DataArray

#: side of the chunks of written rasters
CHUNK_PX = 2048
#: rasters of more pixels are stitched on disk
MAX_IN_MEMORY_PX2 = 2**26
_KINDS = ("images", "labels")


def blank_rasters(names: Sequence[str], shape: tuple[int, int], folder: Path | None, *, dtype: str = "int32") -> dict[str, Any]:
    """Arrays of zeros to write into: in memory, or chunked files in `folder` where one is given."""
    if folder is None:
        return {name: np.zeros(shape, dtype=dtype) for name in names}
    return {
        name: zarr.create_array(
            folder / f"stitched_{name}.zarr",
            shape=shape,
            chunks=(min(CHUNK_PX, shape[0]), min(CHUNK_PX, shape[1])),
            dtype=dtype,
            overwrite=True,
        )
        for name in names
    }


def numbered_labels(rasters: Mapping[str, Any], largest: int, *, joint: bool) -> tuple[dict[str, da.Array], dict[str, int]]:
    """Lazy labels with ids 1..n without gaps, and n for each.

    Labels that share ids (`joint`) are numbered together by the first of them; an object that has no pixel there has none elsewhere.
    """
    lazy, counts = {}, {}
    table: NDArray[np.int32] | None = None
    for name, raster in rasters.items():
        array = da.from_array(raster, chunks=(CHUNK_PX, CHUNK_PX))
        if table is None or not joint:
            table = number_present(_sizes(raster, largest))
        lazy[name] = array.map_blocks(_look_up, table, dtype=np.int32)
        counts[name] = int(table.max(initial=0))
    return lazy, counts


def in_memory(array: da.Array) -> da.Array:
    """The same array, computed."""
    return da.from_array(array.compute(), chunks=(CHUNK_PX, CHUNK_PX))


def labels_element(sdata: SpatialData, image_key: str, labels: da.Array) -> DataArray:
    """Labels in pixels of an image, with its transformations."""
    transformations: Any = get_transformation(sdata.images[image_key], get_all=True)
    parsed: DataArray = Labels2DModel.parse(labels, dims=("y", "x"), transformations=dict(transformations))
    return parsed


def boundaries_element(sdata: SpatialData, image_key: str, labels: Mapping[str, da.Array]) -> DataArray:
    """Inner boundaries of labels, one channel each, as an image with the transformations of another."""
    transformations: Any = get_transformation(sdata.images[image_key], get_all=True)
    empty = np.empty((0, 0), dtype=np.uint8)
    planes = [array.map_overlap(_boundary_image, depth=1, boundary="none", dtype=np.uint8, meta=empty) for array in labels.values()]
    parsed: DataArray = Image2DModel.parse(
        da.stack(planes), dims=("c", "y", "x"), c_coords=list(labels), transformations=dict(transformations)
    )
    return parsed


def read_again(sdata: SpatialData, keys: Mapping[str, Sequence[str]]) -> None:
    """Point elements that were written to the store at their copies there, so that scratch files can go."""
    if sdata.path is None:
        return
    stored = read_zarr(sdata.path, selection=_KINDS)
    for kind, names in keys.items():
        for name in names:
            getattr(sdata, kind)[name] = getattr(stored, kind)[name]


def _sizes(raster: Any, largest: int) -> NDArray[np.int64]:
    sizes = np.zeros(largest + 1, dtype=np.int64)
    for top in range(0, raster.shape[0], CHUNK_PX):
        for left in range(0, raster.shape[1], CHUNK_PX):
            sizes += np.bincount(np.asarray(raster[top : top + CHUNK_PX, left : left + CHUNK_PX]).ravel(), minlength=largest + 1)
    return sizes


def _look_up(block: NDArray[np.int32], table: NDArray[np.int32]) -> NDArray[np.int32]:
    return table[block]


def _boundary_image(block: NDArray[np.int32]) -> NDArray[np.uint8]:
    return inner_boundary(block) * np.uint8(255)
