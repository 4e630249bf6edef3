from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage
from spatialdata import SpatialData
from spatialdata.models import Labels2DModel
from spatialdata.transformations import Affine, BaseTransformation, Identity, Scale

from sjg.access import number_from_one, read_labels_on_grid, read_nuclei
from sjg.core import Grid, InputError


def _sdata(labels: NDArray, transformation: BaseTransformation | None = None, **options: object) -> SpatialData:
    element = Labels2DModel.parse(labels, dims=("y", "x"), transformations={"global": transformation or Identity()}, **options)
    return SpatialData(labels={"nuclei": element})


def _grid(height: int, width: int, factor: float = 1.0) -> Grid:
    return Grid(shape=(height, width), matrix=np.diag([factor, factor, 1.0]))


@given(arrays(np.uint16, (7, 9), elements=st.integers(0, 5)))
def test_own_grid_gives_the_labels_themselves(labels):
    numbered, ids = read_labels_on_grid(_sdata(labels), "nuclei", _grid(7, 9))
    np.testing.assert_array_equal(np.concatenate([[0], ids])[numbered], labels)
    np.testing.assert_array_equal(ids, np.setdiff1d(labels, 0))
    assert numbered.dtype == np.int32


@pytest.mark.parametrize("dtype", [np.int64, np.uint32, np.uint64])
def test_large_and_scattered_ids(dtype):
    labels = np.zeros((4, 4), dtype=dtype)
    labels[0, 0], labels[3, 3] = 4_000_000_000, 7
    numbered, ids = read_labels_on_grid(_sdata(labels), "nuclei", _grid(4, 4))
    assert ids.tolist() == [7, 4_000_000_000]
    assert (numbered[3, 3], numbered[0, 0]) == (1, 2)


def _blobs(shape: tuple[int, int], seed: int = 0) -> NDArray[np.int32]:
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 4)
    return ndimage.label(smooth > 0.05)[0].astype(np.int32)


@pytest.mark.parametrize("degrees", [0, 17, 90, 200])
@pytest.mark.parametrize("mirror", [1, -1])
@pytest.mark.parametrize("chunks", [None, {"y": 37, "x": 50}])
def test_any_affine_frame_agrees_with_scipy(degrees, mirror, chunks):
    labels = _blobs((150, 130))
    angle = np.deg2rad(degrees)
    matrix = np.array([[0.9 * mirror * np.cos(angle), -1.1 * np.sin(angle), 0], [0.9 * np.sin(angle), 1.1 * np.cos(angle), 0], [0, 0, 1]])
    # the middle of the labels comes to lie in the middle of the grid
    matrix[:2, 2] = np.array([71.5, 78.0]) - matrix[:2, :2] @ np.array([65.0, 75.0])
    options = {} if chunks is None else {"chunks": chunks}
    sdata = _sdata(labels, Affine(matrix, input_axes=("x", "y"), output_axes=("x", "y")), **options)
    grid = _grid(120, 110, 1.3)
    numbered, ids = read_labels_on_grid(sdata, "nuclei", grid)
    # scipy counts from pixel centres, in (row, column)
    to_labels = np.linalg.inv(matrix) @ grid.matrix
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, 1]])
    centre = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    rows = np.linalg.inv(centre) @ swap @ to_labels @ swap @ centre
    expected = ndimage.affine_transform(labels, rows, output_shape=grid.shape, order=0, mode="grid-constant", cval=0)
    found = np.concatenate([[0], ids])[numbered]
    # rounding decides at pixel borders
    assert (found != expected).mean() < 1e-3
    assert len(ids) > 3


