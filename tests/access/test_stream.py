"""Writing a part at a time gives what writing at once gives."""

from __future__ import annotations

import json

import dask.dataframe as dd
import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import shapely

from sjg.access import _stream as stream


def _points(n: int = 500) -> dd.DataFrame:
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(300)]
    frame = pd.DataFrame({"x": rng.random(n), "gene": pd.Categorical(rng.choice(genes, n), genes), "name": rng.choice(["a", "b"], n)})
    frame.index = rng.permutation(n)
    # every partition knows its own genes only, as after reading
    parts = [frame.iloc[start : start + 100] for start in range(0, n, 100)]
    return dd.concat([dd.from_pandas(part.assign(gene=part["gene"].cat.remove_unused_categories()), 1, sort=False) for part in parts])


def test_points_as_dask_writes_them(tmp_path, monkeypatch):
    monkeypatch.setattr(stream, "_ROWS", 7)
    points = _points()
    stream.write_points(points, tmp_path / "here")
    points.to_parquet(tmp_path / "dask")
    here, there = dd.read_parquet(tmp_path / "here"), dd.read_parquet(tmp_path / "dask")
    assert here.npartitions == there.npartitions == 5
    assert dict(here.dtypes.astype(str)) == dict(there.dtypes.astype(str))
    expected = there.compute()
    pd.testing.assert_frame_equal(here.compute().astype({"gene": str}), expected.astype({"gene": str}))


def test_shapes_as_geopandas_writes_them(tmp_path, monkeypatch):
    shapes = geopandas.GeoDataFrame({"n": np.arange(10)}, geometry=shapely.box(np.arange(10.0), 0, np.arange(10.0) + 1, 1))
    shapes.index = pd.RangeIndex(1, 11, name="cell_id")
    shapes.to_parquet(tmp_path / "at_once.parquet")
    monkeypatch.setattr(stream, "SHAPES_AT_ONCE", 3)
    stream.write_shapes(shapes, tmp_path / "blocks.parquet")
    at_once, blocks = (geopandas.read_parquet(tmp_path / f"{name}.parquet") for name in ("at_once", "blocks"))
    pd.testing.assert_frame_equal(pd.DataFrame(blocks), pd.DataFrame(at_once), check_index_type=False)
    said = [json.loads(pq.read_schema(tmp_path / f"{name}.parquet").metadata[b"geo"])["columns"] for name in ("at_once", "blocks")]
    assert said[0] == said[1]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["at_once.parquet", "blocks.parquet"]
