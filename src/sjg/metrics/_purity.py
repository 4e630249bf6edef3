"""Purity of cells, measured with genes that a reference says do not belong together."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sjg.core import InputError
from sjg.metrics._reference_genes import negative_table, positive_table, share_by_type, shares_table, type_codes


def coexpression_rate(counts: Any, pairs: ArrayLike) -> float:
    """Mutually exclusive co-expression rate (MECR): how often genes that exclude each other share a cell.

    For each pair the number of cells with both genes over the number of cells with at least one; then the mean over the pairs
    that occur at all. 0 is pure; transcripts given to the wrong cell raise it.

    Parameters
    ----------
    counts
        (n, G) counts of the segmented cells, dense or sparse.
    pairs
        (P, 2) indices of genes, as from :func:`exclusive_pairs`.

    Returns
    -------
    A number in [0, 1]; NaN where no pair occurs.

    Raises
    ------
    InputError
        `counts` is no table, or `pairs` is not (P, 2) with indices of its columns.

    References
    ----------
    Hartman and Satija (2024), eLife 13:RP96949.

    Examples
    --------
    One of three cells has both.

    >>> round(coexpression_rate([[2, 0], [1, 1], [0, 4]], [[0, 1]]), 4)
    0.3333
    """
    positive, index = positive_table(counts), np.asarray(pairs)
    if index.size == 0:
        return float("nan")
    n_genes = positive.shape[1]
    if index.ndim != 2 or index.shape[1] != 2 or not np.issubdtype(index.dtype, np.integer) or index.min() < 0 or index.max() >= n_genes:
        msg = f"pairs must be (P, 2) integer indices of the {n_genes} genes, got shape {index.shape} of {index.dtype}"
        raise InputError(msg)
    together = (positive.T @ positive).toarray()
    n_cells = together.diagonal()
    both = together[index[:, 0], index[:, 1]]
    either = n_cells[index[:, 0]] + n_cells[index[:, 1]] - both
    occurs = either > 0
    return float((both[occurs] / either[occurs]).mean()) if occurs.any() else float("nan")


def negative_marker_purity(
    counts: Any,
    cell_type: ArrayLike,
    expressing: ArrayLike,
    *,
    negative: ArrayLike | None = None,
    max_fraction: float = 0.005,
    min_cells: int = 10,
) -> float:
    """Negative marker purity (NMP): how seldom cells hold genes that their type does not express.

    A gene is a negative marker of a type if at most `max_fraction` of the reference cells of that type express it. Over all pairs
    of a type and a negative marker, the share of segmented cells that hold the gene is averaged, and the same of the reference
    cells; purity is 1 less what the first exceeds the second by.

    Parameters
    ----------
    counts
        (n, G) counts of the segmented cells, dense or sparse.
    cell_type
        (n,) integer type of each cell, index of a row of `expressing`; negative = unknown, left out.
    expressing
        (T, G) share of reference cells of each type that express each gene, from :func:`expressing_fraction` or
        :func:`poisson_expressing_fraction`; rows that are NaN are left out.
    negative
        (T, G) bool, the negative markers of each type, from :func:`negative_markers`; None: by `max_fraction`.
    max_fraction
        Largest share of a negative marker, inclusive; used where `negative` is None.
    min_cells
        Types with fewer segmented cells are left out.

    Returns
    -------
    A number in [0, 1], 1 = pure; NaN where there is no pair to look at.

    Raises
    ------
    InputError
        Shapes do not fit, or a type is no integer below T.

    References
    ----------
    Marco Salas et al. (2025), Nature Methods 22:813, in the form that counts cells.

    Examples
    --------
    Type 0 never expresses gene 1, yet one of its four cells holds it.

    >>> counts = [[5, 0], [3, 0], [4, 1], [6, 0]]
    >>> negative_marker_purity(counts, [0, 0, 0, 0], [[0.9, 0.0]], min_cells=4)
    0.75
    """
    positive, reference = positive_table(counts), shares_table(expressing)
    types = type_codes(cell_type, len(reference))
    if positive.shape != (len(types), reference.shape[1]):
        msg = f"counts is {positive.shape}, but there are {len(types)} cell types and {reference.shape[1]} reference genes"
        raise InputError(msg)
    share, n_cells = share_by_type(positive, types, len(reference))
    pairs = negative_table(reference, negative, max_fraction) & (n_cells >= max(1, min_cells))[:, None]
    if not pairs.any():
        return float("nan")
    return 1.0 - max(0.0, float(share[pairs].mean() - reference[pairs].mean()))
