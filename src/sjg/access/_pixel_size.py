"""Micrometres in an object that states no units."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from spatialdata.transformations import get_transformation

from sjg._keys import labels_key as run_labels_key
from sjg._keys import table_key as run_table_key
from sjg._logging import logger
from sjg.access._frames import affine_matrix
from sjg.access._raster import raster_levels
from sjg.core import InputError

if TYPE_CHECKING:
    from typing import Any

    from spatialdata import SpatialData

#: pixel sizes of microscopes that resolve cells; anything else is no length in micrometres
_PLAUSIBLE_PIXEL_UM = (0.02, 2.5)
#: equivalent diameters of nuclei
_PLAUSIBLE_NUCLEUS_UM = (2.0, 30.0)
#: the frames of image and points count as the same within this relative difference of scale
_SAME_SCALE = 0.01


def units_per_pixel(sdata: SpatialData, key: str, coordinate_system: str) -> float:
    """Side of a square of the area of one unit (a pixel, where the element is a raster) of element `key`, in the coordinate system."""
    return float(np.sqrt(abs(np.linalg.det(affine_matrix(sdata, key, coordinate_system)[:2, :2]))))


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
    - any other ``s``, or an ``s`` at which nuclei would not be 2 to 30 um across -> None;
    - the finest image of the object is in the pixels of the transcripts: they are in pixels, whatever ``s`` another raster has -> None.

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
    unit = units_per_pixel(sdata, points_key, coordinate_system)
    size = units_per_pixel(sdata, image_key, coordinate_system) / unit
    if abs(size - 1) <= _SAME_SCALE or not _PLAUSIBLE_PIXEL_UM[0] <= size <= _PLAUSIBLE_PIXEL_UM[1]:
        logger.info("no physical pixel size known: a pixel of images[%r] is %.4g units of points[%r]", image_key, size, points_key)
        return None
    finest = _finest_raster(sdata, coordinate_system)
    if finest is not None and abs(finest[1] / unit - 1) <= _SAME_SCALE:
        logger.info("no physical pixel size known: points[%r] are in pixels of %r", points_key, finest[0])
        return None
    if nucleus_diameter_px is not None and not _PLAUSIBLE_NUCLEUS_UM[0] <= nucleus_diameter_px * size <= _PLAUSIBLE_NUCLEUS_UM[1]:
        logger.info("pixel size %.4g um rejected: nuclei would be %.3g um across", size, nucleus_diameter_px * size)
        return None
    logger.info("pixel size of images[%r]: %.4g um, from the frame of points[%r]", image_key, size, points_key)
    return size


def only_pixel_size_um(sdata: SpatialData, image_key: str, *, coordinate_system: str = "global") -> float | None:
    """:func:`image_pixel_size_um` with the only points; None where there are none or several."""
    points_key = next(iter(sdata.points)) if len(sdata.points) == 1 else None
    return image_pixel_size_um(sdata, image_key, points_key, coordinate_system=coordinate_system)


def known_pixel_size_um(
    sdata: SpatialData,
    image_key: str,
    pixel_size_um: float | None,
    *,
    coordinate_system: str = "global",
    purpose: str,
    instead: str | None = None,
) -> float:
    """`pixel_size_um`, else :func:`only_pixel_size_um`.

    Raises
    ------
    InputError
        Neither is known; the message says what needs it (`purpose`) and which argument would do `instead`.
    """
    known = pixel_size_um or only_pixel_size_um(sdata, image_key, coordinate_system=coordinate_system)
    if known is None:
        other = "" if instead is None else f", or {instead}= instead"
        raise InputError(
            f"{purpose} needs the physical pixel size of images[{image_key!r}], which is not known; pass pixel_size_um={other}."
        )
    return known


def labels_pixel_size_um(
    sdata: SpatialData,
    labels_key: str,
    points_key: str | None = None,
    *,
    coordinate_system: str = "global",
    pixel_size_um: float | None = None,
) -> float | None:
    """Side of a pixel of labels in micrometres; None where it is not known.

    Parameters
    ----------
    sdata
        The object.
    labels_key
        The labels, on a raster of their own: that of a run may be coarser or finer than its image.
    points_key
        The transcripts, from whose frame the size is deduced where nothing else is known.
    coordinate_system
        Where the elements are brought together.
    pixel_size_um
        Side of a full-resolution pixel of the image, as a run takes it; scaled to the pixels of the labels. The image is the one
        that the run of these labels used, else the finest; without images it is the labels' own pixel.

    Without it the size is the one that the run of these labels recorded, else :func:`image_pixel_size_um` deduces it.

    Raises
    ------
    InputError
        `pixel_size_um` is not positive; no transformation to `coordinate_system`.
    """
    run = _run_record(sdata, labels_key)
    if pixel_size_um is not None:
        if not (np.isfinite(pixel_size_um) and pixel_size_um > 0):
            raise InputError(f"pixel_size_um={pixel_size_um!r} must be a positive length in micrometres.")
        image = _image_scale(sdata, run, coordinate_system)
        factor = 1.0 if image is None else units_per_pixel(sdata, labels_key, coordinate_system) / image
        return pixel_size_um * factor
    if run is not None:
        recorded = run["grid"]["pixel_size_um"]
        return float(recorded) if isinstance(recorded, int | float | np.number) else None
    return image_pixel_size_um(sdata, labels_key, points_key, coordinate_system=coordinate_system)


def _run_record(sdata: SpatialData, labels_key: str) -> Mapping[str, Any] | None:
    """What the run that wrote the labels left in its table; None where they are no run's, or are no longer on its grid."""
    prefix = labels_key.removesuffix(run_labels_key(""))
    if labels_key != run_labels_key(prefix) or run_table_key(prefix) not in sdata.tables:
        return None
    run = sdata.tables[run_table_key(prefix)].uns.get("sjg")
    grid = run.get("grid") if isinstance(run, Mapping) else None
    if not isinstance(grid, Mapping) or not {"shape", "pixel_size_um"} <= set(grid):
        return None
    shape = tuple(int(side) for side in grid["shape"])
    return run if shape == raster_levels(sdata.labels[labels_key])[0].shape[-2:] else None


def _image_scale(sdata: SpatialData, run: Mapping[str, Any] | None, coordinate_system: str) -> float | None:
    """Units of the coordinate system per pixel of the run's image, else of the finest one; None where there is no image."""
    key = None if run is None else run.get("image_key")
    if isinstance(key, str) and key in sdata.images and coordinate_system in get_transformation(sdata.images[key], get_all=True):
        return units_per_pixel(sdata, key, coordinate_system)
    finest = _finest_raster(sdata, coordinate_system) if sdata.images else None
    return None if finest is None else finest[1]


def _finest_raster(sdata: SpatialData, coordinate_system: str) -> tuple[str, float] | None:
    """Key of the image (of the labels, where there is no image) with the smallest pixels, and their side in the coordinate system."""
    for elements in (sdata.images, sdata.labels):
        keys = [key for key, element in elements.items() if coordinate_system in get_transformation(element, get_all=True)]
        if keys:
            return min(((key, units_per_pixel(sdata, key, coordinate_system)) for key in keys), key=lambda one: one[1])
    return None
