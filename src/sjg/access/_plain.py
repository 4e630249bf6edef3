"""Settings and records as types that a store keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np

from sjg.core import InputError


def plain(value: Any) -> Any:
    """Turn nested settings into what ``AnnData.uns`` writes and reads back: dicts with text keys, arrays, numbers, text.

    Tuples and lists of numbers or of text become arrays, other sequences dicts keyed ``"0"``, ``"1"``, ...; None becomes the text
    ``"none"``; a slash in a key, which would nest groups in a store, becomes a full stop.

    Raises
    ------
    InputError
        A value of another type; the message says which.

    Examples
    --------
    >>> from sjg.access import plain
    >>> plain({"a": None, "b": {1: (1, 2)}})
    {'a': 'none', 'b': {'1': array([1, 2])}}
    """
    if value is None:
        return "none"
    if isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _array(value)
    if isinstance(value, Mapping):
        return {str(key).replace("/", "."): plain(item) for key, item in value.items()}
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes | bytearray):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else list(value)
        if all(isinstance(item, str) for item in items) or all(isinstance(item, bool | int | float | np.number) for item in items):
            return _array(np.array(items)) if items else np.empty(0)
        return {str(index): plain(item) for index, item in enumerate(items)}
    raise InputError(f"A {type(value).__name__} cannot be kept in a table's uns; turn it into numbers, text, lists or dicts.")


def history_columns(history: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One array for each field of the records; NaN, or an empty text, where a record lacks the field.

    Examples
    --------
    >>> from sjg.access import history_columns
    >>> history_columns([{"epoch": 0, "phase": "warm"}, {"epoch": 1, "loss": 0.5}])["loss"].tolist()
    [nan, 0.5]
    """
    names = list(dict.fromkeys(name for record in history for name in record))
    columns = {}
    for name in names:
        present = [record[name] for record in history if record.get(name) is not None]
        blank: Any = "" if any(isinstance(item, str) for item in present) else float("nan")
        items = [blank if record.get(name) is None else record[name] for record in history]
        columns[name] = plain([str(item) for item in items] if blank == "" else items)
    return columns


def _array(value: np.ndarray[Any, Any]) -> Any:
    if value.dtype.kind in "biufc":
        return value
    if value.dtype.kind in "UST":
        return value.astype(str).astype(object)
    return plain(value.tolist())
