"""Channels of an image as lazy planes, read box by box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from spatialdata.models import get_channel_names

from sjg.access._choose import choose_channel
from sjg.access._frames import affine_matrix
from sjg.access._pixel_size import known_pixel_size_um
from sjg.access._raster import raster_levels
from sjg.core import Grid, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from sjg.imaging import Box


def choose_planes(sdata: SpatialData, image_key: str, channels: Sequence[str | int] | str | int | None) -> list[int]:
    """Indices of several channels; None takes all, a single name or index is a list of one.

    Raises
    ------
    InputError
        No such channel, or one of them twice.
    """
    if channels is None:
        return list(range(len(get_channel_names(sdata.images[image_key]))))
    wanted = [channels] if isinstance(channels, str | int) else list(channels)
    indices = [choose_channel(sdata, image_key, channel) for channel in wanted]
    if len(set(indices)) < len(indices):
        raise InputError(f"A channel of images[{image_key!r}] is named twice: {wanted}.")
    return indices


def channel_names(sdata: SpatialData, image_key: str, indices: Sequence[int]) -> list[str]:
    """Names of channels as text."""
    names = [str(name) for name in get_channel_names(sdata.images[image_key])]
    return [names[index] for index in indices]


def image_shape(sdata: SpatialData, image_key: str) -> tuple[int, int]:
    """(height, width) of the finest level."""
    level = raster_levels(sdata.images[image_key])[0]
    return int(level.sizes["y"]), int(level.sizes["x"])


def channel_planes(sdata: SpatialData, image_key: str, indices: Sequence[int]) -> list[da.Array]:
    """Lazy (y, x) arrays of the finest level, one for each channel."""
    level = raster_levels(sdata.images[image_key])[0]
    return [da.asarray(level.isel(c=index).transpose("y", "x").data) for index in indices]


def read_box(planes: Sequence[da.Array], box: Box) -> NDArray[Any]:
    """(channel, y, x) pixels of a box; only the chunks that it touches are read, each once."""
    stacked: NDArray[Any] = da.stack([plane[box.slices] for plane in planes]).compute(scheduler="single-threaded")
    return stacked


def length_px(
    sdata: SpatialData,
    image_key: str,
    *,
    um: float | None,
    px: float | None,
    pixel_size_um: float | None = None,
    coordinate_system: str = "global",
    name: str = "diameter",
) -> float | None:
    """A length in pixels of the image, which the user gave in micrometres or in pixels, or not at all.

    Raises
    ------
    InputError
        Both were given, one is not positive, or no pixel size is known.
    """
    for argument, value in ((f"{name}_um", um), (f"{name}_px", px), ("pixel_size_um", pixel_size_um)):
        if value is not None and not (np.isfinite(value) and value > 0):
            raise InputError(f"{argument}={value!r} must be a positive length.")
    if um is None:
        return px
    if px is not None:
        raise InputError(f"{name}_um and {name}_px are both given; give one of them.")
    return um / known_pixel_size_um(
        sdata, image_key, pixel_size_um, coordinate_system=coordinate_system, purpose=f"{name}_um={um!r}", instead=f"{name}_px"
    )


def image_grid(sdata: SpatialData, image_key: str, *, coordinate_system: str = "global") -> Grid:
    """The own pixels of an image as a grid."""
    return Grid(shape=image_shape(sdata, image_key), matrix=affine_matrix(sdata, image_key, coordinate_system))
