"""Which elements, tables and columns a plot uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from spatialdata.models import get_table_keys

from sjg._keys import cell_id_column, labels_key
from sjg.access import annotating_tables
from sjg.core import AmbiguousElementError, MissingElementError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData

#: entry of ``uns`` that tl.segment writes
_UNS_KEY = "sjg"


def check_labels(sdata: SpatialData, key: str) -> None:
    """Refuse a key that names no labels, with the valid ones."""
    if key not in sdata.labels:
        raise MissingElementError(f"labels[{key!r}] does not exist; labels: {sorted(sdata.labels)}")


def table(sdata: SpatialData, key: str) -> AnnData:
    """A table, or an error that lists the valid ones."""
    if key not in sdata.tables:
        raise MissingElementError(f"tables[{key!r}] does not exist; tables: {sorted(sdata.tables)}")
    return sdata.tables[key]


@dataclass(frozen=True)
class Annotation:
    """The rows of a table that annotate one element.

    Parameters
    ----------
    key
        Name of the table.
    table
        The whole table: a slice of an AnnData drops unused categories, and with them the order of the colours.
    obs
        Its rows for the element.
    rows
        Their positions in the table.
    instances
        Ids of the instances in those rows.
    """

    key: str
    table: AnnData
    obs: pd.DataFrame
    rows: NDArray[np.int64]
    instances: NDArray[np.int64]


def annotation_of(sdata: SpatialData, element_key: str) -> Annotation | None:
    """The table that annotates an element, None where there is none."""
    found = annotating_tables(sdata, element_key)
    if not found:
        return None
    # a run's own table wins over others that annotate the same labels, such as the copy of a later analysis
    key, table = min(found.items(), key=lambda one: (_UNS_KEY not in one[1].uns, one[0]))
    _, region_key, instance_key = get_table_keys(table)
    rows = np.flatnonzero(table.obs[region_key].astype(str) == element_key)
    obs = table.obs.iloc[rows]
    return Annotation(key, table, obs, rows, obs[instance_key].to_numpy(dtype=np.int64))


def run_record(sdata: SpatialData, element_key: str) -> dict[str, Any]:
    """What the run that made the labels recorded: the keys of the elements it used and ``pixel_size_um``, as far as they are known."""
    annotation = annotation_of(sdata, element_key)
    uns = annotation.table.uns.get(_UNS_KEY) if annotation is not None else None
    if not isinstance(uns, Mapping):
        return {}
    nested = [uns[name] for name in ("parameters", "grid") if isinstance(uns.get(name), Mapping)]
    names = ("image_key", "points_key", "nuclei_key", "pixel_size_um")
    return {name: source[name] for source in (*nested, uns) for name in names if name in source}


def choose(available: list[str], asked: str | None, recorded: Any, kind: str, argument: str, *, needed: bool) -> str | None:
    """The asked-for element, else the one that the run used, else the only one."""
    if asked is not None:
        if asked not in available:
            raise MissingElementError(f"{kind}[{asked!r}] does not exist; {kind}: {sorted(available)}")
        return asked
    if isinstance(recorded, str) and recorded in available:
        return recorded
    if len(available) == 1:
        return available[0]
    if not needed:
        return None
    if not available:
        raise MissingElementError(f"the object has no {kind}, so {argument} cannot be chosen")
    raise AmbiguousElementError(f"several {kind} ({sorted(available)}); choose one with {argument}=...")


def assigned_column(sdata: SpatialData, points_key: str, element_key: str) -> str | None:
    """Column of the points that holds the cell of each transcript for these labels, None where there is none."""
    suffix = labels_key("")
    if not element_key.endswith(suffix):
        return None
    column = cell_id_column(element_key.removesuffix(suffix))
    return column if column in sdata.points[points_key].columns else None
