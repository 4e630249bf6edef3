"""Types of nuclei without a reference: a fine graph clustering, joined and refined by the likelihood of the counts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, csr_matrix

from sjg.core import InputError, generator
from sjg.pp._mixture import Mixture, fit_mixture, held_out_number
from sjg.pp._typing import as_counts

#: Leiden at a resolution that splits too much: what belongs together is joined later
_RESOLUTION = 3.0
_N_NEIGHBOURS = 15
_N_COMPONENTS = 20
#: with at most this many nuclei each is a cluster at first, and joins go on while they raise the evidence
_FEW_NUCLEI = 30
#: more nuclei than this are clustered by a random part of them
_MANY_NUCLEI = 10_000
#: the number of clusters is found on at most this many
_MANY_TO_CHOOSE = 4_000


def cluster_nuclei(
    counts: Any, *, n_clusters: int | None = None, random_state: int | np.random.Generator | None = 0
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Cluster nuclei by their transcripts.

    Leiden communities of scanpy's neighbour graph, more than there are types, start a mixture of multinomials on the raw counts
    (:func:`~sjg.pp._mixture.fit_mixture`). Its groups are joined down to the number under which nuclei that were held out are most
    likely (:func:`~sjg.pp._mixture.held_out_number`). At a few transcripts a nucleus the likelihood tells types apart far better than
    the graph.

    Parameters
    ----------
    counts
        (n, G) counts, sparse or dense; a row may be empty.
    n_clusters
        Number of clusters; None finds it.
    random_state
        Seed.

    Returns
    -------
    codes
        (n,) int32 cluster 0..K-1, the largest first. A nucleus without transcripts joins the most frequent one.
    confidence
        (n,) float32 posterior of that cluster.

    Raises
    ------
    InputError
        `n_clusters` is not positive or exceeds the number of nuclei with transcripts.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.pp._clustering import cluster_nuclei
    >>> counts = np.array([[9, 0], [0, 8], [8, 1], [11, 0]])
    >>> cluster_nuclei(counts)[0].tolist()
    [0, 1, 0, 0]
    """
    matrix = as_counts(counts)
    if n_clusters is not None and n_clusters < 1:
        raise InputError(f"n_clusters={n_clusters!r} must be a positive number, or None to find it.")
    filled = np.flatnonzero(np.diff(matrix.indptr))
    if n_clusters is not None and n_clusters > max(filled.size, 1):
        raise InputError(f"n_clusters={n_clusters} exceeds the {filled.size} nuclei that have transcripts; lower it.")
    if filled.size < 2 or matrix.shape[1] < 2 or n_clusters == 1:
        return np.zeros(matrix.shape[0], dtype=np.int32), np.ones(matrix.shape[0], dtype=np.float32)
    rng = generator(random_state)
    seed = int(rng.integers(2**31 - 1))
    some = filled if filled.size <= _MANY_NUCLEI else np.sort(rng.choice(filled, _MANY_NUCLEI, replace=False))
    part = matrix[some]
    with _threads_kept():
        start = _start(part, n_clusters, seed)
    if n_clusters is None and some.size > _FEW_NUCLEI:
        fewer = rng.permutation(some.size)[:_MANY_TO_CHOOSE]
        n_clusters = held_out_number(part[fewer], np.unique(start[fewer], return_inverse=True)[1], rng)
    mixture = fit_mixture(part, start, n_groups=n_clusters)
    return _ordered(mixture, matrix)


@contextmanager
def _threads_kept() -> Iterator[None]:
    """PyTorch's number of threads after it as before: scanpy's numba sets that of the OpenMP that both use."""
    import torch

    n_threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _start(counts: csr_array, n_clusters: int | None, seed: int) -> NDArray[np.int64]:
    """(n,) groups, more than there are types."""
    import scanpy as sc
    from anndata import AnnData

    n_nuclei = counts.shape[0]
    if n_nuclei <= _FEW_NUCLEI:
        return np.arange(n_nuclei)
    table = AnnData(csr_matrix(counts, dtype=np.float32))
    sc.pp.normalize_total(table, target_sum=float(np.median(np.asarray(counts.sum(axis=1)))))
    sc.pp.log1p(table)
    sc.pp.pca(table, n_comps=min(_N_COMPONENTS, min(counts.shape) - 1), random_state=seed)
    sc.pp.neighbors(table, n_neighbors=_N_NEIGHBOURS, random_state=seed)
    sc.tl.leiden(table, resolution=_RESOLUTION, flavor="igraph", n_iterations=2, directed=False, random_state=seed)
    codes = table.obs["leiden"].cat.codes.to_numpy().astype(np.int64)
    if n_clusters is not None and codes.max() + 1 < n_clusters:
        from sklearn.cluster import KMeans

        codes = KMeans(n_clusters, n_init=10, random_state=seed).fit_predict(table.obsm["X_pca"]).astype(np.int64)
    return codes


def _ordered(mixture: Mixture, counts: csr_array) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Codes by falling size without empty clusters, and the posterior of each."""
    posterior = mixture.posterior(counts)
    best = posterior.argmax(axis=1)
    sizes = np.bincount(best, minlength=posterior.shape[1])
    order = np.argsort(-sizes, kind="stable")
    rank = np.empty(len(order), dtype=np.int32)
    rank[order] = np.arange(len(order))
    return rank[best], posterior.max(axis=1).astype(np.float32)
