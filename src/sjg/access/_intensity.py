"""Intensity of each channel in each label, block by block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from spatialdata.models import TableModel

from sjg._keys import INSTANCE_KEY, REGION_KEY
from sjg.access._frames import apply_affine
from sjg.access._labels import read_labels_on_grid
from sjg.access._planes import channel_planes, image_grid
from sjg.access._raster import iter_blocks
from sjg.core import InputError

if TYPE_CHECKING:
    from spatialdata import SpatialData


def mean_intensity(
    sdata: SpatialData, labels_key: str, image_key: str, channels: Sequence[int], *, coordinate_system: str = "global"
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each channel over the pixels of each label.

    The labels are brought to the pixels of the image through both transformations; of the image one chunk is in memory at a time.

    Returns
    -------
    ids
        (n,) ids in the element, ascending.
    means
        (n, channels).
    area_px2
        (n,) in pixels of the image.
    centroid_xy
        (n, 2) in the coordinate system.

    Raises
    ------
    InputError
        No label on the image.
    """
    planes = channel_planes(sdata, image_key, channels)
    grid = image_grid(sdata, image_key, coordinate_system=coordinate_system)
    labels, ids = read_labels_on_grid(sdata, labels_key, grid, coordinate_system=coordinate_system)
    if not ids.size:
        raise InputError(f"labels[{labels_key!r}] has no label on images[{image_key!r}]; check the transformations of both.")
    sums = np.zeros((len(planes), len(ids) + 1))
    moments = np.zeros((3, len(ids) + 1))
    for channel, plane in enumerate(planes):
        for top, left, block in iter_blocks(plane):
            part = labels[top : top + block.shape[0], left : left + block.shape[1]]
            rows, columns = np.nonzero(part)
            at = part[rows, columns]
            sums[channel] += np.bincount(at, block[rows, columns], minlength=len(ids) + 1)
            if channel == 0:
                moments[0] += np.bincount(at, minlength=len(ids) + 1)
                moments[1] += np.bincount(at, columns + left + 0.5, minlength=len(ids) + 1)
                moments[2] += np.bincount(at, rows + top + 0.5, minlength=len(ids) + 1)
    area = moments[0, 1:]
    return ids, (sums[:, 1:] / area).T, area, apply_affine(grid.matrix, (moments[1:, 1:] / area).T)


def instance_table(
    values: NDArray[Any],
    names: Sequence[str],
    *,
    region: str,
    instance_ids: NDArray[np.int64],
    obs: dict[str, Any],
    spatial: NDArray[np.float64],
    uns: dict[str, Any] | None = None,
) -> AnnData:
    """A table of measurements that annotates labels `region`, rows by ascending id."""
    columns: dict[str, Any] = {
        REGION_KEY: pd.Categorical.from_codes(np.zeros(len(instance_ids), dtype=np.int8), categories=[region]),
        INSTANCE_KEY: np.asarray(instance_ids, dtype=np.int64),
        **obs,
    }
    frame = pd.DataFrame(columns, index=pd.Index(np.asarray(instance_ids).astype(str), dtype=object))
    table = AnnData(X=np.asarray(values, dtype=np.float32), obs=frame, var=pd.DataFrame(index=pd.Index(list(names), dtype=object)))
    table.obsm["spatial"] = np.asarray(spatial, dtype=np.float64)
    table.uns.update(uns or {})
    parsed: AnnData = TableModel.parse(table, region=region, region_key=REGION_KEY, instance_key=INSTANCE_KEY)
    return parsed
