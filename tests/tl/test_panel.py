"""Panels of genes: the choice on planted importance, the curve on a quick run."""

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

QUICK = {"max_epochs": 1, "parameters": {"steps_per_round": 4, "n_importance_patches": 1}}
GENES = ["a", "b", "c", "d", "e"]


def planted(importance: dict[str, list[float]], cells: list[str]) -> SpatialData:
    obs = pd.DataFrame({"cell_type": pd.Categorical(cells)}, index=[str(i) for i in range(len(cells))])
    table = AnnData(np.ones((len(cells), len(GENES)), np.float32), obs=obs, var=pd.DataFrame(index=GENES))
    table.varm["gene_importance"] = pd.DataFrame(importance, index=GENES)
    return SpatialData(tables={"sjg_table": table})


@pytest.fixture
def sdata() -> SpatialData:
    """Both types want `a` first; nobody has the type `absent`."""
    importance = {"absent": [0, 0, 0, 0, 9.0], "common": [5, 4, 1, 0, 0.5], "rare": [90, 10, 80, 70, 20.0]}
    return planted(importance, ["common", "common", "rare"])


def test_types_take_turns_and_the_most_abundant_starts(sdata):
    panel = sjg.tl.select_panel(sdata, 4)
    assert panel["gene"].tolist() == ["a", "c", "b", "d"]
    assert panel["cell_type"].tolist() == ["common", "rare", "common", "rare"]
    assert panel["rank"].tolist() == [1, 2, 2, 3]
    assert panel["importance"].tolist() == [5, 80, 4, 70]


def test_kept_genes_count_and_chosen_types_lead(sdata):
    panel = sjg.tl.select_panel(sdata, 3, keep=["d"], cell_types=["absent", "rare"])
    assert panel["gene"].tolist() == ["d", "e", "a"]
    assert panel["cell_type"].tolist() == ["", "absent", "rare"]


@given(
    scores=st.lists(st.lists(st.floats(-5, 5), min_size=5, max_size=5), min_size=1, max_size=4),
    n=st.integers(1, 5),
    m=st.integers(1, 5),
)
def test_panels_are_nested_and_have_their_size(scores, n, m):
    names = [f"t{i}" for i in range(len(scores))]
    sdata = planted(dict(zip(names, scores, strict=True)), names)
    small, large = (sjg.tl.select_panel(sdata, k)["gene"].tolist() for k in sorted((n, m)))
    assert len(set(large)) == max(n, m)
    assert large[: len(small)] == small


@pytest.mark.parametrize(
    ("arguments", "error", "word"),
    [
        ({"n_genes": 0}, InputError, "between 1 and 5"),
        ({"n_genes": 6}, InputError, "between 1 and 5"),
        ({"n_genes": 1, "keep": ["a", "b"]}, InputError, "between 2 and 5"),
        ({"n_genes": 2, "keep": ["z"]}, MissingElementError, "no gene"),
        ({"n_genes": 2, "cell_types": ["z"]}, MissingElementError, "cell types"),
        ({"n_genes": 2, "table_key": "other"}, MissingElementError, "tables"),
    ],
)
def test_bad_panels_are_named(sdata, arguments, error, word):
    with pytest.raises(error, match=word):
        sjg.tl.select_panel(sdata, **arguments)


@pytest.fixture(scope="module")
def segmented():
    sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=30)
    sjg.tl.segment(sdata, reference="reference", preset="fast", progress=False, **QUICK)
    return sdata


def test_curve_segments_each_panel_and_leaves_the_object_alone(segmented):
    before = sorted(name for _, name, _ in segmented.gen_elements()), list(segmented["transcripts"].columns)
    curve = sjg.tl.panel_curve(segmented, [30, 8], orders=["importance", "abundance"], reference="reference", **QUICK)
    assert (sorted(name for _, name, _ in segmented.gen_elements()), list(segmented["transcripts"].columns)) == before
    counts = segmented["transcripts"].compute()["gene"].value_counts()
    n_of = curve.groupby(["order", "n_genes"])["n_transcripts"].first()
    assert n_of["abundance", 8] == counts.nlargest(8).sum()
    assert n_of["importance", 8] == counts[sjg.tl.select_panel(segmented, 8)["gene"]].sum()
    assert n_of["importance", 30] == len(segmented["transcripts"])
    # All genes again, same seed: the run itself, with which each panel is compared.
    same = curve[(curve["n_genes"] == 30) & (curve["order"] == "importance")].set_index("metric")["value"]
    assert same["mean_iou"] == 1
    assert same["transcript_accuracy_posterior"] == 1
    fewer = curve[(curve["n_genes"] == 8) & (curve["order"] == "importance")].set_index("metric")["value"]
    assert 0.3 < fewer["mean_iou"] < 1


def test_curve_checks_before_the_first_run(segmented):
    with pytest.raises(InputError, match="between 1 and 30"):
        sjg.tl.panel_curve(segmented, [10, 31])
    with pytest.raises(InputError, match="importance, abundance, random"):
        sjg.tl.panel_curve(segmented, [10], orders=["best"])
    with pytest.raises(MissingElementError):
        sjg.tl.panel_curve(segmented, [10], table_key="other_table")


def test_plot_has_a_line_per_order_through_the_means():
    curve = pd.DataFrame(
        {
            "order": ["importance"] * 4 + ["random"] * 2,
            "n_genes": [10, 20, 10, 20, 10, 20],
            "repeat": [0, 0, 1, 1, 0, 0],
            "metric": "mean_iou",
            "value": [0.4, 0.6, 0.6, 0.8, 0.1, 0.2],
        }
    )
    (ax,) = sjg.pl.panel_curve(curve, show=False).axes
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_allclose(lines["importance"].get_xydata(), [[10, 0.5], [20, 0.7]])
    np.testing.assert_allclose(lines["random"].get_xydata(), [[10, 0.1], [20, 0.2]])
    with pytest.raises(InputError, match="n_genes"):
        sjg.pl.panel_curve(curve.drop(columns="n_genes"))
    with pytest.raises(InputError, match="mean_iou"):
        sjg.pl.panel_curve(curve, metrics=["dice"])
