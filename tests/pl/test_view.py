from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel
from spatialdata.transformations import Affine, Identity

from sjg.core import InputError, MissingElementError
from sjg.pl._view import View, make_view, points_in_view, sample_image, sample_labels


def labelled(array: np.ndarray, transformation, **arguments) -> SpatialData:
    return SpatialData(
        labels={"cells": Labels2DModel.parse(array, dims=("y", "x"), transformations={"global": transformation}, **arguments)}
    )


def test_identity_view_is_the_element():
    array = np.arange(12, dtype=np.int32).reshape(3, 4)
    sdata = labelled(array, Identity())
    view = make_view(sdata, "cells", None, "global", 4)
    assert view.crop == (0, 4, 0, 3)
    assert np.array_equal(sample_labels(sdata, "cells", view), array)
    assert np.array_equal(sample_labels(sdata, "cells", View((1, 3, 1, 3), (2, 2), "global")), array[1:3, 1:3])


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_rotated_elements_are_drawn_rotated(turn):
    array = np.arange(1, 17, dtype=np.int32).reshape(4, 4)
    # np.rot90 turns counter-clockwise with y down: (x, y) -> (y, 4 - x)
    once = np.array([[0, 1, 0], [-1, 0, 4], [0, 0, 1]], dtype=float)
    matrix = np.linalg.matrix_power(once, turn)
    sdata = labelled(array, Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y")))
    assert np.array_equal(sample_labels(sdata, "cells", View((0, 4, 0, 4), (4, 4), "global")), np.rot90(array, turn))


def test_outside_is_background_and_nan():
    sdata = labelled(np.ones((2, 2), dtype=np.int32), Identity())
    sdata.images["dapi"] = Image2DModel.parse(np.ones((1, 2, 2), dtype=np.float32), dims=("c", "y", "x"))
    view = View((-2, 4, -2, 4), (6, 6), "global")
    labels, image = sample_labels(sdata, "cells", view), sample_image(sdata, "dapi", view, None)
    expected = np.zeros((6, 6), dtype=int)
    expected[2:4, 2:4] = 1
    assert np.array_equal(labels, expected)
    assert np.array_equal(np.isfinite(image), expected == 1)
    away = View((10, 12, 10, 12), (2, 2), "global")
    assert not sample_labels(sdata, "cells", away).any()


def test_small_views_of_large_images_are_means():
    array = np.random.default_rng(0).random((1, 64, 96)).astype(np.float32)
    sdata = SpatialData(images={"dapi": Image2DModel.parse(array, dims=("c", "y", "x"))})
    found = sample_image(sdata, "dapi", View((0, 96, 0, 64), (8, 12), "global"), None)
    assert np.allclose(found, array[0].reshape(8, 8, 12, 8).mean(axis=(1, 3)), atol=1e-4)


def test_a_pyramid_shows_the_same_picture():
    # a ramp, because the levels of a pyramid are not means of the finest
    array = np.add.outer(np.arange(64.0), np.arange(96.0))[None].astype(np.float32)
    view = View((0, 96, 0, 64), (8, 12), "global")
    pictures = []
    for factors in (None, [2, 2]):
        sdata = SpatialData(images={"dapi": Image2DModel.parse(array, dims=("c", "y", "x"), scale_factors=factors)})
        pictures.append(sample_image(sdata, "dapi", view, None))
    assert np.abs(pictures[0] - pictures[1]).max() <= 4  # half a display pixel in both directions is 8


def test_multiscale_labels_agree_with_single_scale():
    array = np.kron(np.arange(1, 17, dtype=np.int32).reshape(4, 4), np.ones((16, 16), dtype=np.int32))
    view = View((0, 64, 0, 64), (8, 8), "global")
    single, pyramid = labelled(array, Identity()), labelled(array, Identity(), scale_factors=[2, 2])
    assert np.array_equal(sample_labels(single, "cells", view), sample_labels(pyramid, "cells", view))


def test_points_in_view_are_moved_and_clipped(sdata):
    view = View((0, 25, 0, 25), (50, 50), "global")
    rows = points_in_view(sdata, "transcripts", view, ["gene"])
    assert rows[["x", "y"]].to_numpy().tolist() == [[15.0, 15.0]]
    assert rows["gene"].tolist() == ["Gad1"]


@pytest.mark.parametrize("crop", [(0, 0, 0, 1), (2, 1, 0, 1), (0, 1, 0), (0, np.nan, 0, 1), "abcd", (0, np.inf, 0, 1)])
def test_bad_crops(sdata, crop):
    with pytest.raises(InputError, match="x0"):
        make_view(sdata, "sjg_cells", crop, "global", 100)


def test_unknown_coordinate_system(sdata):
    with pytest.raises(InputError, match="'global', 'pixels'"):
        make_view(sdata, "sjg_cells", None, "nope", 100)


def test_channels_by_name_and_number(sdata):
    view = View((0, 60, 0, 50), (5, 6), "global")
    assert np.median(sample_image(sdata, "maps", view, "Plp1")) == pytest.approx(3.0, abs=0.05)
    assert np.median(sample_image(sdata, "maps", view, 2)) == pytest.approx(2.0, abs=0.05)
    with pytest.raises(MissingElementError, match="Aqp4"):
        sample_image(sdata, "maps", view, "nope")


@given(shape=st.tuples(st.integers(3, 40), st.integers(3, 40)), size=st.integers(1, 60), shift=st.floats(0, 0.9))
def test_every_display_pixel_is_within_half_a_display_pixel_of_its_place(shape, size, shift):
    # labels that say where they are
    array = (np.arange(shape[0])[:, None] * 1000 + np.arange(shape[1])[None, :] + 1).astype(np.int32)
    sdata = labelled(array, Identity())
    view = make_view(sdata, "cells", (shift, shape[1] + shift, shift, shape[0] + shift), "global", size)
    found = sample_labels(sdata, "cells", view)
    x, y = (found - 1) % 1000 + 0.5, (found - 1) // 1000 + 0.5
    step_y, step_x = shape[0] / view.shape[0], shape[1] / view.shape[1]
    want_y = (np.arange(view.shape[0]) + 0.5)[:, None] * step_y + shift
    want_x = (np.arange(view.shape[1]) + 0.5)[None, :] * step_x + shift
    seen = found > 0
    inside = (want_y < shape[0]) & (want_x < shape[1])
    assert np.array_equal(seen, inside)
    assert (np.abs(y - want_y)[seen] <= 0.5 * max(step_y, step_x) + 1).all()
    assert (np.abs(x - want_x)[seen] <= 0.5 * max(step_y, step_x) + 1).all()
