from __future__ import annotations

import geopandas as gpd
import numpy as np
import pytest
import shapely
from numpy.typing import NDArray
from spatialdata import SpatialData
from spatialdata.models import ShapesModel
from spatialdata.transformations import Affine, Identity, Scale

from sjg.access import rasterize_shapes, read_nuclei
from sjg.core import Grid, InputError

GRID = Grid(shape=(40, 50), matrix=np.eye(3))


def _sdata(geometries: list, index: list | None = None, transformation: object = None, **columns: object) -> SpatialData:
    frame = gpd.GeoDataFrame(columns, geometry=geometries, index=index)
    return SpatialData(shapes={"nuclei": ShapesModel.parse(frame, transformations={"global": transformation or Identity()})})


def _naive(geometries: list, shape: tuple[int, int]) -> NDArray[np.int32]:
    """The first shape that contains the centre of a pixel."""
    y, x = np.indices(shape) + 0.5
    labels = np.zeros(shape, dtype=np.int32)
    for number, geometry in reversed(list(enumerate(geometries, start=1))):
        labels[shapely.contains_xy(geometry, x, y)] = number
    return labels


def test_polygons_agree_with_a_point_in_polygon_test():
    generator = np.random.default_rng(0)
    geometries = [shapely.Point(*generator.uniform(3, 37, 2)).buffer(generator.uniform(2, 6)) for _ in range(12)]
    labels, ids = rasterize_shapes(_sdata(geometries), "nuclei", GRID)
    labels = np.concatenate([[0], ids + 1])[labels]
    rows, columns = np.nonzero(labels != _naive(geometries, GRID.shape))
    # the two may round differently where the border passes through a pixel centre, nowhere else
    centres = shapely.points(columns + 0.5, rows + 0.5)
    borders = shapely.union_all([geometry.boundary for geometry in geometries])
    assert (shapely.distance(centres, borders) < 0.01).all()
    assert len(rows) < 5
    assert set(ids.tolist()) == set((np.unique(_naive(geometries, GRID.shape))[1:] - 1).tolist())


def test_the_first_of_overlapping_shapes_keeps_the_pixel():
    labels, _ = rasterize_shapes(_sdata([shapely.box(0, 0, 10, 10), shapely.box(5, 5, 15, 15)]), "nuclei", GRID)
    assert np.bincount(labels.ravel()).tolist()[1:] == [100, 75]


def test_a_shape_that_others_cover_is_left_out(caplog):
    with caplog.at_level("WARNING", logger="sjg"):
        labels, ids = rasterize_shapes(_sdata([shapely.box(0, 0, 10, 10), shapely.box(2, 2, 6, 6)]), "nuclei", GRID)
    assert ids.tolist() == [0]
    assert (labels == 1).sum() == 100
    assert "1 shapes of shapes['nuclei'] have no pixel of their own" in caplog.text


def test_circles_have_their_radius_in_any_frame():
    sdata = _sdata([shapely.Point(5, 4), shapely.Point(15, 10)], transformation=Scale([2.0, 2.0], axes=("x", "y")), radius=[2.0, 3.0])
    labels, _ = rasterize_shapes(sdata, "nuclei", GRID)
    np.testing.assert_allclose(np.bincount(labels.ravel())[1:], np.pi * np.array([4.0, 6.0]) ** 2, rtol=0.1)
    rows, columns = np.nonzero(labels == 2)
    assert (rows.mean() + 0.5, columns.mean() + 0.5) == (pytest.approx(20, abs=0.1), pytest.approx(30, abs=0.1))


def test_affine_frame_turns_the_shapes():
    turn = Affine(np.array([[0, -1, 40], [1, 0, 0], [0, 0, 1]]), input_axes=("x", "y"), output_axes=("x", "y"))
    labels, _ = rasterize_shapes(_sdata([shapely.box(2, 3, 12, 8)], transformation=turn), "nuclei", GRID)
    rows, columns = np.nonzero(labels)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (2, 12, 32, 37)


def test_ids_are_index_values_and_may_be_text_or_repeat():
    boxes = [shapely.box(0, 0, 4, 4), shapely.box(10, 10, 14, 14), shapely.box(20, 20, 24, 24)]
    _, ids = read_nuclei(_sdata(boxes, index=["aaa-1", "b", "aaa-1"]), "nuclei", GRID)
    assert ids.tolist() == ["aaa-1", "b", "aaa-1"]


def test_small_shapes_stay_and_shapes_outside_go(caplog):
    boxes = [shapely.box(100, 100, 110, 110), shapely.box(3.6, 3.6, 3.8, 3.8), shapely.box(20, 20, 30, 30)]
    labels, ids = rasterize_shapes(_sdata(boxes, index=[5, 6, 7]), "nuclei", GRID)
    assert ids.tolist() == [6, 7]
    assert labels[3, 3] == 1


def test_invalid_and_multi_part_shapes():
    bow = shapely.Polygon([(0, 0), (8, 8), (8, 0), (0, 8)])
    parts = shapely.MultiPolygon([shapely.box(20, 0, 24, 4), shapely.box(30, 0, 34, 4)])
    labels, ids = rasterize_shapes(_sdata([bow, parts]), "nuclei", GRID)
    assert ids.tolist() == [0, 1]
    assert (labels == 2).sum() == 32
    assert (labels == 1).sum() == pytest.approx(32, abs=8)


def test_none_on_the_image():
    sdata = _sdata([shapely.box(100, 100, 110, 110)])
    labels, ids = rasterize_shapes(sdata, "nuclei", GRID)
    assert ids.size == 0
    assert labels.max() == 0
    with pytest.raises(InputError, match="'nuclei' has no nucleus"):
        read_nuclei(sdata, "nuclei", GRID)
