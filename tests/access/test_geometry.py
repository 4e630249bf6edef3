from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from sjg.access import areas_and_centroids, number_from_one, outlines

FOUR = ndimage.generate_binary_structure(2, 1)
EIGHT = np.ones((3, 3))


@given(arrays(np.int32, (9, 11), elements=st.integers(0, 6)))
def test_areas_and_centroids_agree_with_scipy(labels):
    area, centroid = areas_and_centroids(labels)
    ids = np.arange(1, labels.max() + 1)
    np.testing.assert_array_equal(area, ndimage.sum_labels(np.ones_like(labels), labels, ids))
    present = area > 0
    expected = ndimage.center_of_mass(labels > 0, labels, ids[present])
    if present.any():
        np.testing.assert_allclose(centroid[present][:, ::-1], np.array(expected) + 0.5)
    assert np.isnan(centroid[~present]).all()


def test_long_rasters_are_summed_strip_by_strip():
    labels = np.zeros((1500, 3), dtype=np.int32)
    labels[400:1300] = 1
    area, centroid = areas_and_centroids(labels)
    assert area.tolist() == [2700]
    assert centroid.tolist() == [[1.5, 850.0]]


@given(arrays(np.int32, (8, 8), elements=st.integers(0, 4)))
def test_one_valid_polygon_for_any_label(labels):
    labels, _ = number_from_one(labels)
    polygons = outlines(labels)
    assert len(polygons) == labels.max()
    assert shapely.is_valid(polygons).all()
    assert (shapely.get_type_id(polygons) == shapely.GeometryType.POLYGON).all()
    y, x = np.indices(labels.shape) + 0.5
    for label, polygon in enumerate(polygons, start=1):
        mask = labels == label
        parts, n_parts = ndimage.label(mask, EIGHT)
        covered = shapely.contains_xy(polygon, x, y)
        # the polygon covers the largest part (with corner contact) and nothing else of the raster
        sizes = np.bincount(parts.ravel())[1:]
        assert covered.sum() == sizes.max()
        assert len(np.unique(parts[covered])) == 1
        assert mask[covered].all()
        if ndimage.label(mask, FOUR)[1] == 1:
            assert polygon.area == pytest.approx(mask.sum(), abs=1e-9)
        if n_parts == 1:
            assert polygon.area == pytest.approx(mask.sum(), abs=0.05)


def test_outline_of_a_cell_with_a_hole():
    labels = np.zeros((6, 6), dtype=np.int32)
    labels[1:5, 1:5] = 1
    labels[2, 2] = 0
    (polygon,) = outlines(labels)
    assert polygon.area == 15
    assert len(polygon.interiors) == 1


def test_simplified_borders_stay_shared():
    generator = np.random.default_rng(0)
    seeds = generator.uniform(0, 60, (30, 2))
    y, x = np.indices((60, 60))
    labels = np.argmin((y[..., None] - seeds[:, 0]) ** 2 + (x[..., None] - seeds[:, 1]) ** 2, axis=2).astype(np.int32) + 1
    polygons = outlines(labels, simplify_px=2.0)
    assert shapely.is_valid(polygons).all()
    assert shapely.get_num_coordinates(polygons).sum() < 0.6 * shapely.get_num_coordinates(outlines(labels)).sum()
    assert shapely.area(polygons).sum() == pytest.approx(3600, rel=1e-3)
    assert shapely.union_all(polygons).area == pytest.approx(3600, rel=1e-3)


def test_no_cell_no_polygon():
    assert len(outlines(np.zeros((4, 4), dtype=np.int32))) == 0
