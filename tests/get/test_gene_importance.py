from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from spatialdata import SpatialData

import sjg
from sjg.core import InputError, MissingElementError


def with_scores(scores: pd.DataFrame | np.ndarray | None, n_genes: int = 3) -> SpatialData:
    names = [f"g{i}" for i in range(n_genes)] if not isinstance(scores, pd.DataFrame) else scores.index
    table = AnnData(np.ones((2, len(names)), dtype=np.float32), var=pd.DataFrame(index=names))
    if scores is not None:
        table.varm["gene_importance"] = scores
    return SpatialData(tables={"sjg_table": table})


PLANTED = pd.DataFrame({"a": [1.0, 3.0, 2.0], "b": [0.5, np.nan, 0.5]}, index=["g0", "g1", "g2"])


def test_planted_order():
    found = sjg.get.gene_importance(with_scores(PLANTED))
    assert found.columns.tolist() == ["gene", "cell_type", "importance", "rank"]
    assert found["cell_type"].tolist() == ["a", "a", "a", "b", "b", "b"]
    # ties keep the order of the panel, a gene without a score is last
    assert found["gene"].tolist() == ["g1", "g2", "g0", "g0", "g2", "g1"]
    assert found["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert found["importance"].tolist()[:5] == [3, 2, 1, 0.5, 0.5]


def test_types_and_number():
    found = sjg.get.gene_importance(with_scores(PLANTED), cell_type=["b", "a"], n=1)
    assert found[["cell_type", "gene"]].to_numpy().tolist() == [["b", "g0"], ["a", "g1"]]
    assert sjg.get.gene_importance(with_scores(PLANTED), cell_type="a", n=99).shape == (3, 4)
    assert sjg.get.gene_importance(with_scores(PLANTED), cell_type=[]).columns.tolist() == found.columns.tolist()


def test_survives_a_store(tmp_path):
    import spatialdata

    with_scores(PLANTED).write(tmp_path / "s.zarr")
    again = spatialdata.read_zarr(tmp_path / "s.zarr")
    pd.testing.assert_frame_equal(sjg.get.gene_importance(again), sjg.get.gene_importance(with_scores(PLANTED)))


@given(values=st.lists(st.lists(st.floats(-1e3, 1e3), min_size=4, max_size=4), min_size=1, max_size=6), n=st.integers(1, 8))
def test_ranks_follow_the_scores(values, n):
    scores = pd.DataFrame(np.array(values), columns=list("abcd"), index=[f"g{i}" for i in range(len(values))])
    found = sjg.get.gene_importance(with_scores(scores), n=n)
    assert len(found) == 4 * min(n, len(values))
    for name, part in found.groupby("cell_type"):
        assert part["rank"].tolist() == list(range(1, len(part) + 1))
        # independent of sorting: the k-th value has at most k - 1 above it
        for row in part.itertuples():
            assert row.importance == scores.loc[row.gene, name]
            assert (scores[name] > row.importance).sum() < row.rank


@pytest.mark.parametrize(
    ("sdata", "arguments", "error", "word"),
    [
        (with_scores(PLANTED), {"table_key": "nope"}, MissingElementError, "sjg_table"),
        (with_scores(None), {}, MissingElementError, "tl.segment"),
        (with_scores(np.ones((3, 2))), {}, InputError, "DataFrame"),
        (with_scores(PLANTED), {"cell_type": "c"}, MissingElementError, "'a', 'b'"),
        (with_scores(PLANTED), {"n": 0}, InputError, "positive"),
        (with_scores(PLANTED), {"n": True}, InputError, "positive"),
        (with_scores(PLANTED), {"n": 1.5}, InputError, "positive"),
    ],
)
def test_errors(sdata, arguments, error, word):
    with pytest.raises(error, match=word):
        sjg.get.gene_importance(sdata, **arguments)