@pytest.mark.parametrize("factor", [2.0, 4.63, 7.0])
def test_no_small_nucleus_is_lost(factor):
    labels = np.zeros((140, 140), dtype=np.int32)
    centres = np.arange(10, 140, 14)
    labels[np.ix_(centres, centres)] = np.arange(1, 101).reshape(10, 10) * 3
    side = int(np.ceil(140 / factor))
    numbered, ids = read_labels_on_grid(_sdata(labels), "nuclei", _grid(side, side, factor))
    assert ids.tolist() == (np.arange(1, 101) * 3).tolist()
    # each stays where it was
    rows, columns = np.nonzero(numbered)
    assert labels[(rows * factor).astype(int).min() :, :].max() == 300
    for row, column in zip(rows, columns, strict=True):
        window = labels[int(row * factor) : int(np.ceil((row + 1) * factor)), int(column * factor) : int(np.ceil((column + 1) * factor))]
        assert ids[numbered[row, column] - 1] in window


def test_a_small_nucleus_does_not_delete_another(caplog):
    labels = np.zeros((4, 4), dtype=np.int32)
    labels[1, 1], labels[1, 2] = 1, 2
    with caplog.at_level("WARNING", logger="sjg"):
        _, ids = read_labels_on_grid(_sdata(labels), "nuclei", _grid(1, 1, 4.0))
    assert len(ids) == 1
    assert "1 objects of labels['nuclei'] share" in caplog.text


def test_labels_outside_the_grid_are_left_out():
    labels = np.zeros((20, 20), dtype=np.int32)
    labels[2:5, 2:5], labels[15:18, 15:18] = 1, 9
    numbered, ids = read_labels_on_grid(_sdata(labels), "nuclei", _grid(10, 10))
    assert ids.tolist() == [1]
    assert numbered.sum() == 9


def test_frame_of_nuclei_differs_from_that_of_the_image(make_sdata):
    sdata = make_sdata()
    grid = Grid(shape=(90, 120), matrix=np.diag([0.5, 0.5, 1.0]))
    expected, _ = read_labels_on_grid(sdata, "nuclei", grid)
    fine = np.kron(sdata["nuclei"].to_numpy(), np.ones((3, 3), dtype=np.int32))[30:, 60:]
    shifted = Affine(np.array([[0.5 / 3, 0, 10], [0, 0.5 / 3, 5], [0, 0, 1]]), input_axes=("x", "y"), output_axes=("x", "y"))
    sdata.labels["fine"] = Labels2DModel.parse(fine, dims=("y", "x"), transformations={"global": shifted})
    found, ids = read_labels_on_grid(sdata, "fine", grid)
    np.testing.assert_array_equal(found[10:, 20:] > 0, expected[10:, 20:] > 0)
    # the first nucleus lies in the part cut off
    assert ids.tolist() == [10, 11, 500]


def test_multiscale_labels(make_sdata):
    labels = _blobs((64, 64))
    pyramid = _sdata(labels, Scale([0.5, 0.5], axes=("x", "y")), scale_factors=[2])
    numbered, _ = read_labels_on_grid(pyramid, "nuclei", _grid(64, 64, 0.5))
    np.testing.assert_array_equal(numbered, number_from_one(labels)[0])


def test_bad_labels():
    # newer versions of spatialdata refuse to parse such labels
    real = _sdata(np.zeros((3, 3), dtype=int))
    real["nuclei"].data = real["nuclei"].data.astype(float)
    with pytest.raises(InputError, match=r"labels\['nuclei'\] holds float64 values.*astype"):
        read_labels_on_grid(real, "nuclei", _grid(3, 3))
    with pytest.raises(InputError, match="negative ids"):
        read_labels_on_grid(_sdata(np.full((3, 3), -1)), "nuclei", _grid(3, 3))
    _, ids = read_labels_on_grid(_sdata(np.zeros((3, 3), dtype=int)), "nuclei", _grid(3, 3))
    assert ids.size == 0
    with pytest.raises(InputError, match="'nuclei' has no nucleus on the image"):
        read_nuclei(_sdata(np.zeros((3, 3), dtype=int)), "nuclei", _grid(3, 3))
