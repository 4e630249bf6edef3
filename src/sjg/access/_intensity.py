"""Intensity of each channel in each label, block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from spatialdata.models import TableModel

from sjg._keys import INSTANCE_KEY, REGION_KEY
from sjg.access._frames import apply_affine
from sjg.access._label_pairs import labels_on_grid
from sjg.access._planes import channel_planes, image_grid
from sjg.core import InputError
from sjg.imaging._blocks import iter_boxes, read

if TYPE_CHECKING:
    from spatialdata import SpatialData


def mean_intensity(
    sdata: SpatialData,
    labels_key: str,
    image_key: str,
    channels: Sequence[int],
    *,
    coordinate_system: str = "global",
    report: Callable[[int, int], None] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean of each channel over the pixels of each label.

    The labels are brought to the pixels of the image through both transformations. One block of labels and of a channel are in memory at
    a time, and a row of numbers for each label; labels in a frame other than that of the image take a scratch file.

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
        No label on the image, or labels that are negative.
    """
    planes = channel_planes(sdata, image_key, channels)
    grid = image_grid(sdata, image_key, coordinate_system=coordinate_system)
    labels, source_ids = labels_on_grid(sdata, labels_key, grid, coordinate_system=coordinate_system)
    found = []
    for box in iter_boxes(grid.shape, report=report):
        block = read(labels, box).ravel()
        flat = np.flatnonzero(block)
        if not flat.size:
            continue
        at, ids = pd.factorize(block[flat])
        if ids.min() < 0:
            raise InputError(f"labels[{labels_key!r}] holds negative ids (smallest {ids.min()}); 0 is the background and ids start at 1.")
        row, column = np.divmod(flat, box.shape[1])
        sums = [np.bincount(at), np.bincount(at, column + (box.left + 0.5)), np.bincount(at, row + (box.top + 0.5))]
        sums += [np.bincount(at, read(plane, box).ravel()[flat]) for plane in planes]
        found.append(pd.DataFrame(np.column_stack(sums), index=ids.astype(np.int64)))
    if not found:
        raise InputError(f"labels[{labels_key!r}] has no label on images[{image_key!r}]; check the transformations of both.")
    whole = pd.concat(found).groupby(level=0).sum()
    numbers, values = whole.index.to_numpy(), whole.to_numpy()
    area = values[:, 0]
    means = values[:, 1:] / area[:, None]
    own = numbers if source_ids is None else source_ids[numbers - 1]
    return own, means[:, 2:], area, apply_affine(grid.matrix, means[:, :2])


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
