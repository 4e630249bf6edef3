"""Results for programs that do not read SpatialData."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sjg.core import InputError, MissingElementError

if TYPE_CHECKING:
    from spatialdata import SpatialData


def write_transcripts_csv(
    sdata: SpatialData,
    path: str | os.PathLike[str],
    points_key: str | None = None,
    *,
    columns: Sequence[str] | None = None,
    overwrite: bool = False,
) -> None:
    """Write transcripts, with the cells they were assigned to, as a CSV file.

    Parameters
    ----------
    sdata
        The object.
    path
        The file to write; gzip where it ends in ``.gz``.
    points_key
        Points element; by default the only one.
    columns
        Columns to write; by default all. Coordinates stay in the frame of the element.
    overwrite
        Replace an existing file.

    Raises
    ------
    MissingElementError
        There is no such element.
    InputError
        The file exists, a column does not, or there are several points and none was chosen.

    Examples
    --------
    >>> import sjg
    >>> sjg.io.write_transcripts_csv(sdata, "cells.csv.gz", columns=["x", "y", "gene", "sjg_cell_id"])  # doctest: +SKIP
    """
    from sjg.access import choose_points
    from sjg.io._paths import new_file

    key = choose_points(sdata, points_key)
    points = sdata.points[key]
    chosen = list(points.columns) if columns is None else list(columns)
    lacking = [column for column in chosen if column not in points.columns]
    if lacking:
        raise InputError(f"points[{key!r}] has no column {', '.join(lacking)}; it has {', '.join(map(str, points.columns))}.")
    with new_file(path, overwrite=overwrite) as file:
        # a partition in memory at a time
        for i in range(points.npartitions):
            part = points[chosen].get_partition(i).compute()
            part.to_csv(file, index=False, header=i == 0, mode="w" if i == 0 else "a")


def write_h5ad(
    sdata: SpatialData,
    path: str | os.PathLike[str],
    table_key: str = "sjg_table",
    *,
    overwrite: bool = False,
) -> None:
    """Write a table as an ``.h5ad`` file for scanpy.

    Parameters
    ----------
    sdata
        The object.
    path
        The file to write.
    table_key
        The table.
    overwrite
        Replace an existing file.

    Raises
    ------
    MissingElementError
        There is no such table.
    InputError
        The file exists.

    Examples
    --------
    >>> import sjg
    >>> sjg.io.write_h5ad(sdata, "cells.h5ad")  # doctest: +SKIP
    """
    from sjg.io._paths import new_file

    if table_key not in sdata.tables:
        raise MissingElementError(f"table_key={table_key!r} is not in sdata.tables, which has: {', '.join(sdata.tables) or 'none'}.")
    with new_file(path, overwrite=overwrite) as file:
        sdata.tables[table_key].write_h5ad(file)
