"""New columns of a points element, lazily."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask.delayed import delayed
from numpy.typing import NDArray

from sjg.core import InputError, parts, release, scratch_zeros

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as DaskDataFrame


def with_columns(points: DaskDataFrame, partition_sizes: Sequence[int], columns: Mapping[str, NDArray[Any]]) -> DaskDataFrame:
    """Points with more columns, matched by position: the index may repeat, be unsorted or unknown.

    Nothing is computed: each partition gets its slice of the arrays when it is. Partitions, divisions, index, attributes and
    transformations stay; the transformations are copied, so that changing those of the result leaves `points` alone.

    Parameters
    ----------
    points
        The element.
    partition_sizes
        Rows of each partition.
    columns
        (sum of `partition_sizes`,) array for each name.

    Raises
    ------
    InputError
        Sizes that do not fit the partitions or the arrays.
    """
    total = int(sum(partition_sizes))
    if len(partition_sizes) != points.npartitions or any(len(values) != total for values in columns.values()):
        raise InputError(
            f"The columns {list(columns)} have {[len(values) for values in columns.values()]} rows for {total} transcripts in "
            f"{len(partition_sizes)} of {points.npartitions} partitions; read the points again before writing."
        )
    join = delayed(_join, pure=False)
    stops = np.cumsum(partition_sizes)
    # not optimised: the optimiser may read several small partitions as one
    sources = points.to_delayed(optimize_graph=False)
    parts = [
        join(part, {name: values[stop - size : stop] for name, values in columns.items()})
        for part, size, stop in zip(sources, partition_sizes, stops, strict=True)
    ]
    meta = _join(points._meta, {name: values[:0] for name, values in columns.items()})
    # one source for all columns: with two, dask takes the columns of one frame for unaligned and shuffles rows by their index,
    # which is wrong where the index repeats
    result = dd.from_delayed(parts, meta=meta, divisions=points.divisions, verify_meta=False, prefix="with-columns")
    for name, value in points.attrs.items():
        result.attrs[name] = deepcopy(value)
    return result


def molecule_column(row: NDArray[np.int64], values: NDArray[Any], n_total: int) -> NDArray[Any]:
    """Values of molecules at all rows of the points; 0 for a row that is no molecule."""
    column = scratch_zeros(n_total, values.dtype)
    for rows in parts(len(row)):
        column[row[rows]] = values[rows]
        release(column, row, values)
    return column


def _join(frame: pd.DataFrame, columns: Mapping[str, NDArray[Any]]) -> pd.DataFrame:
    for name, values in columns.items():
        if len(frame) != len(values):
            raise InputError(f"A partition of the points has {len(frame)} rows now and had {len(values)} when column {name!r} was made.")
    joined = frame.assign(**columns)
    release(*columns.values())
    return joined
