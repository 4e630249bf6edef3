"""The part of the tissue that a plot shows, and elements sampled into it at display resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from spatialdata import get_extent
from spatialdata.models import get_channel_names

from sjg.access import affine_matrix, apply_affine
from sjg.core import Grid, InputError, MissingElementError

if TYPE_CHECKING:
    import pandas as pd
    from spatialdata import SpatialData
    from xarray import DataArray, DataTree

Crop = tuple[float, float, float, float]


@dataclass(frozen=True)
class View:
    """An axis-aligned window of a coordinate system and its display raster.

    Parameters
    ----------
    crop
        (x0, x1, y0, y1) in units of the coordinate system.
    shape
        (height, width) of the display raster.
    coordinate_system
        Its name.
    """

    crop: Crop
    shape: tuple[int, int]
    coordinate_system: str

    @property
    def extent(self) -> Crop:
        """The ``extent`` of ``imshow(..., origin="upper")``: left, right, bottom, top, with y growing downwards."""
        x0, x1, y0, y1 = self.crop
        return x0, x1, y1, y0

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(3, 3) affine from display pixels (x, y, 1) to the coordinate system."""
        x0, x1, y0, y1 = self.crop
        height, width = self.shape
        return np.array([[(x1 - x0) / width, 0.0, x0], [0.0, (y1 - y0) / height, y0], [0.0, 0.0, 1.0]])

    @property
    def grid(self) -> Grid:
        """The display raster as a grid."""
        return Grid(shape=self.shape, matrix=self.matrix)


def make_view(sdata: SpatialData, key: str, crop: Crop | None, coordinate_system: str, max_size_px: int) -> View:
    """A window over `crop`, or over the whole of an element, with at most `max_size_px` display pixels along its longer side."""
    affine_matrix(sdata, key, coordinate_system)
    if crop is None:
        extent = get_extent(sdata[key], coordinate_system=coordinate_system)
        window = (*extent["x"], *extent["y"])
    else:
        window = check_crop(crop)
    x0, x1, y0, y1 = (float(value) for value in window)
    scale = max_size_px / max(x1 - x0, y1 - y0)
    shape = (max(1, round((y1 - y0) * scale)), max(1, round((x1 - x0) * scale)))
    return View((x0, x1, y0, y1), shape, coordinate_system)


def check_crop(crop: Crop) -> Crop:
    """`crop` as four finite numbers with x0 < x1 and y0 < y1."""
    try:
        x0, x1, y0, y1 = (float(value) for value in crop)
    except (TypeError, ValueError) as error:
        raise InputError(f"crop={crop!r}: give (x0, x1, y0, y1) in units of the coordinate system") from error
    if not (np.isfinite([x0, x1, y0, y1]).all() and x0 < x1 and y0 < y1):
        raise InputError(f"crop={crop!r}: x0 < x1 and y0 < y1 are needed, in the order (x0, x1, y0, y1)")
    return x0, x1, y0, y1


def sample_labels(sdata: SpatialData, key: str, view: View) -> NDArray[np.int64]:
    """Labels at the centres of the display pixels (nearest neighbour), 0 outside the element."""
    sampled = _sample(sdata, key, view, channel=None)
    if not np.issubdtype(sampled.dtype, np.integer):
        raise InputError(f"labels[{key!r}] holds {sampled.dtype} values; labels must be integers")
    return sampled.astype(np.int64)


def sample_image(sdata: SpatialData, key: str, view: View, channel: str | int | None) -> NDArray[np.float32]:
    """One channel of an image, averaged to about the display resolution, NaN outside the element."""
    return _sample(sdata, key, view, channel=_channel_index(sdata, key, channel))


def channel_names(sdata: SpatialData, key: str) -> list[str]:
    """Names of the channels of an image."""
    return [str(name) for name in get_channel_names(sdata.images[key])]


def _channel_index(sdata: SpatialData, key: str, channel: str | int | None) -> int:
    names = channel_names(sdata, key)
    if channel is None:
        # a plot needs something to show, so it does not insist on a nuclear stain as a run does
        return next((i for i, name in enumerate(names) if name.lower() in {"dapi", "nuclei", "hoechst"}), 0)
    if str(channel) in names:
        return names.index(str(channel))
    if isinstance(channel, int) and 0 <= channel < len(names):
        return channel
    raise MissingElementError(f"images[{key!r}] has no channel {channel!r}; its channels: {names}")


