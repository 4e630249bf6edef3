from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from sjg.core import InputError
from sjg.pp._clustering import cluster_nuclei
from sjg.pp._mixture import fit_mixture
from sjg.pp._typing import as_counts


@pytest.mark.parametrize("n_transcripts", [14, 42])
def test_recovers_planted_types(planted_types, n_transcripts):
    counts, truth, _, oracle = planted_types(600, 8, n_transcripts)
    codes, confidence = cluster_nuclei(csr_matrix(counts))
    score = adjusted_rand_score(truth, codes)
    shares = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    given_the_number = KMeans(8, n_init=5, random_state=0).fit_predict(shares)
    assert score >= adjusted_rand_score(truth, given_the_number)
    assert score >= adjusted_rand_score(truth, oracle) - 0.12
    assert abs(codes.max() + 1 - 8) <= 2
    assert confidence.min() > 0
    assert confidence.max() <= 1


def test_codes_are_contiguous_and_fall_in_size(planted_types):
    counts, *_ = planted_types(300, 5, 30)
    codes, _ = cluster_nuclei(counts)
    sizes = np.bincount(codes)
    assert (sizes > 0).all()
    assert (np.diff(sizes) <= 0).all()


@pytest.mark.parametrize("n_transcripts", [10, 100])
def test_one_type_is_one_cluster(planted_types, n_transcripts):
    counts, *_ = planted_types(250, 1, n_transcripts)
    assert cluster_nuclei(counts)[0].max() == 0


def test_one_overdispersed_type_is_one_cluster():
    rng = np.random.default_rng(0)
    profile = rng.dirichlet(np.full(50, 0.3))
    counts = np.stack([rng.multinomial(100, rng.dirichlet(150 * profile + 1e-6)) for _ in range(250)])
    assert cluster_nuclei(counts)[0].max() == 0


def test_number_can_be_given(planted_types):
    counts, truth, *_ = planted_types(300, 4, 40)
    codes, _ = cluster_nuclei(counts, n_clusters=4)
    assert codes.max() == 3
    assert adjusted_rand_score(truth, codes) > 0.9
    assert cluster_nuclei(counts, n_clusters=2)[0].max() == 1
    assert cluster_nuclei(counts, n_clusters=1)[0].max() == 0


@pytest.mark.parametrize("n_nuclei", [1, 2, 5, 31])
def test_few_nuclei(planted_types, n_nuclei):
    counts, *_ = planted_types(n_nuclei, 2, 30, seed=1)
    codes, confidence = cluster_nuclei(counts)
    assert codes.shape == confidence.shape == (n_nuclei,)


@pytest.mark.parametrize("shape", [(4, 1), (40, 1), (40, 2), (40, 3)])
def test_few_genes(shape):
    codes, _ = cluster_nuclei(np.random.default_rng(0).poisson(5, size=shape))
    assert codes.shape == shape[:1]


def test_nuclei_without_transcripts_join_the_most_frequent(planted_types):
    counts, *_ = planted_types(200, 3, 30)
    counts[::20] = 0
    codes, confidence = cluster_nuclei(counts)
    assert (codes[::20] == 0).all()
    assert confidence[::20].max() < confidence[1::20].mean()
    assert cluster_nuclei(np.zeros((5, 4)))[0].tolist() == [0] * 5


def test_same_seed_same_clusters(planted_types):
    counts, *_ = planted_types(200, 4, 15)
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the global state must not move
    np.testing.assert_array_equal(cluster_nuclei(counts, random_state=3)[0], cluster_nuclei(counts, random_state=3)[0])
    np.testing.assert_array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("n_clusters", [0, -1, 50])
def test_refuses_a_number_that_cannot_be(n_clusters):
    with pytest.raises(InputError, match="n_clusters"):
        cluster_nuclei(np.eye(10), n_clusters=n_clusters)


def test_mixture_does_not_depend_on_a_fine_start(planted_types):
    counts, truth, *_ = planted_types(240, 3, 40)
    rng = np.random.default_rng(0)
    # each type cut at random into five
    posterior = fit_mixture(as_counts(counts), truth * 5 + rng.integers(5, size=240)).posterior(as_counts(counts))
    assert posterior.shape[1] == 3
    assert adjusted_rand_score(truth, posterior.argmax(axis=1)) > 0.95


def test_the_number_of_threads_of_torch_is_left_alone():
    """scanpy's numba sets it: a second run in one process would round its sums in another way."""
    n_threads = torch.get_num_threads()
    try:
        for wanted in (1, 3):
            torch.set_num_threads(wanted)
            cluster_nuclei(np.random.default_rng(0).poisson(3.0, (60, 8)))
            assert torch.get_num_threads() == wanted
    finally:
        torch.set_num_threads(n_threads)
