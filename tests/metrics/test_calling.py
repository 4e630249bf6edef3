from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial import KDTree

from sjg.core import InputError
from sjg.metrics import _calling, cell_calling_score


def by_nearest_neighbour(labels, yx, distance):
    """Inside and ring by the distance between pixel centres: counts of transcripts and of pixels."""
    cells = KDTree(np.argwhere(labels > 0)) if (labels > 0).any() else None

    def gap(pixels):
        return cells.query(pixels)[0] if cells and len(pixels) else np.full(len(pixels), np.inf)

    at = np.floor(yx).astype(int)
    at = at[((at >= 0) & (at < labels.shape)).all(axis=1)]
    of_pixels, of_transcripts = gap(np.argwhere(labels >= 0)), gap(at)
    counts = [((gaps == 0).sum(), ((gaps > 0) & (gaps <= distance)).sum()) for gaps in (of_transcripts, of_pixels)]
    return counts


@st.composite
def scenes(draw):
    labels = draw(arrays(np.int32, (12, 15), elements=st.sampled_from([0, 0, 0, 0, 0, 0, 0, 0, 3, 7])))
    n = draw(st.integers(0, 30))
    yx = draw(arrays(np.float64, (n, 2), elements=st.floats(-2, 17, width=32)))
    return labels, yx


@given(scenes(), st.sampled_from([1, 1.5, 3, 5, 7]))
def test_equals_nearest_neighbour_distances(scene, distance):
    labels, yx = scene
    (inside, ring), (pixels_inside, pixels_ring) = by_nearest_neighbour(labels, yx, distance)
    expected = inside / ring if ring else (np.inf if inside else np.nan)
    assert cell_calling_score(labels, yx, distance_px=distance) == pytest.approx(expected, nan_ok=True)
    if ring and inside:
        density = (inside / pixels_inside) / (ring / pixels_ring)
        assert cell_calling_score(labels, yx, distance_px=distance, density=True) == pytest.approx(density)


@given(scenes())
def test_blocks_and_several_distances_change_nothing(scene):
    labels, yx = scene
    single = [cell_calling_score(labels, yx, distance_px=d) for d in (1, 2, 3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_calling, "_BLOCK_PX2", 15)
        several = cell_calling_score(labels, yx, distance_px=(1, 2, 3))
        density = cell_calling_score(labels, yx, distance_px=(1, 2, 3), density=True)
    np.testing.assert_array_equal(several, single)
    np.testing.assert_array_equal(density, cell_calling_score(labels, yx, distance_px=(1, 2, 3), density=True))
    known = several[np.isfinite(several)]
    assert (np.diff(known) <= 0).all()


def test_rings_reach_across_blocks(monkeypatch):
    monkeypatch.setattr(_calling, "_BLOCK_PX2", 1)
    labels = np.zeros((60, 4), dtype=int)
    labels[[9, 26, 45]] = 1
    yx = np.stack([np.arange(60) + 0.5, np.full(60, 1.5)], axis=1)
    # three transcripts on cells, three on each side of each, the farthest beyond the border of a block
    assert cell_calling_score(labels, yx, distance_px=3) == 3 / 18
    assert cell_calling_score(labels, yx, distance_px=3, density=True) == 1


@given(scenes())
def test_ids_do_not_matter(scene):
    labels, yx = scene
    np.testing.assert_array_equal(cell_calling_score(labels, yx), cell_calling_score((labels > 0).astype(int), yx))


def test_uniform_transcripts_have_density_one():
    labels = np.zeros((100, 100), dtype=int)
    labels[20:60, 30:70] = 1
    yx = np.random.default_rng(0).uniform(0, 100, (400_000, 2))
    assert cell_calling_score(labels, yx, distance_px=5, density=True) == pytest.approx(1, abs=0.03)


def test_wider_rings_are_hand_counted():
    labels = np.zeros((21, 21), dtype=int)
    labels[10, 10] = 1
    yx = [[10.5, 10.5]] * 6 + [[10.5, 13.5], [10.5, 15.5], [10.5, 15.9], [10.5, 17.5], [18.5, 10.5]]
    np.testing.assert_allclose(cell_calling_score(labels, yx, distance_px=(3, 5, 7)), [6, 2, 6 / 4])


def test_empty_rings_and_empty_cells():
    labels = np.zeros((5, 5), dtype=int)
    assert np.isnan(cell_calling_score(labels, [[1.0, 1.0]]))
    labels[0, 0] = 1
    assert cell_calling_score(labels, [[0.5, 0.5]]) == np.inf
    assert cell_calling_score(labels, [[0.5, 1.5]]) == 0
    assert np.isnan(cell_calling_score(labels, np.zeros((0, 2))))


@pytest.mark.parametrize(
    ("labels", "yx", "distance", "message"),
    [
        (np.zeros((2, 2, 2), int), [[0, 0]], 3, "height, width"),
        (np.zeros((2, 2)), [[0, 0]], 3, "integer ids"),
        (np.zeros((2, 2), int), [0, 0], 3, r"\(N, 2\)"),
        (np.zeros((2, 2), int), [[0, np.nan]], 3, "finite"),
        (np.zeros((2, 2), int), [[0, 0]], 0, "positive"),
        (np.zeros((2, 2), int), [[0, 0]], (3, -1), "positive"),
    ],
)
def test_refusals(labels, yx, distance, message):
    with pytest.raises(InputError, match=message):
        cell_calling_score(labels, yx, distance_px=distance)
