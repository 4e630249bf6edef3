"""Rows of molecules numbered through all partitions."""

from __future__ import annotations

from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from dask.dataframe import DataFrame


def numbered_rows(molecules: DataFrame) -> DataFrame:
    """The same rows under the index 0..N-1 with known divisions.

    Readers number the rows of each partition from 0, and repeated numbers break :func:`spatialdata.transform`.
    """
    import dask.dataframe as dd
    from dask.base import compute
    from dask.delayed import delayed

    sizes = [int(size) for size in compute(*(delayed(len)(part) for part in molecules.to_delayed()))]
    filled = [(part, size) for part, size in zip(molecules.to_delayed(), sizes, strict=True) if size]
    if not filled:
        return molecules
    starts = [0, *accumulate(size for _, size in filled)]
    parts = [delayed(_renumbered)(part, first, last) for (part, _), (first, last) in zip(filled, pairwise(starts), strict=True)]
    return dd.from_delayed(parts, meta=molecules._meta, divisions=(*starts[:-1], starts[-1] - 1), verify_meta=False)


def _renumbered(part: pd.DataFrame, first: int, last: int) -> pd.DataFrame:
    return part.set_axis(range(first, last), axis=0)
