from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from spatialdata import SpatialData
from spatialdata.models import Image2DModel
from spatialdata.transformations import Identity, Scale

from sjg.access import read_image, working_grid
from sjg.core import Grid, InputError


def _sdata(image: NDArray, **options: object) -> SpatialData:
    if image.ndim == 2:
        image = image[None]
    return SpatialData(images={"dapi": Image2DModel.parse(image, dims=("c", "y", "x"), transformations={"global": Identity()}, **options)})


def _grid(shape: tuple[int, int], factor: float) -> Grid:
    return Grid(
        shape=(max(1, int(np.ceil(shape[0] / factor - 1e-6))), max(1, int(np.ceil(shape[1] / factor - 1e-6)))),
        matrix=np.diag([factor, factor, 1.0]),
    )


def _naive(image: NDArray, grid: Grid) -> NDArray[np.float64]:
    """The mean over each grid pixel, overlap by overlap."""
    factor = grid.matrix[0, 0]
    result = np.zeros(grid.shape)
    for row in range(grid.shape[0]):
        for column in range(grid.shape[1]):
            total = area = 0.0
            for y in range(image.shape[0]):
                for x in range(image.shape[1]):
                    across = max(0.0, min(x + 1, (column + 1) * factor) - max(x, column * factor))
                    down = max(0.0, min(y + 1, (row + 1) * factor) - max(y, row * factor))
                    total += across * down * image[y, x]
                    area += across * down
            result[row, column] = total / area
    return result


@given(factor=st.floats(0.6, 5), height=st.integers(2, 9), width=st.integers(2, 9), seed=st.integers(0, 99))
def test_mean_over_area(factor, height, width, seed):
    image = np.random.default_rng(seed).integers(0, 255, (height, width)).astype(np.uint8)
    grid = _grid(image.shape, factor)
    expected = _naive(image, grid)
    if expected.min() == expected.max():
        return
    np.testing.assert_allclose(read_image(_sdata(image), "dapi", grid), expected, atol=1e-2, rtol=1e-4)


def test_factor_one_is_the_image():
    image = np.random.default_rng(0).integers(0, 60000, (70, 50)).astype(np.uint16)
    np.testing.assert_array_equal(read_image(_sdata(image), "dapi", _grid(image.shape, 1)), image)


@pytest.mark.parametrize("factor", [1, 2, 2.35, 3.7])
def test_chunks_change_nothing(factor):
    image = np.random.default_rng(0).integers(0, 255, (101, 77)).astype(np.uint8)
    grid = _grid(image.shape, factor)
    whole = read_image(_sdata(image), "dapi", grid)
    pieces = read_image(_sdata(image, chunks={"c": 1, "y": 13, "x": 17}), "dapi", grid)
    np.testing.assert_allclose(pieces, whole, rtol=1e-5)


@pytest.mark.parametrize(("factor", "tolerance"), [(1, 1e-6), (2, 1e-6), (2.35, 1e-6), (3, 1e-6), (4, 1e-6), (8, 1e-6), (5.3, 0.06)])
def test_pyramid_gives_what_the_full_image_gives(factor, tolerance):
    image = ndimage.gaussian_filter(np.random.default_rng(0).uniform(0, 10, (96, 128)), 4).astype(np.float32)
    grid = _grid(image.shape, factor)
    flat = read_image(_sdata(image), "dapi", grid)
    np.testing.assert_allclose(read_image(_sdata(image, scale_factors=[2, 2]), "dapi", grid), flat, atol=tolerance)


def test_only_the_level_needed_is_read():
    image = np.random.default_rng(0).uniform(0, 1, (64, 64)).astype(np.float32)
    sdata = _sdata(image, scale_factors=[2, 2])
    # the full level would spoil the result
    sdata["dapi"]["scale0"]["image"][:] = np.nan
    assert np.isfinite(read_image(sdata, "dapi", _grid(image.shape, 4))).all()


def test_channel_is_found_by_name():
    image = np.stack([np.zeros((4, 6)), np.arange(24).reshape(4, 6)]).astype(np.uint8)
    sdata = _sdata(image, c_coords=["polyT", "DAPI"])
    np.testing.assert_array_equal(read_image(sdata, "dapi", _grid((4, 6), 1)), image[1])
    with pytest.raises(InputError, match="constant"):
        read_image(sdata, "dapi", _grid((4, 6), 1), channel="polyT")


def test_holes_count_as_dark_and_all_holes_are_an_error():
    image = np.ones((4, 4), dtype=np.float32)
    image[0, 0] = np.nan
    assert read_image(_sdata(image), "dapi", _grid((4, 4), 1)).tolist()[0] == [0, 1, 1, 1]
    with pytest.raises(InputError, match="no finite pixel"):
        read_image(_sdata(np.full((4, 4), np.inf, dtype=np.float32)), "dapi", _grid((4, 4), 1))


def test_constant_image_names_the_element():
    with pytest.raises(InputError, match=r"images\['dapi'\] is constant \(every pixel 7\)"):
        read_image(_sdata(np.full((5, 5), 7, dtype=np.uint8)), "dapi", _grid((5, 5), 2))


def test_grid_of_another_image_is_refused(make_sdata):
    sdata = make_sdata()
    shifted = Grid(shape=(4, 4), matrix=np.array([[0.5, 0, 3], [0, 0.5, 0], [0, 0, 1.0]]))
    with pytest.raises(InputError, match="not aligned"):
        read_image(sdata, "dapi", shifted)


def test_reads_the_grid_of_a_scaled_image(make_sdata):
    sdata = make_sdata()
    full = sdata["dapi"].to_numpy()[0]
    grid = working_grid(sdata, "dapi", "transcripts", resolution_um=1.5)
    np.testing.assert_allclose(read_image(sdata, "dapi", grid), full.reshape(30, 3, 40, 3).mean(axis=(1, 3)), rtol=1e-5)
    assert Scale([0.5, 0.5], axes=("x", "y")) == sdata["dapi"].attrs["transform"]["global"]
