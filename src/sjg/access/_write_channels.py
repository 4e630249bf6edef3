"""The outputs of a segmentation of channels, where there are no transcripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sjg._keys import labels_key, shapes_key, table_key
from sjg.access._attach import Outputs, attach, check_output_keys
from sjg.access._channels import ChannelImage
from sjg.access._frames import apply_affine
from sjg.access._geometry import areas_and_centroids
from sjg.access._intensity import instance_table
from sjg.access._write import add_run, cell_columns, cell_elements, compact, run_keys
from sjg.core import Grid, InputError, Segmentation

if TYPE_CHECKING:
    from spatialdata import SpatialData


def write_channel_segmentation(
    sdata: SpatialData,
    segmentation: Segmentation,
    grid: Grid,
    *,
    channels: ChannelImage,
    image_key: str,
    key_added: str = "sjg",
    coordinate_system: str = "global",
    source_ids: NDArray[Any] | None = None,
    uns: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    to_disk: bool = True,
) -> None:
    """Write the outputs of a run on channels, all or none.

    Parameters
    ----------
    sdata, segmentation, grid, image_key, key_added, coordinate_system, source_ids, uns, overwrite, to_disk
        As in :func:`write_segmentation`; molecules of the segmentation are not looked at.
    channels
        The channels, as the image holds them.

    Returns
    -------
    None, and writes labels and shapes as :func:`write_segmentation`, and

    ``tables["{key_added}_table"]``
        ``X`` float32 mean of each channel over the cell's mask, ``layers["total"]`` its sum; ``obs`` ``region``, ``cell_id``, ``area_um2``
        (``area_px2`` where no pixel size is known), ``cell_type``, ``cell_type_confidence``, ``nucleus_id``; ``obsm["spatial"]``;
        ``varm["gene_importance"]`` channels x types; ``uns["sjg"]``.

    Raises
    ------
    ExistingElementError
        An output exists and `overwrite` is False.
    InputError
        The store is read-only, or the arrays do not fit each other.
    """
    check_output_keys(sdata, key_added, None, overwrite=overwrite, to_disk=to_disk)
    if segmentation.labels.shape != grid.shape or segmentation.gene_importance.shape != (
        len(channels.names),
        len(segmentation.type_names),
    ):
        raise InputError(
            f"The segmentation ({segmentation.labels.shape}, importance {segmentation.gene_importance.shape}) does not fit its grid "
            f"{grid.shape} and {len(channels.names)} channels."
        )
    segmentation, source_ids = compact(segmentation, source_ids)
    region = labels_key(key_added)
    n_cells = len(segmentation.cell_type)
    area, centroid = areas_and_centroids(segmentation.labels)
    total = channels.totals(segmentation.labels, n_cells)
    table = instance_table(
        total / area[:, None],
        channels.names,
        region=region,
        instance_ids=np.arange(1, n_cells + 1),
        obs=cell_columns(segmentation, grid, area, source_ids),
        spatial=apply_affine(grid.matrix, centroid),
    )
    table.layers["total"] = total.astype(np.float32)
    add_run(table, segmentation, grid, {**run_keys(key_added, image_key, "", coordinate_system), **(uns or {})})
    labels, shapes = cell_elements(sdata, segmentation.labels, grid, image_key, coordinate_system)
    attach(
        sdata,
        Outputs(labels={region: labels}, shapes={shapes_key(key_added): shapes}, tables={table_key(key_added): table}),
        to_disk=to_disk,
    )
