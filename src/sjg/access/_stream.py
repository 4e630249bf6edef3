"""Elements that grow with the slide, written to a store a part at a time."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from dask.delayed import delayed
from geopandas import GeoDataFrame
from spatialdata.config import settings

from sjg.access._compute import compute_in_order

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as DaskDataFrame

#: rows that are converted together
_ROWS = 1 << 18
#: polygons that are converted together: a few kilobytes each
SHAPES_AT_ONCE = 1 << 14
#: what dask calls an index without a name in a file
_NO_NAME = "__null_dask_index__"


def write_points(points: DaskDataFrame, folder: Path) -> None:
    """Write points as a folder of Parquet files, one for each partition, as dask would.

    Partitions are read, joined and written one after the other, or by the workers of a ``distributed.Client`` where there is one, which must
    see the folder. What dask does not do: it needs the categories of all partitions before it writes the first one.

    Parameters
    ----------
    points
        The element.
    folder
        Made here.
    """
    folder.mkdir(parents=True)
    write = delayed(_write_partition)
    # not optimised: the optimiser may read several small partitions as one
    partitions = points.to_delayed(optimize_graph=False)
    for _ in compute_in_order(write(part, str(folder / f"part.{number}.parquet")) for number, part in enumerate(partitions)):
        pass


def _write_partition(frame: pd.DataFrame, path: str) -> int:
    """Rows written."""
    frame.index.name = frame.index.name or _NO_NAME
    writer = None
    try:
        for start in range(0, max(len(frame), 1), _ROWS):
            table = _wide_categories(pa.Table.from_pandas(frame.iloc[start : start + _ROWS], preserve_index=True))
            writer = writer or pq.ParquetWriter(path, table.schema, compression="snappy")
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    return len(frame)


def _wide_categories(table: pa.Table) -> pa.Table:
    """Codes of categories as int32: in every partition the same type, however many categories it has."""
    for position, field in enumerate(table.schema):
        if pa.types.is_dictionary(field.type):
            chunks = [pa.DictionaryArray.from_arrays(chunk.indices.cast(pa.int32()), chunk.dictionary) for chunk in table[position].chunks]
            kind = pa.dictionary(pa.int32(), field.type.value_type, field.type.ordered)
            table = table.set_column(position, pa.field(field.name, kind), pa.chunked_array(chunks, type=kind))
    return table


def write_shapes(shapes: GeoDataFrame, file: Path) -> None:
    """Write shapes as one GeoParquet file, without a copy of all of them as bytes.

    Parameters
    ----------
    shapes
        The element.
    file
        Written here, replacing what is there.
    """
    partial = file.with_suffix(".partial")
    writer = None
    try:
        for start in range(0, len(shapes), SHAPES_AT_ONCE):
            plain = GeoDataFrame(shapes.iloc[start : start + SHAPES_AT_ONCE])
            # the transformations are not for this file
            plain.attrs = {}
            buffer = io.BytesIO()
            # a range in the metadata would be that of the first block
            plain.to_parquet(buffer, index=True, geometry_encoding=settings.shapes_geometry_encoding)
            table = pq.read_table(buffer)
            if writer is None:
                writer = pq.ParquetWriter(partial, _of_all(table.schema, shapes), compression="snappy")
            writer.write_table(table.replace_schema_metadata(writer.schema.metadata))
    finally:
        if writer is not None:
            writer.close()
    partial.replace(file)


def _of_all(schema: pa.Schema, shapes: GeoDataFrame) -> pa.Schema:
    """The schema of a file of some of the shapes, with what it says of all of them."""
    metadata = dict(schema.metadata)
    geo = json.loads(metadata[b"geo"])
    geo["columns"][geo["primary_column"]] |= {
        "bbox": [float(value) for value in shapes.total_bounds],
        "geometry_types": sorted(shapes.geom_type.unique()),
    }
    metadata[b"geo"] = json.dumps(geo).encode()
    return schema.with_metadata(metadata)
