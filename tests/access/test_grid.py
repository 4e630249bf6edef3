from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, ShapesModel
from spatialdata.transformations import Affine, BaseTransformation, Identity, Scale, set_transformation

from sjg.access import affine_matrix, apply_affine, image_pixel_size_um, labels_grid, nucleus_diameter_px, working_grid
from sjg.core import InputError


def _sdata(image: BaseTransformation, points: BaseTransformation, shape: tuple[int, int] = (100, 200)) -> SpatialData:
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0], "gene": ["a", "b"]})
    return SpatialData(
        images={"dapi": Image2DModel.parse(np.zeros((1, *shape), dtype=np.uint8), dims=("c", "y", "x"), transformations={"global": image})},
        points={"t": PointsModel.parse(frame, feature_key="gene", transformations={"global": points})},
    )


def _turned(scale: float, degrees: float, shift: tuple[float, float] = (0, 0)) -> Affine:
    angle = np.deg2rad(degrees)
    matrix = np.array(
        [
            [scale * np.cos(angle), -scale * np.sin(angle), shift[0]],
            [scale * np.sin(angle), scale * np.cos(angle), shift[1]],
            [0, 0, 1],
        ]
    )
    return Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y"))


#: how platforms lay out image and transcripts: transformations of both, and the pixel size
LAYOUTS = {
    "xenium": (Identity(), Scale([1 / 0.2125] * 2, axes=("x", "y")), 0.2125),
    "merscope": (Identity(), _turned(9.259, 0, (-300, 40)), 1 / 9.259),
    "global_in_um": (Scale([0.5, 0.5], axes=("x", "y")), Identity(), 0.5),
    "turned_image": (_turned(0.3, 30, (5, 6)), Identity(), 0.3),
    "both_in_pixels": (Identity(), Identity(), None),
    "both_scaled": (Scale([0.5, 0.5], axes=("x", "y")), Scale([0.5, 0.5], axes=("x", "y")), None),
    "millimetres": (Scale([2e-4] * 2, axes=("x", "y")), Identity(), None),
    "shrunk_image": (Scale([8.0, 8.0], axes=("x", "y")), Identity(), None),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_pixel_size_comes_from_the_frame_of_the_transcripts(layout):
    image, points, size = LAYOUTS[layout]
    found = image_pixel_size_um(_sdata(image, points), "dapi", "t")
    assert found == (None if size is None else pytest.approx(size))


def test_implausible_nuclei_refute_the_pixel_size():
    sdata = _sdata(Scale([2.0, 2.0], axes=("x", "y")), Identity())
    assert image_pixel_size_um(sdata, "dapi", "t", nucleus_diameter_px=6) == pytest.approx(2)
    assert image_pixel_size_um(sdata, "dapi", "t", nucleus_diameter_px=40) is None
    assert image_pixel_size_um(sdata, "dapi", None) is None


@pytest.mark.parametrize("layout", [name for name, row in LAYOUTS.items() if row[2] is not None])
def test_known_size_gives_half_a_micrometre(layout):
    image, points, size = LAYOUTS[layout]
    sdata = _sdata(image, points)
    grid = working_grid(sdata, "dapi", "t")
    assert grid.pixel_size_um == pytest.approx(0.5, rel=0.02)
    factor = grid.pixel_size_um / size
    assert grid.shape == (int(np.ceil(100 / factor - 1e-6)), int(np.ceil(200 / factor - 1e-6)))
    # a point of the image and the same point of the grid land on one spot
    image_xy = np.array([[0.0, 0.0], [123.4, 56.7]])
    there = apply_affine(affine_matrix(sdata, "dapi", "global"), image_xy)
    np.testing.assert_allclose(apply_affine(grid.matrix, image_xy / factor), there, atol=1e-6)


def test_unknown_size_keeps_nuclei_ten_pixels_wide():
    sdata = _sdata(Identity(), Identity())
    for diameter, factor in ((37.0, 3), (10.0, 1), (9.0, 1), (20.0, 2), (None, 1)):
        grid = working_grid(sdata, "dapi", "t", nucleus_diameter_px=diameter)
        assert grid.pixel_size_um is None
        np.testing.assert_array_equal(grid.matrix, np.diag([factor, factor, 1]))
        assert grid.shape == (-(-100 // factor), -(-200 // factor))


def test_given_size_and_resolution():
    sdata = _sdata(Identity(), Identity())
    assert working_grid(sdata, "dapi", "t", pixel_size_um=0.25).shape == (50, 100)
    grid = working_grid(sdata, "dapi", "t", pixel_size_um=0.25, resolution_um=1)
    assert grid.shape == (25, 50)
    assert grid.pixel_size_um == 1
    finer = working_grid(sdata, "dapi", "t", pixel_size_um=1.0)
    assert finer.shape == (200, 400)


def test_factor_near_a_whole_number_becomes_whole():
    grid = working_grid(_sdata(Identity(), Identity()), "dapi", "t", pixel_size_um=0.2475)
    np.testing.assert_array_equal(grid.matrix, np.diag([2, 2, 1]))
    assert grid.pixel_size_um == pytest.approx(0.495)


def test_oblong_pixels_give_a_square_grid():
    sdata = _sdata(Scale([0.25, 0.5], axes=("x", "y")), Identity(), shape=(100, 200))
    grid = working_grid(sdata, "dapi", "t")
    np.testing.assert_allclose(grid.matrix, np.diag([0.5, 0.5, 1]))
    assert grid.shape == (100, 100)
    assert grid.pixel_size_um == pytest.approx(0.5)


@given(factor=st.floats(0.5, 9), height=st.integers(1, 300), width=st.integers(1, 300))
def test_grid_covers_the_image_and_no_more_than_needed(factor, height, width):
    sdata = _sdata(Identity(), Identity(), shape=(height, width))
    grid = working_grid(sdata, "dapi", "t", pixel_size_um=0.5 / factor)
    used = grid.matrix[0, 0]
    for n_grid, n_image in zip(grid.shape, (height, width), strict=True):
        assert n_grid * used >= n_image - 1e-4
        assert (n_grid - 1) * used < n_image


@pytest.mark.parametrize("name", ["resolution_um", "pixel_size_um"])
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_lengths_must_be_positive(name, value):
    with pytest.raises(InputError, match=f"{name}="):
        working_grid(_sdata(Identity(), Identity()), "dapi", "t", **{name: value})


def test_resolution_without_a_pixel_size_says_what_to_pass():
    with pytest.raises(InputError, match="pass pixel_size_um="):
        working_grid(_sdata(Identity(), Identity()), "dapi", "t", resolution_um=0.5)


def test_no_transformation_to_the_coordinate_system():
    sdata = _sdata(Identity(), Identity())
    with pytest.raises(InputError, match=r"'dapi' has no transformation to coordinate system 'aligned'.*'global'"):
        working_grid(sdata, "dapi", "t", coordinate_system="aligned")
    set_transformation(sdata["dapi"], {"mine": Identity()}, set_all=True)
    with pytest.raises(InputError, match="'dapi' has no transformation"):
        working_grid(sdata, "dapi", "t")


def test_flat_transformation_is_refused():
    flat = Affine(np.array([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]]), input_axes=("x", "y"), output_axes=("x", "y"))
    with pytest.raises(InputError, match="cannot be inverted"):
        working_grid(_sdata(flat, Identity()), "dapi", "t")


def test_diameter_of_nuclei_in_image_pixels(make_sdata):
    sdata = make_sdata()
    expected = 2 * np.sqrt(144 / np.pi)
    assert nucleus_diameter_px(sdata, "nuclei", "dapi") == pytest.approx(expected)
    sdata.labels["half"] = Labels2DModel.parse(
        np.kron(sdata["nuclei"].to_numpy(), np.ones((2, 2), dtype=np.int32)),
        dims=("y", "x"),
        chunks=(16, 16),
        transformations={"global": Scale([0.25, 0.25], axes=("x", "y"))},
    )
    assert nucleus_diameter_px(sdata, "half", "dapi") == pytest.approx(expected)
    sdata.shapes["round"] = ShapesModel.parse(np.array([[10.0, 10.0], [30, 30]]), geometry=0, radius=3.0)
    assert nucleus_diameter_px(sdata, "round", "dapi") == pytest.approx(12)
    assert nucleus_diameter_px(sdata, None, "dapi") is None


def test_labels_have_their_own_grid(make_sdata):
    grid = labels_grid(make_sdata(), "nuclei")
    assert grid.shape == (90, 120)
    np.testing.assert_array_equal(grid.matrix, np.diag([0.5, 0.5, 1]))
