"""The table of cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from dask.delayed import delayed
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_matrix
from spatialdata.models import TableModel

from sjg._keys import INSTANCE_KEY, REGION_KEY
from sjg.access._compute import compute_in_order
from sjg.core import GrowingArray, InputError, parts, release

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


def count_matrix(cell: NDArray[np.integer[Any]], gene: NDArray[np.integer[Any]], shape: tuple[int, int]) -> csr_matrix:
    """Transcripts of each gene in each cell: one sparse sum.

    Parameters
    ----------
    cell
        (N,) cell of each transcript, 1..n; 0 = none, not counted.
    gene
        (N,) index of its gene.
    shape
        (number of cells, number of genes).

    Returns
    -------
    (cells, genes) int32 CSR.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.access import count_matrix
    >>> count_matrix(np.array([1, 0, 1, 2]), np.array([0, 0, 0, 1]), (2, 2)).toarray().tolist()
    [[2, 0], [0, 1]]
    """
    # each part is reduced before the next one is read, so that what is held follows the entries of the table, not the transcripts
    values, at_row, at_column = GrowingArray(np.int32), GrowingArray(np.int32), GrowingArray(np.int32)
    count = delayed(_count)
    for found in compute_in_order(count(cell[rows], gene[rows], shape) for rows in parts(len(cell))):
        for whole, piece in zip((values, at_row, at_column), found, strict=True):
            whole.append(piece)
        release(cell, gene)
    counts = coo_array((values.finish(), (at_row.finish(), at_column.finish())), shape=shape).tocsr()
    # AnnData and the tools that read it expect the matrix interface
    return csr_matrix(counts)


def _count(
    owner: NDArray[np.integer[Any]], kind: NDArray[np.integer[Any]], shape: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Counts, rows and columns of the entries that some transcripts make."""
    inside = owner > 0
    part = coo_array((np.ones(int(inside.sum()), dtype=np.int32), (owner[inside] - 1, kind[inside])), shape=shape)
    part.sum_duplicates()
    row, column = part.coords
    return part.data, row.astype(np.int32, copy=False), column.astype(np.int32, copy=False)


def build_table(
    counts: csr_matrix,
    gene_names: Sequence[str],
    *,
    region: str,
    instance_ids: ArrayLike,
    obs: Mapping[str, Any] | None = None,
    spatial: NDArray[np.floating[Any]] | None = None,
    uns: Mapping[str, Any] | None = None,
) -> AnnData:
    """A table that annotates an element, its rows sorted by instance id.

    Parameters
    ----------
    counts
        (n, G) integer counts.
    gene_names
        The G genes.
    region
        Key of the element that the table annotates.
    instance_ids
        (n,) positive ids of its instances, without repeats.
    obs
        More columns by name, (n,) each.
    spatial
        (n, 2) positions for ``obsm["spatial"]``.
    uns
        More entries of ``uns``, plain types (:func:`plain`).

    Returns
    -------
    AnnData with ``X`` and ``layers["counts"]`` the counts; ``obs``: ``region`` (categorical), ``cell_id``, ``n_transcripts``, and
    the columns of `obs`; ``obs_names`` the ids as text.

    Raises
    ------
    InputError
        Ids that are not positive or repeat.
    """
    ids = np.asarray(instance_ids)
    if ids.size and (ids.min() < 1 or np.unique(ids).size != ids.size):
        raise InputError(f"The instance ids of {region!r} must be positive and unique; 0 is the background.")
    order = np.argsort(ids, kind="stable")
    counts = csr_matrix(counts)
    if (np.diff(ids) < 0).any():
        ids, counts = ids[order], counts[order]
    columns: dict[str, Any] = {
        REGION_KEY: pd.Categorical.from_codes(np.zeros(len(ids), dtype=np.int8), categories=[region]),
        INSTANCE_KEY: ids,
        "n_transcripts": np.asarray(counts.sum(axis=1)).ravel().astype(np.int64),
    }
    for name, values in (obs or {}).items():
        columns[name] = values[order]
    frame = pd.DataFrame(columns, index=pd.Index(ids.astype(str), dtype=object))
    table = AnnData(X=counts, obs=frame, var=pd.DataFrame(index=pd.Index(list(gene_names), dtype=object)))
    table.layers["counts"] = counts.copy()
    if spatial is not None:
        table.obsm["spatial"] = np.asarray(spatial, dtype=np.float64)[order]
    table.uns.update(uns or {})
    parsed: AnnData = TableModel.parse(table, region=region, region_key=REGION_KEY, instance_key=INSTANCE_KEY)
    return parsed
