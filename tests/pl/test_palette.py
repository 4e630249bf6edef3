from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import to_rgb
from skimage.color import rgb2lab

from sjg.core.colors import NUCLEI_COLOR, OTHER_COLOR, TRUTH_COLOR, distinct_colors
from sjg.pl._palette import type_colors


def delta_e(colors: list[str]) -> np.ndarray:
    """CIE76 distances: an oracle that shares nothing with the OKLab of the palette."""
    lab = rgb2lab(np.array([[to_rgb(color) for color in colors]]))[0]
    distance = np.linalg.norm(lab[:, None] - lab[None], axis=2)
    return distance[np.triu_indices(len(colors), 1)]


def test_71_colors_differ_from_one_another_and_from_marks():
    colors = distinct_colors(71)
    assert len(set(colors)) == 71
    assert delta_e(colors).min() > 6  # about 2 is just noticeable
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in colors)
    assert delta_e([*distinct_colors(20), NUCLEI_COLOR, TRUTH_COLOR, OTHER_COLOR, "#000000"]).min() > 15


@given(n=st.integers(0, 40), more=st.integers(0, 20))
def test_a_palette_grows_without_changing(n, more):
    assert distinct_colors(n + more)[:n] == distinct_colors(n)


def make_table(names: list[str], colors: list[str] | None) -> AnnData:
    obs = pd.DataFrame({"cell_type": pd.Categorical(names, categories=names)}, index=[str(i) for i in range(len(names))])
    table = AnnData(np.ones((len(names), 1), dtype=np.float32), obs=obs)
    if colors is not None:
        table.uns["cell_type_colors"] = colors
    return table


def test_stored_colors_win_and_new_ones_keep_away():
    table = make_table(["a", "b"], ["#ff0000", "#0000ff"])
    colors = type_colors(["b", "c", "a"], [table])
    assert (colors["a"], colors["b"]) == ("#ff0000", "#0000ff")
    assert delta_e(list(colors.values())).min() > 30
    assert table.uns["cell_type_colors"] == ["#ff0000", "#0000ff"]


@pytest.mark.parametrize("stored", [None, ["#ff0000"], ["nonsense", "also"]])
def test_unusable_stored_colors_are_replaced(stored):
    table = make_table(["a", "b"], stored)
    assert list(type_colors(["a", "b"], [table]).values()) == distinct_colors(2)
    assert "cell_type_colors" not in table.uns or table.uns["cell_type_colors"] == stored
