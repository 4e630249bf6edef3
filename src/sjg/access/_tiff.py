"""TIFF planes as lazy arrays."""

from __future__ import annotations

from os import PathLike

import dask.array as da
import tifffile
import zarr

from sjg.core import InputError

#: pixels of a chunk; a chunk is a whole number of the file's own strips or tiles, so that none is decoded twice
_CHUNK_PIXELS = 2048 * 2048


def lazy_tiff(path: str | PathLike[str], *, ndim: int = 2) -> da.Array:
    """The full-resolution raster of a TIFF file as a dask array; pixels are read when they are needed.

    Parameters
    ----------
    path
        The file. Of a pyramid only the largest level is used.
    ndim
        Axes of the result; axes of length 1 are dropped to reach it.

    Returns
    -------
    Array with `ndim` axes.

    Raises
    ------
    InputError
        The file is no TIFF or has another number of axes.
    """
    try:
        stored = zarr.open_array(tifffile.imread(path, aszarr=True, series=0, level=0), mode="r")
    except (tifffile.TiffFileError, OSError) as error:
        raise InputError(f"{str(path)!r} cannot be read as TIFF ({error}): check the path, or fetch the file again.") from error
    own = stored.chunks
    height_chunk = own[-2] * max(1, _CHUNK_PIXELS // (own[-1] * own[-2]))
    array = da.from_array(stored, chunks=(*own[:-2], min(height_chunk, stored.shape[-2]), own[-1]), name=False)
    for axis in reversed(range(array.ndim)):
        if array.ndim > ndim and array.shape[axis] == 1:
            array = array.squeeze(axis)
    if array.ndim != ndim:
        raise InputError(f"{str(path)!r} has shape {stored.shape}; expected {ndim} axes.")
    # tiled files have small tiles in both directions: join them sideways too
    side = int(_CHUNK_PIXELS**0.5)
    if array.chunksize[-1] < min(side, array.shape[-1]):
        array = array.rechunk({array.ndim - 1: own[-1] * max(1, side // own[-1]), array.ndim - 2: own[-2] * max(1, side // own[-2])})
    return array
