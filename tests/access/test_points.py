from __future__ import annotations

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from spatialdata import SpatialData, read_zarr
from spatialdata.models import PointsModel
from spatialdata.transformations import Identity, Scale, get_transformation, set_transformation

from sjg.access import molecule_column, with_columns
from sjg.core import InputError


def _points(n: int = 120, npartitions: int = 4, repeat: int = 1) -> dd.DataFrame:
    generator = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"x": np.arange(n) * 1.0, "y": generator.uniform(size=n), "gene": pd.Categorical(generator.choice(list("abc"), n))}
    )
    parts = (
        dd.concat([dd.from_pandas(frame, npartitions=npartitions)] * repeat)
        if repeat > 1
        else dd.from_pandas(frame, npartitions=npartitions)
    )
    return PointsModel.parse(parts, feature_key="gene", transformations={"global": Scale([2.0, 2.0], axes=("x", "y"))}, sort=True)


def _sizes(points: dd.DataFrame) -> tuple[int, ...]:
    return tuple(int(size) for size in points.map_partitions(len).compute())


@pytest.mark.parametrize("repeat", [1, 3])
@pytest.mark.parametrize("stored", [False, True])
def test_columns_keep_rows_in_place(repeat, stored, tmp_path):
    points = _points(repeat=repeat)
    if stored:
        # read from a store: divisions and categories are unknown
        SpatialData(points={"t": points}).write(tmp_path / "in.zarr")
        points = read_zarr(tmp_path / "in.zarr")["t"]
    before = points.compute()
    values = np.arange(len(before), dtype=np.int32)
    result = with_columns(points, _sizes(points), {"new": values, "score": values.astype(np.float32)})
    after = result.compute()
    np.testing.assert_array_equal(after["new"], values)
    np.testing.assert_array_equal(after.index, before.index)
    pd.testing.assert_frame_equal(after[before.columns], before)
    assert after.dtypes[["new", "score"]].tolist() == [np.int32, np.float32]
    assert result.npartitions == points.npartitions
    assert result.divisions == points.divisions
    assert "new" not in points.columns
    # what users do next: filter, derive, write, one partition
    assert len(result[result["new"] > 5].compute()) == len(before) - 6
    np.testing.assert_array_equal(result.get_partition(1).compute()["x"], points.get_partition(1).compute()["x"])
    SpatialData(points={"t": result}).write(tmp_path / "out.zarr")
    again = read_zarr(tmp_path / "out.zarr")["t"].compute()
    np.testing.assert_array_equal(again["new"], values)
    np.testing.assert_array_equal(again["x"], before["x"])


def test_more_than_ten_partitions_come_back_in_order(tmp_path):
    points = _points(npartitions=24)
    result = with_columns(points, _sizes(points), {"new": np.arange(120)})
    SpatialData(points={"t": result}).write(tmp_path / "out.zarr")
    again = read_zarr(tmp_path / "out.zarr")["t"].compute()
    np.testing.assert_array_equal(again["new"], np.arange(120))
    np.testing.assert_array_equal(again["x"], np.arange(120))


def test_narrow_selection_of_many_stored_columns(tmp_path):
    # dask reads small partitions of such a selection together
    frame = pd.DataFrame({"x": np.arange(400.0), "y": 0.0, **{f"c{index}": 0.0 for index in range(40)}})
    dd.from_pandas(frame, npartitions=12).to_parquet(tmp_path / "wide")
    points = PointsModel.parse(dd.read_parquet(tmp_path / "wide")[["x", "y"]])
    sizes = tuple(len(points.get_partition(index)) for index in range(points.npartitions))
    assert len(sizes) == 12
    after = with_columns(points, sizes, {"new": np.arange(400)}).compute()
    np.testing.assert_array_equal(after["x"], after["new"])


def test_attributes_stay_and_are_copied():
    points = _points()
    result = with_columns(points, _sizes(points), {"new": np.zeros(120)})
    assert result.attrs["spatialdata_attrs"] == {"feature_key": "gene"}
    assert get_transformation(result) == Scale([2.0, 2.0], axes=("x", "y"))
    set_transformation(result, Identity())
    assert get_transformation(points) == Scale([2.0, 2.0], axes=("x", "y"))


def test_existing_column_is_replaced():
    points = _points()
    first = with_columns(points, _sizes(points), {"new": np.zeros(120)})
    second = with_columns(first, _sizes(points), {"new": np.arange(120)})
    assert list(second.columns).count("new") == 1
    np.testing.assert_array_equal(second.compute()["new"], np.arange(120))


def test_sizes_that_do_not_fit():
    points = _points()
    with pytest.raises(InputError, match="read the points again"):
        with_columns(points, (120,), {"new": np.zeros(120)})
    with pytest.raises(InputError, match="read the points again"):
        with_columns(points, _sizes(points), {"new": np.zeros(119)})
    wrong = with_columns(points, (29, 31, 30, 30), {"new": np.zeros(120)})
    with pytest.raises(InputError, match="has 30 rows now and had (29|31)"):
        wrong.compute()


def test_molecule_column():
    assert molecule_column(np.array([3, 0]), np.array([7, 8], dtype=np.int32), 5).tolist() == [8, 0, 0, 7, 0]
