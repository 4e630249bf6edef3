"""What an earlier run left in its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from sjg.core import InputError, MissingElementError
from sjg.tl._inputs import Request

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


def stored_run(sdata: SpatialData, table_key: str) -> tuple[AnnData, Mapping[str, Any]]:
    """Table of a run and its details.

    Raises
    ------
    MissingElementError
        There is no such table.
    InputError
        The table is not that of a run.
    """
    if table_key not in sdata.tables:
        raise MissingElementError(f"tables[{table_key!r}] does not exist; tables: {sorted(sdata.tables)}. Run sjg.tl.segment first.")
    table = sdata.tables[table_key]
    details = table.uns.get("sjg")
    if not isinstance(details, Mapping) or "network" not in details or "gene_importance" not in table.varm:
        raise InputError(f"tables[{table_key!r}] holds no trained network (uns['sjg']['network']); it is written by sjg.tl.segment.")
    return table, details


def stored_request(details: Mapping[str, Any]) -> Request:
    """What the run was asked to read; types are not among it."""
    stored = details["request"]

    def text(key: str) -> str | None:
        value = str(stored[key])
        return value or None

    # objects of earlier versions say nothing of channels
    channels = tuple(str(name) for name in stored.get("channels", ()))
    found = stored.get("found_yx_px")
    values: Any = str(stored.get("channel_values", "auto"))
    return Request(
        image_key=str(details["image_key"]),
        points_key=str(details["points_key"]) or None,
        nuclei_key=str(details["nuclei_key"]) or None,
        cell_type_key=None,
        reference=None,
        resolution_um=float(stored["resolution_um"]) or None,
        pixel_size_um=float(stored["pixel_size_um"]) or None,
        coordinate_system=str(details["coordinate_system"]),
        feature_key=text("feature_key"),
        channel=text("channel"),
        min_qv=None if float(stored["min_qv"]) == -np.inf else float(stored["min_qv"]),
        control_pattern=text("control_pattern"),
        random_state=0,
        features="channels" if channels else "transcripts",
        channels=channels or None,
        channel_values=values,
        found_yx_px=None if found is None else np.asarray(found, dtype=np.int64).reshape(-1, 2),
    )
