"""Attribution maps as images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from spatialdata.models import Image2DModel

from sjg.access._attach import Outputs, attach
from sjg.access._write import grid_transformations
from sjg.core import Grid

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: side of the chunks of written maps
_CHUNK_PX = 2048


def write_maps(
    sdata: SpatialData,
    maps: NDArray[np.floating[Any]],
    channels: Sequence[str],
    grid: Grid,
    *,
    key_added: str,
    image_key: str,
    coordinate_system: str = "global",
    to_disk: bool = True,
) -> None:
    """Write maps in grid pixels as an image, with the transformations of the cells.

    Parameters
    ----------
    sdata
        The object, changed in place.
    maps
        (c, H, W).
    channels
        (c,) names.
    grid
        The working raster of the run.
    key_added
        Name of the image; an image of that name is replaced.
    image_key
        The image from which the grid was made.
    coordinate_system
        The coordinate system of the grid.
    to_disk
        Whether to write to the store where `sdata` has one.
    """
    image = Image2DModel.parse(
        maps,
        dims=("c", "y", "x"),
        c_coords=list(channels),
        chunks=(1, min(_CHUNK_PX, grid.shape[0]), min(_CHUNK_PX, grid.shape[1])),
        transformations=grid_transformations(sdata, image_key, grid, coordinate_system=coordinate_system),
    )
    attach(sdata, Outputs(images={key_added: image}), to_disk=to_disk)
