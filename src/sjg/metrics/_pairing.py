"""Optimal one-to-one pairing on a sparse bipartite graph."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching


def optimal_pairs(row: NDArray[np.intp], column: NDArray[np.intp], weight: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.bool_]:
    """Choose pairs, each row and each column at most once, so that their summed weight is largest.

    An edge that weighs at least as much as the next best of its row and the next best of its column together is in some optimal
    pairing: taking it costs at most those two. Such edges are settled first, round by round; in real segmentations little is
    left for the solver (shortest augmenting paths, Jonker and Volgenant 1987, in SciPy).

    Parameters
    ----------
    row, column
        (k,) indices of the two ends of each edge; no edge twice.
    weight
        (k,) weights; edges that are not positive are never chosen.

    Returns
    -------
    (k,) bool, True where the edge is chosen.

    Examples
    --------
    Greedy would take 5 first and end with 5; the best total is 4 + 4.

    >>> import numpy as np
    >>> optimal_pairs(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([5, 4, 4]))
    array([False,  True,  True])
    """
    chosen = np.zeros(len(weight), dtype=bool)
    values = np.asarray(weight, dtype=np.float64)
    open_edges = np.flatnonzero(values > 0)
    while len(open_edges):
        r, c, w = row[open_edges], column[open_edges], values[open_edges]
        best_of_row, next_of_row = _best_and_next(r, w)
        best_of_column, next_of_column = _best_and_next(c, w)
        settled = best_of_row & best_of_column & (w >= next_of_row + next_of_column)
        if not settled.any():
            chosen[open_edges[_solve(r, c, w)]] = True
            break
        chosen[open_edges[settled]] = True
        open_edges = open_edges[~(np.isin(r, r[settled]) | np.isin(c, c[settled]))]
    return chosen


def _best_and_next(group: NDArray[np.intp], weight: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Per edge: is it the one best of its group, and the weight of the group's runner-up (0 if it has none)."""
    order = np.lexsort((-weight, group))
    sorted_group, sorted_weight = group[order], weight[order]
    first = np.concatenate([[True], sorted_group[1:] != sorted_group[:-1]])
    start = np.flatnonzero(first)
    size = np.diff(start, append=len(order))
    runner_up = np.where(size > 1, sorted_weight[np.minimum(start + 1, len(order) - 1)], 0)
    best = np.empty(len(order), dtype=bool)
    best[order] = first
    following = np.empty(len(order), dtype=runner_up.dtype)
    following[order] = np.repeat(runner_up, size)
    return best, following


def _solve(row: NDArray[np.intp], column: NDArray[np.intp], weight: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions of the chosen edges, by SciPy's sparse solver."""
    _, r = np.unique(row, return_inverse=True)
    _, c = np.unique(column, return_inverse=True)
    n_rows, n_columns = int(r.max()) + 1, int(c.max()) + 1
    # the solver wants every row matched and no zero cost: each row gets a column of its own that stands for "unmatched"
    unmatched = 2.0 * float(weight.max())
    rows = np.concatenate([r, np.arange(n_rows)])
    columns = np.concatenate([c, n_columns + np.arange(n_rows)])
    cost = np.concatenate([unmatched - weight, np.full(n_rows, unmatched)])
    graph = csr_array((cost, (rows, columns)), shape=(n_rows, n_columns + n_rows))
    pair_row, pair_column = min_weight_full_bipartite_matching(graph)
    partner = np.empty(n_rows, dtype=np.intp)
    partner[pair_row] = pair_column
    return np.flatnonzero(partner[r] == c)
