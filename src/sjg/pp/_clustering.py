"""Types of nuclei without a reference: graph clustering, refined by a likelihood on the counts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sjg.core import InputError
from sjg.pp._typing import TypingParameters, type_nuclei

_N_NEIGHBOURS = 15
_N_COMPONENTS = 20
#: fewer nuclei than this are one cluster
_MIN_NUCLEI = 20
_N_REFINEMENTS = 4
#: nuclei with fewer transcripts join a cluster by likelihood only
_MIN_TRANSCRIPTS = 5
#: a cluster below this share of the nuclei is dissolved
_MIN_SHARE = 0.01
_RESOLUTION = 1.0


def cluster_nuclei(
    counts: Any, *, random_state: int = 0, n_clusters: int | None = None, resolution: float = _RESOLUTION
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Cluster nuclei by their transcripts.

    Leiden communities of the scanpy neighbour graph (KMeans where `n_clusters` is given) start a multinomial mixture on the raw counts,
    which moves nuclei to the cluster under which their counts are most likely.

    Parameters
    ----------
    counts
        (n, G) counts, sparse or dense; rows may be empty.
    random_state
        Seed.
    n_clusters
        Number of clusters; None finds it.
    resolution
        Of the Leiden communities.

    Returns
    -------
    (n,) int32 cluster from 0, the largest first, and (n,) float32 posterior.

    Raises
    ------
    InputError
        `n_clusters` is below 1.
    """
    if n_clusters is not None and n_clusters < 1:
        raise InputError(f"n_clusters={n_clusters}; give a whole number >= 1, or None to find it.")
    matrix = csr_array(counts).astype(np.float64)
    n = matrix.shape[0]
    total = np.asarray(matrix.sum(1)).ravel()
    usable = np.flatnonzero(total >= _MIN_TRANSCRIPTS)
    if len(usable) < _MIN_NUCLEI:
        usable = np.flatnonzero(total > 0)
    if n_clusters == 1 or len(usable) < _MIN_NUCLEI or matrix.shape[1] < 2:
        return np.zeros(n, np.int32), np.ones(n, np.float32)
    start = _communities(matrix[usable], random_state=random_state, n_clusters=n_clusters, resolution=resolution)
    start = _dissolve_small(start, n_clusters)
    profiles = _profiles(matrix[usable], np.eye(int(start.max()) + 1)[start])
    posterior = type_nuclei(matrix, profiles, parameters=_TYPING)
    for _ in range(_N_REFINEMENTS):
        kept = posterior.sum(0) >= (1.0 if n_clusters else max(_MIN_SHARE * n, 2.0))
        posterior = posterior[:, kept if kept.any() else posterior.sum(0) == posterior.sum(0).max()]
        posterior = type_nuclei(matrix, _profiles(matrix, posterior), parameters=_TYPING)
    code = posterior.argmax(1)
    used, code = np.unique(code, return_inverse=True)
    order = np.argsort(-np.bincount(code), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank[code].astype(np.int32), posterior.max(1).astype(np.float32)


# The profiles come from these very counts: there is no efficiency to find.
_TYPING = TypingParameters(n_iterations=1, efficiency_prior=1e9)


def _communities(matrix: csr_array, *, random_state: int, n_clusters: int | None, resolution: float) -> NDArray[np.int64]:
    import scanpy as sc
    from anndata import AnnData
    from scipy.sparse import csr_matrix

    # Variance-stabilised proportions: at a handful of transcripts a logarithm would mostly show their number.
    total = np.asarray(matrix.sum(1)).ravel()
    scaled = csr_matrix(matrix.multiply(1.0 / np.maximum(total, 1.0)[:, None])).sqrt()
    n_components = min(_N_COMPONENTS, min(matrix.shape) - 1)
    adata = AnnData(scaled.astype(np.float32))
    sc.pp.pca(adata, n_comps=n_components, random_state=random_state)
    if n_clusters is not None:
        from sklearn.cluster import KMeans

        return KMeans(n_clusters, n_init=10, random_state=random_state).fit_predict(adata.obsm["X_pca"]).astype(np.int64)
    sc.pp.neighbors(adata, n_neighbors=min(_N_NEIGHBOURS, len(adata) - 1), random_state=random_state)
    sc.tl.leiden(adata, resolution=resolution, random_state=random_state, flavor="igraph", n_iterations=2, directed=False)
    codes: NDArray[np.int64] = adata.obs["leiden"].cat.codes.to_numpy().astype(np.int64)
    return codes


def _dissolve_small(code: NDArray[np.int64], n_clusters: int | None) -> NDArray[np.int64]:
    """Merge communities of too few nuclei into the largest; their nuclei find their place by likelihood."""
    if n_clusters is not None:
        return code
    size = np.bincount(code)
    small = size < max(_MIN_SHARE * len(code), 3)
    code = np.where(small[code], size.argmax(), code)
    return np.unique(code, return_inverse=True)[1].astype(np.int64)


def _profiles(matrix: csr_array, weight: NDArray[np.floating]) -> NDArray[np.float64]:
    """(K, G) composition of each cluster, shrunk to that of all."""
    overall = np.asarray(matrix.sum(0)).ravel() + 0.5
    overall /= overall.sum()
    sums = (csr_array(weight.T) @ matrix).toarray() if matrix.shape[0] else np.zeros((weight.shape[1], matrix.shape[1]))
    profiles: NDArray[np.float64] = sums + 20.0 * overall
    return profiles / profiles.sum(1, keepdims=True)
