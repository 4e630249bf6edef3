"""Patches of an image as shapes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import shapely
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from spatialdata.models import ShapesModel
from spatialdata.transformations import get_transformation

from sjg.access._planes import image_shape
from sjg.core import InputError, MissingElementError
from sjg.imaging import PatchLayout

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: columns with the pixels of a patch and of its core
_BOX = ("top", "left", "bottom", "right")
_CORE = tuple(f"core_{side}" for side in _BOX)
#: column that says whether later steps look at a patch
INFORMATIVE_COLUMN = "informative"


def patches_element(sdata: SpatialData, image_key: str, layout: PatchLayout) -> GeoDataFrame:
    """One rectangle for each patch, in pixels of the image and with its transformations."""
    boxes = np.array([layout.box(index) for index in range(len(layout))], dtype=np.int64).reshape(-1, 4)
    cores = np.array([layout.core(index) for index in range(len(layout))], dtype=np.int64).reshape(-1, 4)
    top, left, bottom, right = boxes.T
    frame = GeoDataFrame(geometry=shapely.box(left, top, right, bottom))
    frame.index = pd.RangeIndex(len(frame), name="patch_id")
    for name, values in (*zip(_BOX, boxes.T, strict=True), *zip(_CORE, cores.T, strict=True)):
        frame[name] = values
    frame["image_key"] = image_key
    transformations: Any = get_transformation(sdata.images[image_key], get_all=True)
    parsed: GeoDataFrame = ShapesModel.parse(frame, transformations=dict(transformations))
    return parsed


def read_patches(sdata: SpatialData, patches_key: str, image_key: str | None = None) -> tuple[str, PatchLayout, NDArray[np.bool_]]:
    """Image, layout, and which patches are informative (all of them where that was not judged).

    Raises
    ------
    MissingElementError
        No such shapes.
    InputError
        The shapes are no patches, or of another image.
    """
    if patches_key not in sdata.shapes:
        raise MissingElementError(
            f"patches_key={patches_key!r} names no shapes of the SpatialData object; there are: {sorted(sdata.shapes) or 'none'}. Make patches "
            "with sjg.pp.patches."
        )
    frame = sdata.shapes[patches_key]
    missing = [name for name in (*_BOX, "image_key") if name not in frame]
    if missing or not len(frame):
        raise InputError(f"shapes[{patches_key!r}] are no patches (columns {missing} are missing); make patches with sjg.pp.patches.")
    source = str(frame["image_key"].iloc[0])
    if image_key is not None and source != image_key:
        raise InputError(f"shapes[{patches_key!r}] are patches of images[{source!r}], not of images[{image_key!r}].")
    if source not in sdata.images:
        raise MissingElementError(f"shapes[{patches_key!r}] are patches of images[{source!r}], which the SpatialData object lacks.")
    top, left, bottom, right = (frame[name].to_numpy() for name in _BOX)
    layout = PatchLayout(
        image_shape(sdata, source),
        tuple(np.unique(top).tolist()),
        tuple(np.unique(left).tolist()),
        (int((bottom - top).max()), int((right - left).max())),
    )
    if len(layout) != len(frame) or any(tuple(layout.box(i)) != (top[i], left[i], bottom[i], right[i]) for i in range(len(frame))):
        raise InputError(
            f"shapes[{patches_key!r}] are not the whole grid of patches over images[{source!r}]; make them again with sjg.pp.patches and mark "
            f"those to skip in the column {INFORMATIVE_COLUMN!r} instead of removing rows."
        )
    informative = frame[INFORMATIVE_COLUMN].to_numpy(dtype=bool) if INFORMATIVE_COLUMN in frame else np.ones(len(frame), dtype=bool)
    return source, layout, informative
