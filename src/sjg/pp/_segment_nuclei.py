"""Nuclei from an image of a SpatialData object."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from spatialdata.models import Labels2DModel, Labels3DModel
from spatialdata.transformations import BaseTransformation, Scale, Sequence, get_transformation

from sjg import access
from sjg._logging import logger
from sjg.access._raster import iter_blocks, raster_levels
from sjg.core import InputError, release, scratch_zeros
from sjg.imaging import watershed_nuclei, watershed_volume
from sjg.imaging._segmenters import checked_labels

if TYPE_CHECKING:
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

#: what segments nuclei: an image (y, x) in, labels of the same shape out
NucleiMethod = Literal["watershed"] | Callable[[NDArray[Any]], Any]
#: side of the chunks of written labels
_CHUNK_PX = 2048


def segment_nuclei(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    channel: str | int | None = None,
    method: NucleiMethod = "watershed",
    diameter_um: float | None = None,
    diameter_px: float | None = None,
    pixel_size_um: float | None = None,
    z_step_px: float = 1.0,
    scale: str | None = None,
    coordinate_system: str = "global",
    key_added: str = "nuclei",
    overwrite: bool = False,
) -> None:
    """Segment the nuclei of an image, or of a 3-D stack that fits in memory.

    Parameters
    ----------
    sdata
        The object, changed in place.
    image_key
        The image; None takes the only one.
    channel
        Name (or index) of the nuclear channel; None takes the only one, or the one named like a nuclear stain (``dapi``, ``hoechst``,
        ``draq5``, ``nuc...``).
    method
        ``"watershed"``, which needs no weights, or any function that takes the channel as a (y, x) array and returns labels of the
        same shape, e.g. ``lambda image: cellpose_model.eval(image)[0]`` or ``lambda image: stardist_model.predict_instances(image)[0]``
        with a model that you loaded. Ids may have gaps; 0 is the background.
    diameter_um
        Typical diameter of the nuclei in micrometres, for the watershed; None estimates it.
    diameter_px
        The same in pixels of the image; give at most one of the two.
    pixel_size_um
        Side of a pixel of the image in micrometres, for `diameter_um`; None deduces it from the frame of the transcripts.
    z_step_px
        Distance between the planes of a 3-D stack, in pixel sides of the planes, for the watershed.
    scale
        Level of a multiscale image, e.g. ``"scale1"``; None takes the finest.
    coordinate_system
        Where image and transcripts meet, to deduce the pixel size.
    key_added
        Key of the labels.
    overwrite
        Whether labels of that name may be replaced.

    Returns
    -------
    None, and writes

    ``labels[key_added]``
        int32 (y, x), or (z, y, x) for a stack, 0 = background, ids 1..n without gaps, dask-backed, with the transformations of the image (and a scale where a
        coarser level was segmented).

    Raises
    ------
    MissingElementError
        No image, or none of that name.
    AmbiguousElementError
        Several images and none chosen.
    ExistingElementError
        The labels exist and `overwrite` is False.
    InputError
        No such channel, level or method; an image that is empty or constant; a function that does not return labels; no nucleus.

    See Also
    --------
    sjg.pp.annotate_nuclei : counts and types of the nuclei.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(96, 96))
    >>> sjg.pp.segment_nuclei(sdata, key_added="found")
    >>> sdata["found"].dims
    ('y', 'x')
    """
    image_key = access.choose_image(sdata, image_key, allow_stack=True)
    index = access.choose_channel(sdata, image_key, channel)
    if not z_step_px > 0:
        raise InputError(f"z_step_px={z_step_px!r} must be a positive length.")
    if not callable(method) and method != "watershed":
        raise InputError(
            f"method={method!r} is not built in; valid are 'watershed' and any function (y, x) image -> labels. With Cellpose or StarDist "
            "installed and a model loaded from your weights: method=lambda image: model.eval(image)[0] (Cellpose), or "
            "method=lambda image: model.predict_instances(image)[0] (StarDist)."
        )
    access.check_new_keys(sdata, {"labels": [key_added]}, key_added=key_added, overwrite=overwrite)
    level = _level(sdata.images[image_key], scale, image_key)
    full = raster_levels(sdata.images[image_key])[0]
    factors = (full.sizes["y"] / level.sizes["y"], full.sizes["x"] / level.sizes["x"])
    diameter = access.length_px(
        sdata, image_key, um=diameter_um, px=diameter_px, pixel_size_um=pixel_size_um, coordinate_system=coordinate_system
    )
    dims = tuple(name for name in ("z", "y", "x") if name in level.dims)
    plane = _read(level.isel(c=index).transpose(*dims).data)
    if plane.size == 0 or plane.min() == plane.max():
        what = "empty" if plane.size == 0 else f"constant (every pixel {plane.flat[0]:g})"
        raise InputError(
            f"images[{image_key!r}] is {what} in channel {index}: no nuclei can be seen; choose another with channel= or image_key=."
        )
    if callable(method):
        labels = checked_labels(method(plane), plane.shape)
    elif plane.ndim == 3:
        labels = watershed_volume(plane, diameter_px=diameter, spacing=(z_step_px, 1.0, 1.0))
    else:
        diameter = None if diameter is None else diameter / float(np.sqrt(np.prod(factors)))
        labels = watershed_nuclei(plane, diameter_px=diameter, spread=access.starmap_in_order)
    labels, ids = access.number_from_one(labels)
    if ids.size == 0:
        raise InputError(
            f"No nucleus was found in channel {index} of images[{image_key!r}]; check that it shows nuclei bright on dark (channel=), "
            "give their size (diameter_um= or diameter_px=), or pass another method."
        )
    logger.info("%d nuclei in images[%r]", ids.size, image_key)
    model = Labels2DModel if labels.ndim == 2 else Labels3DModel
    element = model.parse(
        labels,
        dims=dims,
        chunks=tuple(min(_CHUNK_PX, size) for size in labels.shape),
        transformations=_transformations(sdata, image_key, factors),
    )
    access.attach(sdata, access.Outputs(labels={key_added: element}))


def _read(array: Any) -> NDArray[Any]:
    """The pixels, chunk by chunk; of a large plane in a working file."""
    if array.ndim != 2:
        return np.asarray(array)
    plane = scratch_zeros(array.shape, array.dtype)
    for top, left, block in iter_blocks(array):
        plane[top : top + block.shape[0], left : left + block.shape[1]] = block
        release(plane)
    return plane


def _level(element: DataArray | DataTree, scale: str | None, image_key: str) -> DataArray:
    levels = raster_levels(element)
    if scale is None:
        return levels[0]
    names = list(element) if len(levels) > 1 else ["scale0"]
    if scale not in names:
        raise InputError(f"scale={scale!r} is no level of images[{image_key!r}]; there are: {', '.join(map(repr, names))}.")
    return levels[names.index(scale)]


def _transformations(sdata: SpatialData, image_key: str, factors: tuple[float, float]) -> dict[str, BaseTransformation]:
    """Those of the image, after the step from the pixels of a coarser level (y, x) to its own."""
    transformations: Any = get_transformation(sdata.images[image_key], get_all=True)
    if factors == (1.0, 1.0):
        return dict(transformations)
    to_finest = Scale([factors[1], factors[0]], axes=("x", "y"))
    return {name: Sequence([to_finest, transformation]) for name, transformation in transformations.items()}
