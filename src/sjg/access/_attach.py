"""Outputs join a SpatialData object all together or not at all, in memory and on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import dask.dataframe as dd

from sjg._keys import cell_id_column, confidence_column, labels_key, shapes_key, table_key
from sjg.access._store import StoreChange, check_writable
from sjg.access._stream import SHAPES_AT_ONCE, write_points, write_shapes
from sjg.core import ExistingElementError, InputError

if TYPE_CHECKING:
    from dask.dataframe import DataFrame as DaskDataFrame
    from spatialdata import SpatialData

_KINDS = ("images", "labels", "shapes", "points", "tables")


@dataclass(frozen=True)
class Outputs:
    """Elements by kind and key. `points` replace elements of the same key, to which they add columns."""

    images: Mapping[str, Any] = field(default_factory=dict)
    labels: Mapping[str, Any] = field(default_factory=dict)
    shapes: Mapping[str, Any] = field(default_factory=dict)
    points: Mapping[str, DaskDataFrame] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)

    def items(self) -> Iterator[tuple[str, str, Any]]:
        """(kind, key, element) of each, tables last because they annotate the others."""
        for kind in _KINDS:
            for key, element in getattr(self, kind).items():
                yield kind, key, element


def check_output_keys(sdata: SpatialData, key_added: str, points_key: str | None, *, overwrite: bool = False, to_disk: bool = True) -> None:
    """Check, before any work, that the outputs of a segmentation can be written.

    Parameters
    ----------
    sdata
        The object.
    key_added
        Prefix of the outputs.
    points_key
        The points that gain columns.
    overwrite
        Whether existing outputs may be replaced.
    to_disk
        Whether the outputs will be written to the store that backs `sdata`.

    Raises
    ------
    ExistingElementError
        An output exists and `overwrite` is False.
    InputError
        `key_added` is no valid name, a name belongs to an element of another kind, or the store is read-only.
    """
    new = {"labels": [labels_key(key_added)], "shapes": [shapes_key(key_added)], "tables": [table_key(key_added)]}
    columns = [cell_id_column(key_added), confidence_column(key_added)]
    check_new_keys(
        sdata, new, columns={} if points_key is None else {points_key: columns}, key_added=key_added, overwrite=overwrite, to_disk=to_disk
    )


def check_new_keys(
    sdata: SpatialData,
    new: Mapping[str, Sequence[str]],
    *,
    columns: Mapping[str, Sequence[str]] | None = None,
    key_added: str,
    overwrite: bool = False,
    to_disk: bool = True,
) -> None:
    """Check that elements `new` (keys by kind) and `columns` (of points, by key) can be written.

    Raises
    ------
    ExistingElementError
        One exists and `overwrite` is False.
    InputError
        A key is no valid name or belongs to an element of another kind, or the store is read-only.
    """
    if not key_added or key_added.startswith("__") or not all(letter.isalnum() or letter in "_-." for letter in key_added):
        raise InputError(f"key_added={key_added!r} is no valid name: use letters, digits, '_', '-' and '.', not starting with '__'.")
    on_disk = _keys_on_disk(sdata.path) if to_disk and sdata.path is not None else {}
    taken: list[str] = []
    for kind, keys in new.items():
        same = {*getattr(sdata, kind), *on_disk.get(kind, ())}
        others = {
            key.lower(): (other, key) for other in _KINDS if other != kind for key in (*getattr(sdata, other), *on_disk.get(other, ()))
        }
        others |= {key.lower(): (kind, key) for key in same - set(keys)}
        for key in keys:
            if key.lower() in others:
                other, name = others[key.lower()]
                raise InputError(f"The output {kind}[{key!r}] needs a name that {other}[{name!r}] has; choose another key_added.")
        taken += [f"{kind}[{key!r}]" for key in keys if key in same]
    for points_key, names in (columns or {}).items():
        taken += [f"points[{points_key!r}][{name!r}]" for name in names if name in sdata.points[points_key].columns]
    if taken and not overwrite:
        raise ExistingElementError(
            f"{', '.join(taken)} exist{'s' if len(taken) == 1 else ''} already; pass overwrite=True to replace, or another key_added "
            f"(now {key_added!r})."
        )
    if to_disk and sdata.path is not None:
        check_writable(Path(sdata.path))


def attach(sdata: SpatialData, outputs: Outputs, *, to_disk: bool = True) -> None:
    """Put all `outputs` into `sdata`, and into the store that backs it, or none.

    Elements of the same keys are replaced. On any exception `sdata` has its old elements again and the store its old files.
    Points that come from that store are rewritten there partition by partition with their new columns, then read lazily again.

    Parameters
    ----------
    sdata
        The object, changed in place.
    outputs
        Complete elements.
    to_disk
        Whether to write to the store where `sdata` has one.

    Raises
    ------
    InputError
        The store is read-only.
    """
    store = Path(sdata.path) if to_disk and sdata.path is not None else None
    if store is not None:
        check_writable(store)
    with _restored_on_error(sdata, outputs):
        for kind, key, element in outputs.items():
            getattr(sdata, kind)[key] = element
        if store is not None:
            _write(sdata, outputs, store)


@contextmanager
def _restored_on_error(sdata: SpatialData, outputs: Outputs) -> Iterator[None]:
    before = {(kind, key): getattr(sdata, kind).get(key) for kind, key, _ in outputs.items()}
    try:
        yield
    except BaseException:
        for (kind, key), element in before.items():
            if element is not None:
                getattr(sdata, kind)[key] = element
            elif key in getattr(sdata, kind):
                del getattr(sdata, kind)[key]
        raise


def _write(sdata: SpatialData, outputs: Outputs, store: Path) -> None:
    points: dict[str, DaskDataFrame] = {}
    with StoreChange(store) as change:
        for kind, key, _ in outputs.items():
            if kind != "points" and (store / kind / key).exists():
                change.make_way(kind, key)
        # whatever ends the process from here on, the store lists none of the outputs until they are all there
        listed = sdata.has_consolidated_metadata()
        if listed:
            sdata.write_consolidated_metadata()
        listing = change.listing()
        for kind, key, element in outputs.items():
            if kind != "points":
                change.make_way(kind, key)
                _write_element(sdata, store, kind, key, element)
                change.list_again(listing)
        for key, element in outputs.points.items():
            if (store / "points" / key).exists():
                points[key] = _rewrite_points(change, key, element)
        if listed:
            sdata.write_consolidated_metadata()
        for key, element in points.items():
            sdata.points[key] = element


def _write_element(sdata: SpatialData, store: Path, kind: str, key: str, element: Any) -> None:
    if kind == "shapes":
        _write_shapes(sdata, store, key, element)
        return
    # what is written is here already: a cluster would get it all sent
    with dask.config.set(scheduler="synchronous"):
        sdata.write_element(key)


def _write_shapes(sdata: SpatialData, store: Path, key: str, element: Any) -> None:
    # SpatialData lays out the element, with a few of its rows; where there are more, the file itself is written block by block
    sdata.shapes[key] = element.iloc[:SHAPES_AT_ONCE]
    sdata.write_element(key)
    sdata.shapes[key] = element
    if len(element) > SHAPES_AT_ONCE:
        write_shapes(element, store / "shapes" / key / "shapes.parquet")


def _rewrite_points(change: StoreChange, key: str, element: DaskDataFrame) -> DaskDataFrame:
    """Swap the file of points in the store for one with the new columns, and read it lazily."""
    # the new file is complete before the old one, from which it is computed, moves
    scratch = change.scratch / f"{key}.parquet"
    write_points(element, scratch)
    target = change.make_way("points", key, "points.parquet")
    shutil.move(scratch, target)
    reread: DaskDataFrame = dd.read_parquet(target)
    for name, value in element.attrs.items():
        reread.attrs[name] = deepcopy(value)
    return reread


def _keys_on_disk(path: Path | str) -> dict[str, list[str]]:
    """Elements of a store by kind; not what a killed process has left half written, which the store does not list."""
    listed = _listed(Path(path) / "zarr.json")
    found = {}
    for kind in _KINDS:
        folder = Path(path) / kind
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir()) if folder.is_dir() else []
        found[kind] = [name for name in names if listed is None or f"{kind}/{name}" in listed]
    return found


def _listed(metadata: Path) -> Mapping[str, Any] | None:
    """What the consolidated metadata of a store list; None where there are none."""
    try:
        consolidated = json.loads(metadata.read_text()).get("consolidated_metadata")
    except (OSError, ValueError):
        return None
    return None if consolidated is None else consolidated["metadata"]