def _levels(element: DataArray | DataTree) -> list[DataArray]:
    """The resolutions of an element, finest first."""
    levels: list[Any] = [next(iter(element[scale].data_vars.values())) for scale in element] if hasattr(element, "children") else [element]
    return sorted(levels, key=lambda level: -level.sizes["x"])


def _sample(sdata: SpatialData, key: str, view: View, *, channel: int | None) -> NDArray[Any]:
    """Nearest pixel of a fitting resolution for every display pixel; only what is seen is read, in strides or means where it is large."""
    levels = [level.isel(c=channel) if channel is not None else level for level in _levels(sdata[key])]
    to_full = np.linalg.inv(affine_matrix(sdata, key, view.coordinate_system)) @ view.matrix
    step = float(np.sqrt(abs(np.linalg.det(to_full[:2, :2]))))
    full = levels[0]
    level = [one for one in levels if full.sizes["x"] / one.sizes["x"] <= max(step, 1.0) * 1.01][-1]
    fx, fy = level.sizes["x"] / full.sizes["x"], level.sizes["y"] / full.sizes["y"]
    to_level = np.diag([fx, fy, 1.0]) @ to_full
    stride = max(1, int(step * fx + 1e-6))

    height, width = view.shape
    rows, columns = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij", sparse=True)
    x = np.floor(to_level[0, 0] * columns + to_level[0, 1] * rows + to_level[0, 2]).astype(np.int64)
    y = np.floor(to_level[1, 0] * columns + to_level[1, 1] * rows + to_level[1, 2]).astype(np.int64)
    inside = (x >= 0) & (y >= 0) & (x < level.sizes["x"]) & (y < level.sizes["y"])
    out = np.full(view.shape, np.nan if channel is not None else 0, dtype=np.float32 if channel is not None else level.dtype)
    if not inside.any():
        return out
    # means are taken around the sampled pixels, labels at them
    reach = stride // 2 if channel is not None else 0
    y0, x0 = max(int(y[inside].min()) - reach, 0), max(int(x[inside].min()) - reach, 0)
    window = level.isel(y=slice(y0, int(y[inside].max()) + reach + 1), x=slice(x0, int(x[inside].max()) + reach + 1))
    if channel is not None and stride > 1:
        values = np.asarray(window.astype(np.float32).coarsen(y=stride, x=stride, boundary="pad").mean().data)
    else:
        # the middle of each block of stride x stride pixels, so that none is farther than half a stride from what stands for it
        middle = {axis: np.minimum(np.arange(0, n, stride) + stride // 2, n - 1) for axis, n in window.sizes.items()}
        values = np.asarray(window.isel(middle).data)
    out[inside] = values[(y[inside] - y0) // stride, (x[inside] - x0) // stride]
    return out


def points_in_view(sdata: SpatialData, points_key: str, view: View, columns: list[str]) -> pd.DataFrame:
    """Rows of a points element inside the window: ``x`` and ``y`` in the coordinate system, and `columns`."""
    points = sdata.points[points_key]
    affine = affine_matrix(sdata, points_key, view.coordinate_system)
    x0, x1, y0, y1 = view.crop
    corners = apply_affine(np.asarray(np.linalg.inv(affine), dtype=np.float64), np.array([[x0, y0], [x1, y0], [x0, y1], [x1, y1]]))
    (left, top), (right, bottom) = corners.min(axis=0), corners.max(axis=0)
    near = points[["x", "y", *columns]]
    near = near[(near["x"] >= left) & (near["x"] <= right) & (near["y"] >= top) & (near["y"] <= bottom)].compute()
    xy = apply_affine(affine, near[["x", "y"]].to_numpy(dtype=np.float64))
    near = near.assign(x=xy[:, 0], y=xy[:, 1])
    return near[(near["x"] >= x0) & (near["x"] <= x1) & (near["y"] >= y0) & (near["y"] <= y1)]
