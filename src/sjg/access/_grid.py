"""The working raster of a run."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjg.access._frames import affine_matrix
from sjg.access._pixel_size import image_pixel_size_um
from sjg.access._raster import iter_blocks, raster_levels
from sjg.core import Grid, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: resolution where a physical pixel size is known and none was asked for
DEFAULT_RESOLUTION_UM = 0.5
#: nuclei stay at least this wide where no physical size is known
MIN_NUCLEUS_PX = 10.0
#: a down-scale factor this close (relatively) to an integer becomes that integer, so that pixels stay whole
_SNAP = 0.02


def working_grid(
    sdata: SpatialData,
    image_key: str,
    points_key: str | None = None,
    *,
    coordinate_system: str = "global",
    resolution_um: float | None = None,
    pixel_size_um: float | None = None,
    nucleus_diameter_px: float | None = None,
) -> Grid:
    """The raster on which a run works: the pixel grid of the image, scaled.

    Where a physical pixel size is known (`pixel_size_um`, else :func:`image_pixel_size_um`) grid pixels are `resolution_um`
    wide, 0.5 um by default; a factor within 2 % of a whole number of image pixels becomes whole. Where none is known grid
    pixels are a whole number of image pixels, as many as keep the median nucleus at least 10 pixels wide, one where no nuclei
    are known. The grid starts at the image's corner and covers it whole, so the last row and column may reach beyond it.

    Parameters
    ----------
    sdata
        The object.
    image_key
        The image whose pixel grid is scaled.
    points_key
        The transcripts, from whose frame the pixel size is deduced.
    coordinate_system
        Target of ``Grid.matrix``.
    resolution_um
        Side of a grid pixel in micrometres.
    pixel_size_um
        Side of a full-resolution pixel of the image in micrometres.
    nucleus_diameter_px
        Median equivalent diameter of the nuclei in pixels of the image (:func:`nucleus_diameter_px`).

    Raises
    ------
    InputError
        A length that is not positive; `resolution_um` where no pixel size is known; no transformation to `coordinate_system`.
    """
    for name, value in (("resolution_um", resolution_um), ("pixel_size_um", pixel_size_um)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"{name}={value!r} must be a positive length in micrometres.")
    matrix = affine_matrix(sdata, image_key, coordinate_system)
    known = pixel_size_um or image_pixel_size_um(
        sdata, image_key, points_key, coordinate_system=coordinate_system, nucleus_diameter_px=nucleus_diameter_px
    )
    height, width = raster_levels(sdata.images[image_key])[0].shape[-2:]
    if known is None:
        if resolution_um is not None:
            raise InputError(
                f"resolution_um={resolution_um!r} needs the physical pixel size of images[{image_key!r}], which its transformations "
                "do not tell (image and transcripts share one frame); pass pixel_size_um=, or leave resolution_um out."
            )
        whole = max(1, floor((nucleus_diameter_px or MIN_NUCLEUS_PX) / MIN_NUCLEUS_PX))
        factors = np.array([whole, whole], dtype=np.float64)
        size = None
    else:
        # image pixels may be oblong: grid pixels are square all the same
        sides = np.linalg.norm(matrix[:2, :2], axis=0)
        factors = (resolution_um or DEFAULT_RESOLUTION_UM) / (known * sides / np.sqrt(np.prod(sides)))
        nearest = np.maximum(np.rint(factors), 1)
        factors = np.where(np.abs(factors - nearest) <= _SNAP * nearest, nearest, factors)
        size = float(known * np.sqrt(np.prod(factors)))
    shape = (max(1, ceil(height / factors[1] - 1e-6)), max(1, ceil(width / factors[0] - 1e-6)))
    return Grid(shape=shape, matrix=matrix @ np.diag([factors[0], factors[1], 1.0]), pixel_size_um=size)


def labels_grid(sdata: SpatialData, labels_key: str, *, coordinate_system: str = "global", pixel_size_um: float | None = None) -> Grid:
    """The own pixel grid of a labels element, e.g. to count transcripts in labels exactly as they are.

    Raises
    ------
    InputError
        The labels have no invertible affine transformation to `coordinate_system`.
    """
    height, width = raster_levels(sdata.labels[labels_key])[0].shape[-2:]
    return Grid(shape=(height, width), matrix=affine_matrix(sdata, labels_key, coordinate_system), pixel_size_um=pixel_size_um)


def nucleus_diameter_px(sdata: SpatialData, nuclei_key: str | None, image_key: str, *, coordinate_system: str = "global") -> float | None:
    """Median equivalent diameter ``2 sqrt(area / pi)`` of the nuclei in pixels of the image; None where there are none.

    Raises
    ------
    InputError
        An element has no invertible affine transformation to `coordinate_system`.
    """
    if nuclei_key is None:
        return None
    to_image = np.linalg.inv(affine_matrix(sdata, image_key, coordinate_system)) @ affine_matrix(sdata, nuclei_key, coordinate_system)
    areas = _own_areas(sdata, nuclei_key)
    if areas.size == 0:
        return None
    return float(2 * np.sqrt(np.median(areas) * abs(np.linalg.det(to_image[:2, :2])) / np.pi))


def _own_areas(sdata: SpatialData, nuclei_key: str) -> NDArray[np.float64]:
    """Area of each nucleus in its own frame."""
    if nuclei_key in sdata.shapes:
        shapes = sdata.shapes[nuclei_key]
        areas = np.pi * shapes["radius"].to_numpy() ** 2 if "radius" in shapes else shapes.geometry.area.to_numpy()
        return np.asarray(areas[areas > 0], dtype=np.float64)
    pieces = []
    for _, _, block in iter_blocks(raster_levels(sdata.labels[nuclei_key])[0].data):
        ids = block[block != 0]
        if ids.size:
            pieces.append(pd.Series(ids).value_counts())
    if not pieces:
        return np.empty(0)
    # a nucleus may lie in several blocks
    total = pd.concat(pieces)
    return np.asarray(total.groupby(total.index).sum(), dtype=np.float64)
