"""The outputs of a segmentation of channels, where there are no transcripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from spatialdata.models import TableModel

from sjg._keys import INSTANCE_KEY, REGION_KEY, labels_key, shapes_key, table_key
from sjg.access._attach import Outputs, attach, check_output_keys
from sjg.access._channels import ChannelImage
from sjg.access._counting import named_area
from sjg.access._frames import apply_affine
from sjg.access._geometry import areas_and_centroids
from sjg.access._plain import history_columns, plain
from sjg.access._write import cell_elements, compact, nucleus_ids, type_colors
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
    details = {
        "parameters": segmentation.parameters,
        "network": segmentation.network,
        "grid": {"shape": grid.shape, "matrix": grid.matrix, "pixel_size_um": grid.pixel_size_um},
        "key_added": key_added,
        "image_key": image_key,
        "points_key": "",
        "coordinate_system": coordinate_system,
        **(uns or {}),
    }
    table = _table(segmentation, grid, channels, region, source_ids)
    table.uns["sjg"] = {**plain(details), "history": history_columns(segmentation.history)}
    labels, shapes = cell_elements(sdata, segmentation.labels, grid, image_key, coordinate_system)
    attach(
        sdata,
        Outputs(labels={region: labels}, shapes={shapes_key(key_added): shapes}, tables={table_key(key_added): table}),
        to_disk=to_disk,
    )


def _table(segmentation: Segmentation, grid: Grid, channels: ChannelImage, region: str, source_ids: NDArray[Any] | None) -> AnnData:
    n_cells = len(segmentation.cell_type)
    area, centroid = areas_and_centroids(segmentation.labels)
    area_name, areas = named_area(area, grid)
    total = channels.totals(segmentation.labels, n_cells)
    types = pd.Categorical.from_codes(segmentation.cell_type, categories=list(segmentation.type_names)).remove_unused_categories()
    ids = np.arange(1, n_cells + 1)
    obs = pd.DataFrame(
        {
            REGION_KEY: pd.Categorical.from_codes(np.zeros(n_cells, dtype=np.int8), categories=[region]),
            INSTANCE_KEY: ids,
            area_name: areas,
            "cell_type": types,
            "cell_type_confidence": segmentation.cell_type_confidence.astype(np.float32),
            "nucleus_id": nucleus_ids(source_ids, n_cells),
        },
        index=pd.Index(ids.astype(str), dtype=object),
    )
    table = AnnData(
        X=(total / area[:, None]).astype(np.float32), obs=obs, var=pd.DataFrame(index=pd.Index(list(channels.names), dtype=object))
    )
    table.layers["total"] = total.astype(np.float32)
    table.obsm["spatial"] = apply_affine(grid.matrix, centroid)
    table.uns["cell_type_colors"] = type_colors(segmentation.type_names, types)
    table.varm["gene_importance"] = pd.DataFrame(segmentation.gene_importance, index=table.var_names, columns=list(segmentation.type_names))
    parsed: AnnData = TableModel.parse(table, region=region, region_key=REGION_KEY, instance_key=INSTANCE_KEY)
    return parsed
