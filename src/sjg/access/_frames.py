"""Coordinate systems: every element reaches every other through an affine matrix."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from spatialdata.transformations import get_transformation

from sjg.core import Grid, InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData


def choose_coordinate_system(sdata: SpatialData, keys: Iterable[str], coordinate_system: str = "global") -> str:
    """Check that every element of `keys` has a transformation to `coordinate_system` and return its name.

    Raises
    ------
    InputError
        An element has none; the message lists the coordinate systems that all the elements share.
    """
    names = [key for key in keys if key is not None]
    systems = {key: set(get_transformation(sdata[key], get_all=True)) for key in names}
    lacking = [key for key in names if coordinate_system not in systems[key]]
    if lacking:
        shared = sorted(set.intersection(*systems.values()))
        mend = (
            f"all the elements share {shared}: pass e.g. coordinate_system={shared[0]!r}"
            if shared
            else "they share none: add one with spatialdata.transformations.set_transformation"
        )
        raise InputError(f"{_quoted(lacking)} has no transformation to coordinate system {coordinate_system!r}; {mend}.")
    return coordinate_system


def affine_matrix(sdata: SpatialData, key: str, coordinate_system: str) -> NDArray[np.float64]:
    """(3, 3) matrix from the own frame of element `key` to `coordinate_system`, for homogeneous ``(x, y, 1)``.

    Raises
    ------
    InputError
        No such transformation, not an affine of the plane, or not invertible.
    """
    choose_coordinate_system(sdata, [key], coordinate_system)
    transformation: Any = get_transformation(sdata[key], to_coordinate_system=coordinate_system)
    try:
        matrix = np.asarray(transformation.to_affine_matrix(("x", "y"), ("x", "y")), dtype=np.float64)
    except ValueError as error:
        raise InputError(
            f"The transformation of {key!r} to {coordinate_system!r} is no affine map of the (x, y) plane ({error}); "
            "set an affine one with spatialdata.transformations.set_transformation."
        ) from error
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix[:2, :2])) < 1e-12:
        raise InputError(
            f"The transformation of {key!r} to {coordinate_system!r} cannot be inverted (matrix {matrix.tolist()}); "
            "set a valid one with spatialdata.transformations.set_transformation."
        )
    return matrix


def apply_affine(matrix: NDArray[np.float64], xy: NDArray[Any]) -> NDArray[np.float64]:
    """Map (N, 2) points ``(x, y)`` by a (3, 3) affine `matrix`.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.access import apply_affine
    >>> apply_affine(np.diag([2.0, 3.0, 1.0]), np.array([[1, 1]])).tolist()
    [[2.0, 3.0]]
    """
    xy = np.asarray(xy, dtype=np.float64)
    mapped: NDArray[np.float64] = xy @ matrix[:2, :2].T + matrix[:2, 2]
    return mapped


def grid_extent(grid: Grid) -> tuple[float, float, float, float]:
    """(x_min, y_min, x_max, y_max) of `grid` in its coordinate system."""
    height, width = grid.shape
    return xy_extent(apply_affine(grid.matrix, np.array([[0, 0], [width, 0], [0, height], [width, height]])))


def xy_extent(xy: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """(x_min, y_min, x_max, y_max) of (N, 2) points."""
    low, high = xy.min(axis=0), xy.max(axis=0)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def format_extent(extent: tuple[float, float, float, float]) -> str:
    """Text of an extent for a message."""
    x_min, y_min, x_max, y_max = extent
    return f"x {x_min:.6g} to {x_max:.6g}, y {y_min:.6g} to {y_max:.6g}"


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
