"""Which genes a reference says a cell type expresses."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, issparse

from sjg.core import InputError


def expressing_fraction(counts: Any, cell_type: ArrayLike, *, n_types: int | None = None, min_cells: int = 10) -> NDArray[np.float64]:
    """Share of the cells of each type that express each gene (count above 0).

    Parameters
    ----------
    counts
        (n, G) counts of reference cells, dense or sparse.
    cell_type
        (n,) integer type of each cell; negative = unknown, left out.
    n_types
        Number of types; default one more than the largest index.
    min_cells
        Types with fewer cells get NaN: a share of so few says nothing.

    Returns
    -------
    (n_types, G) shares in [0, 1], NaN for types with too few cells.

    Raises
    ------
    InputError
        Shapes do not fit, or a type is no integer below `n_types`.

    Examples
    --------
    >>> expressing_fraction([[1, 0], [3, 0], [0, 5]], [0, 0, 1], min_cells=2)
    array([[ 1.,  0.],
           [nan, nan]])
    """
    positive, types = positive_table(counts), type_codes(cell_type, None)
    if len(types) != positive.shape[0]:
        msg = f"counts has {positive.shape[0]} cells, cell_type {len(types)}"
        raise InputError(msg)
    total = int(types.max(initial=-1)) + 1 if n_types is None else n_types
    type_codes(cell_type, total)
    share, n_cells = share_by_type(positive, types, total)
    share[n_cells < min_cells] = np.nan
    return share


def poisson_expressing_fraction(means: ArrayLike, *, n_transcripts: ArrayLike | None = None) -> NDArray[np.float64]:
    """Share of cells that express each gene where only class means are known: ``1 - exp(-mean)``, as for Poisson counts.

    Parameters
    ----------
    means
        (T, G) mean counts of a cell of each type, not normalised.
    n_transcripts
        (T,) or (T, Q) transcripts of cells of each type: the shares are those of cells with the profile of the type and these
        totals, averaged over the Q. None takes `means` as they are.

    Returns
    -------
    (T, G) shares in [0, 1].

    Raises
    ------
    InputError
        `means` or totals are negative or not finite, or do not fit each other.

    Examples
    --------
    >>> poisson_expressing_fraction([[0.0, 0.001, 5.0]]).round(3)
    array([[0.   , 0.001, 0.993]])
    >>> poisson_expressing_fraction([[1.0, 3.0]], n_transcripts=[4]).round(3)
    array([[0.632, 0.95 ]])
    """
    values = _means(means)
    if n_transcripts is None:
        return -np.expm1(-values)
    totals = np.asarray(n_transcripts, dtype=np.float64)
    totals = totals[:, None] if totals.ndim == 1 else totals
    if totals.ndim != 2 or len(totals) != len(values) or not (totals >= 0).all():
        msg = f"n_transcripts must be ({len(values)},) or ({len(values)}, Q) and not negative, got shape {totals.shape}"
        raise InputError(msg)
    # type by type: all totals of all types and genes at once would not fit
    return np.stack([-np.expm1(-np.outer(total, row)).mean(axis=0) for total, row in zip(totals, _profiles(values), strict=True)])


def negative_markers(means: ArrayLike, *, max_ratio: float = 0.05) -> NDArray[np.bool_]:
    """Genes that a type hardly expresses, where only class means are known.

    Class means do not tell how many cells express a gene. A gene counts as a negative marker of a type here if its share of the
    type's transcripts is at most `max_ratio` times its largest share in any type. With reference cells, use
    :func:`expressing_fraction` and the published limit of 0.5 % of the cells instead.

    Parameters
    ----------
    means
        (T, G) mean counts of a cell of each type.
    max_ratio
        Largest ratio, inclusive.

    Returns
    -------
    (T, G) bool; genes without any count are no markers of anything.

    Raises
    ------
    InputError
        A mean is negative or not finite.

    Examples
    --------
    >>> negative_markers([[9.0, 0.3, 1.0], [0.2, 8.0, 1.0]])
    array([[False,  True, False],
           [ True, False, False]])
    """
    share = _profiles(_means(means))
    largest = share.max(axis=0)
    return (share <= max_ratio * largest) & (largest > 0)


def exclusive_pairs(
    expressing: ArrayLike, *, negative: ArrayLike | None = None, min_fraction: float = 0.25, max_fraction: float = 0.005
) -> NDArray[np.intp]:
    """Pairs of genes that no cell type expresses together, each a marker of some type.

    Parameters
    ----------
    expressing
        (T, G) share of the cells of each type that express each gene; rows that are NaN are left out.
    negative
        (T, G) bool, genes that a type does not express, from :func:`negative_markers`; None: those that at most `max_fraction` of
        its cells express.
    min_fraction
        Both genes are expressed by at least this share of the cells of some type.
    max_fraction
        Used where `negative` is None.

    Returns
    -------
    (P, 2) indices of genes, the first below the second; in every type at least one of the two is negative.

    Raises
    ------
    InputError
        A table is not (T, G).

    References
    ----------
    The gene pairs of the mutually exclusive co-expression rate: Hartman and Satija (2024), eLife 13:RP96949.

    Examples
    --------
    Genes 0 and 1 mark different types; gene 2 is everywhere.

    >>> exclusive_pairs([[0.9, 0.0, 0.5], [0.0, 0.8, 0.5]])
    array([[0, 1]])
    """
    share = shares_table(expressing)
    present = ~negative_table(share, negative, max_fraction)
    known = ~np.isnan(share).any(axis=1)
    share, present = share[known], present[known]
    marker = np.flatnonzero((share >= min_fraction).any(axis=0))
    # float32 for a fast matrix product; it only counts types
    of_markers = present[:, marker].astype(np.float32)
    first, second = np.nonzero(np.triu(of_markers.T @ of_markers == 0, k=1))
    return np.stack([marker[first], marker[second]], axis=1)


def share_by_type(positive: csr_array, types: NDArray[np.integer], n_types: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """(T, G) share of cells that are positive, and (T,) number of cells."""
    known = np.flatnonzero(types >= 0)
    n_cells = np.bincount(types[known], minlength=n_types)
    member = csr_array((np.ones(len(known)), (types[known], known)), shape=(n_types, len(types)))
    return (member @ positive).toarray() / np.maximum(1, n_cells)[:, None], n_cells


def positive_table(counts: Any) -> csr_array:
    """(n, G) 0/1 table."""
    table = csr_array(counts if issparse(counts) else np.atleast_2d(np.asarray(counts)))
    if table.ndim != 2:
        msg = f"counts must be (cells, genes), got shape {table.shape}"
        raise InputError(msg)
    return csr_array((table > 0).astype(np.float64))


def type_codes(cell_type: ArrayLike, n_types: int | None) -> NDArray[np.integer]:
    types = np.asarray(cell_type)
    if types.ndim != 1 or (types.size and not np.issubdtype(types.dtype, np.integer)):
        msg = f"cell_type must be (n,) integer indices, got shape {types.shape} of {types.dtype}"
        raise InputError(msg)
    if n_types is not None and types.max(initial=-1) >= n_types:
        msg = f"cell_type holds {types.max()}, but there are only {n_types} types"
        raise InputError(msg)
    return types.astype(np.int64)


def shares_table(expressing: ArrayLike) -> NDArray[np.float64]:
    share = np.asarray(expressing, dtype=np.float64)
    if share.ndim != 2:
        msg = f"expressing must be (types, genes), got shape {share.shape}"
        raise InputError(msg)
    return share


def negative_table(share: NDArray[np.float64], negative: ArrayLike | None, max_fraction: float) -> NDArray[np.bool_]:
    """(T, G) bool: negative markers as given, or by share of cells; NaN shares are none."""
    if negative is None:
        return share <= max_fraction
    table = np.asarray(negative)
    if table.shape != share.shape or table.dtype != np.bool_:
        msg = f"negative must be bool of the shape of expressing, {share.shape}, got {table.dtype} {table.shape}"
        raise InputError(msg)
    return table & ~np.isnan(share)


def _means(means: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(means, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all() or (values < 0).any():
        msg = "means must be a (types, genes) table of finite, non-negative mean counts; undo any log or scaling first"
        raise InputError(msg)
    return values


def _profiles(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows that sum to 1, or are 0."""
    return means / np.maximum(means.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
