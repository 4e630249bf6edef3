from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.sparse import issparse

from sjg.access import build_table, count_matrix, history_columns, plain
from sjg.core import InputError


@given(
    st.integers(0, 80).flatmap(
        lambda n: st.tuples(arrays(np.int32, n, elements=st.integers(0, 5)), arrays(np.int32, n, elements=st.integers(0, 3)))
    )
)
def test_counts_agree_with_a_loop(pair):
    cell, gene = pair
    expected = np.zeros((5, 4), dtype=int)
    for c, g in zip(cell, gene, strict=True):
        if c:
            expected[c - 1, g] += 1
    counts = count_matrix(cell, gene, (5, 4))
    np.testing.assert_array_equal(counts.toarray(), expected)
    assert counts.dtype == np.int32
    assert counts.format == "csr"
    assert counts.has_canonical_format


def test_rows_are_sorted_by_id_with_all_that_belongs_to_them():
    counts = count_matrix(np.array([1, 2, 2, 3]), np.array([0, 1, 1, 0]), (3, 2))
    table = build_table(
        counts,
        ["a", "b"],
        region="cells",
        instance_ids=[30, 4, 9],
        obs={"area_px2": np.array([3.0, 1.0, 2.0])},
        spatial=np.array([[3.0, 3], [1, 1], [2, 2]]),
        uns={"note": "x"},
    )
    assert table.obs["cell_id"].tolist() == [4, 9, 30]
    assert table.obs_names.tolist() == ["4", "9", "30"]
    assert table.obs["n_transcripts"].tolist() == [2, 1, 1]
    assert table.obs["area_px2"].tolist() == [1, 2, 3]
    assert table.obsm["spatial"][:, 0].tolist() == [1, 2, 3]
    assert table.X.toarray().tolist() == [[0, 2], [1, 0], [1, 0]]
    assert issparse(table.layers["counts"])
    assert table.layers["counts"] is not table.X
    assert isinstance(table.obs["region"].dtype, pd.CategoricalDtype)
    assert table.uns["spatialdata_attrs"] == {"region": "cells", "region_key": "region", "instance_key": "cell_id"}
    assert "spatial" not in table.uns


@pytest.mark.parametrize("ids", [[0, 1], [2, 2], [-1, 3]])
def test_bad_ids(ids):
    with pytest.raises(InputError, match="positive and unique"):
        build_table(count_matrix(np.array([1]), np.array([0]), (2, 1)), ["a"], region="cells", instance_ids=ids)


def test_plain_types():
    value = plain(
        {
            1: (1, 2.5),
            "a/b": None,
            "names": ["x", "y"],
            "mixed": [1, "x", None],
            "scalar": np.float32(0.5),
            "weights": {"conv.weight": np.ones((2, 2), dtype=np.float32)},
            "empty": [],
            "flag": True,
            "text": np.array(["u", "v"]),
        }
    )
    assert value["1"].tolist() == [1, 2.5]
    assert value["a.b"] == "none"
    assert value["names"].tolist() == ["x", "y"]
    assert value["mixed"] == {"0": 1, "1": "x", "2": "none"}
    assert value["scalar"] == 0.5
    assert type(value["scalar"]) is float
    assert value["weights"]["conv.weight"].dtype == np.float32
    assert value["empty"].size == 0
    assert value["flag"] is True
    assert value["text"].dtype == object
    with pytest.raises(InputError, match="A object cannot be kept"):
        plain({"bad": object()})


def test_history_has_one_column_for_each_field():
    columns = history_columns([{"epoch": 0, "phase": "warm"}, {"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": None, "phase": "self"}])
    assert columns["epoch"].tolist() == [0, 1, 2]
    assert columns["phase"].tolist() == ["warm", "", "self"]
    np.testing.assert_array_equal(columns["loss"], [np.nan, 0.5, np.nan])
    assert history_columns([]) == {}
