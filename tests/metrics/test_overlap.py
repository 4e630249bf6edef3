from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.sparse import coo_array
from skimage.metrics import contingency_table

from sjg.core import InputError, buckets
from sjg.metrics import label_overlap


@st.composite
def label_pairs(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=7))
    return tuple(draw(arrays(np.int32, shape, elements=st.integers(0, 5))) for _ in range(2))


def dense(overlap, shape=(6, 6)):
    """Counts by id, background row and column left empty."""
    rows, columns = overlap.truth_id[overlap.truth_index], overlap.label_id[overlap.label_index]
    return coo_array((overlap.shared, (rows, columns)), shape=shape).toarray()


@given(label_pairs())
def test_equals_the_contingency_table_of_scikit_image(pair):
    truth, labels = pair
    expected = np.zeros((6, 6), dtype=int)
    table = contingency_table(truth.ravel(), labels.ravel(), normalize=False).toarray().astype(int)
    expected[: table.shape[0], : table.shape[1]] = table
    overlap = label_overlap(truth, labels)
    assert overlap.n_background == expected[0, 0]
    assert overlap.n_elements == truth.size
    np.testing.assert_array_equal(dense(overlap)[1:, 1:], expected[1:, 1:])
    assert dense(overlap)[0].sum() == dense(overlap)[:, 0].sum() == 0
    np.testing.assert_array_equal(overlap.truth_id, np.setdiff1d(truth, [0]))
    np.testing.assert_array_equal(overlap.truth_size, expected[overlap.truth_id].sum(axis=1))
    np.testing.assert_array_equal(overlap.label_size, expected[:, overlap.label_id].sum(axis=0))


@given(label_pairs(), st.integers(1, 20))
def test_blocks_do_not_change_the_result(pair, size):
    whole = label_overlap(*pair)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(buckets, "_PART_ROWS", size)
        blocked = label_overlap(*pair)
    np.testing.assert_array_equal(dense(whole), dense(blocked))
    np.testing.assert_array_equal(whole.truth_size, blocked.truth_size)
    assert whole.n_background == blocked.n_background


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_sparse_ids_of_any_integer_dtype(dtype):
    big = np.iinfo(dtype).max
    overlap = label_overlap(np.array([[big, big, 0, 3]], dtype=dtype), np.array([[1, 2, 2, 0]]))
    assert overlap.truth_id.tolist() == [3, int(big)]
    assert overlap.truth_size.tolist() == [1, 2]
    assert overlap.label_id[overlap.label_index].tolist() == [1, 2]
    assert overlap.shared.tolist() == [1, 1]


def test_reads_memory_maps_block_by_block(tmp_path):
    array = np.arange(24, dtype=np.int32).reshape(6, 4) // 3
    np.save(tmp_path / "labels.npy", array)
    mapped = np.load(tmp_path / "labels.npy", mmap_mode="r")
    np.testing.assert_array_equal(label_overlap(mapped, mapped).truth_size, np.bincount(array.ravel())[1:])


def test_nothing_at_all():
    overlap = label_overlap(np.zeros((0, 5), dtype=int), np.zeros((0, 5), dtype=int))
    assert overlap.n_elements == 0
    assert len(overlap.truth_id) == len(overlap.shared) == 0


@pytest.mark.parametrize(
    ("truth", "labels", "message"),
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "one shape"),
        (np.zeros((2, 3)), np.zeros((2, 3), int), "truth must hold integer ids, got dtype float64"),
        (np.zeros((2, 3), int), np.ones((2, 3), bool), "labels must hold integer ids, got dtype bool"),
        (np.array([[-1, 2]]), np.array([[1, 2]]), "negative"),
        (np.int64(3), np.int64(3), "single number"),
    ],
)
def test_refuses_what_are_no_labels(truth, labels, message):
    with pytest.raises(InputError, match=message):
        label_overlap(truth, labels)
