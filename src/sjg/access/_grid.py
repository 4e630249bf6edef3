"""The working raster of a run."""

from __future__ import annotations

from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjg._logging import logger
from sjg.access._frames import affine_matrix
from sjg.access._raster import iter_blocks, raster_levels
from sjg.core import Grid, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: resolution where a physical pixel size is known and none was asked for
DEFAULT_RESOLUTION_UM = 0.5
#: nuclei stay at least this wide where no physical size is known
MIN_NUCLEUS_PX = 10.0
#: pixel sizes of microscopes that resolve cells; anything else is no length in micrometres
_PLAUSIBLE_PIXEL_UM = (0.02, 2.5)
#: equivalent diameters of nuclei
_PLAUSIBLE_NUCLEUS_UM = (2.0, 30.0)
#: the frames of image and points count as the same within this relative difference of scale
_SAME_SCALE = 0.01
#: a down-scale factor this close (relatively) to an integer becomes that integer, so that pixels stay whole
_SNAP = 0.02


def image_pixel_size_um(
    sdata: SpatialData,
    image_key: str,
    points_key: str | None,
    *,
    coordinate_system: str = "global",
    nucleus_diameter_px: float | None = None,
) -> float | None:
    """Side of a pixel of the image in micrometres, deduced from the frame of the transcripts; None where it is not known.

    SpatialData has no units. Platforms, however, give transcripts in micrometres: where the transformations of image and
    transcripts to `coordinate_system` say that one pixel of the image is ``s`` units of the transcripts' own frame,

    - ``s`` within 1 % of 1: both are in pixels, so nothing is known -> None;
    - ``s`` in 0.02 to 2.5: the transcripts are taken to be in micrometres and the pixel to be ``s`` um -> ``s``
      (Xenium: points carry Scale(1 / 0.2125) and the image Identity; MERSCOPE: points carry an affine; a scaled image with
      transcripts under Identity gives the same);
    - any other ``s``, or an ``s`` at which nuclei would not be 2 to 30 um across -> None.

    Parameters
    ----------
    sdata
        The object.
    image_key, points_key
        The elements; without points nothing is known.
    coordinate_system
        Where both are brought together.
    nucleus_diameter_px
        Median equivalent diameter of the nuclei in pixels of the image, to check the deduction.

    Raises
    ------
    InputError
        An element has no invertible affine transformation to `coordinate_system`.
    """
    if points_key is None:
        return None
    to_points = np.linalg.inv(affine_matrix(sdata, points_key, coordinate_system)) @ affine_matrix(sdata, image_key, coordinate_system)
    size = float(np.sqrt(abs(np.linalg.det(to_points[:2, :2]))))
    if abs(size - 1) <= _SAME_SCALE or not _PLAUSIBLE_PIXEL_UM[0] <= size <= _PLAUSIBLE_PIXEL_UM[1]:
        logger.info("no physical pixel size known: a pixel of images[%r] is %.4g units of points[%r]", image_key, size, points_key)
        return None
    if nucleus_diameter_px is not None and not _PLAUSIBLE_NUCLEUS_UM[0] <= nucleus_diameter_px * size <= _PLAUSIBLE_NUCLEUS_UM[1]:
        logger.info("pixel size %.4g um rejected: nuclei would be %.3g um across", size, nucleus_diameter_px * size)
        return None
    logger.info("pixel size of images[%r]: %.4g um, from the frame of points[%r]", image_key, size, points_key)
    return size


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
