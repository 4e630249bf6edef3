"""Transcripts counted in labels as they are: the table of any segmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sjg.access._frames import apply_affine
from sjg.access._geometry import areas_and_centroids
from sjg.access._grid import labels_grid
from sjg.access._labels import read_labels_on_grid
from sjg.access._molecules import CONTROL_PATTERN, MoleculeReport, read_molecules
from sjg.access._pixel_size import labels_pixel_size_um
from sjg.access._table import build_table, count_matrix
from sjg.core import Grid, InputError, Molecules, values_at

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData


@dataclass(frozen=True)
class LabelledMolecules:
    """Transcripts in the pixel grid of a labels element.

    Parameters
    ----------
    grid
        The own pixels of the labels.
    labels
        (height, width) int32, ids 1..n without gaps.
    source_ids
        (n,) int64 id of each in the element.
    molecules
        Transcripts that passed the filters and lie on the labels' raster.
    report
        What became of each row of the points.
    cell
        (N,) int32 label at each molecule, 0 = none.
    """

    grid: Grid
    labels: NDArray[np.int32]
    source_ids: NDArray[np.int64]
    molecules: Molecules
    report: MoleculeReport
    cell: NDArray[np.int32]


def molecules_in_labels(
    sdata: SpatialData,
    labels_key: str,
    points_key: str,
    *,
    coordinate_system: str = "global",
    feature_key: str | None = None,
    min_qv: float | None = 20.0,
    control_pattern: str | None = CONTROL_PATTERN,
    pixel_size_um: float | None = None,
) -> LabelledMolecules:
    """Which label each transcript lies in, read on the labels' own pixels.

    Parameters
    ----------
    sdata
        The object.
    labels_key, points_key
        The elements.
    coordinate_system
        Where both are brought together.
    feature_key, min_qv, control_pattern
        See :func:`read_molecules`.
    pixel_size_um
        Side of a full-resolution pixel of the image; None to deduce it. See :func:`labels_pixel_size_um`.

    Raises
    ------
    InputError
        Labels or points cannot be read, do not overlap, or there is no label.
    """
    size = labels_pixel_size_um(sdata, labels_key, points_key, coordinate_system=coordinate_system, pixel_size_um=pixel_size_um)
    grid = labels_grid(sdata, labels_key, coordinate_system=coordinate_system, pixel_size_um=size)
    labels, source_ids = read_labels_on_grid(sdata, labels_key, grid, coordinate_system=coordinate_system)
    if source_ids.size == 0:
        raise InputError(f"labels[{labels_key!r}] has no label, only background; choose other labels.")
    molecules, report = read_molecules(
        sdata,
        points_key,
        grid,
        coordinate_system=coordinate_system,
        feature_key=feature_key,
        min_qv=min_qv,
        control_pattern=control_pattern,
        min_genes=1,
    )
    return LabelledMolecules(grid, labels, source_ids, molecules, report, values_at(labels, molecules.yx_px))


def labels_table(counted: LabelledMolecules, *, region: str) -> AnnData:
    """The table of counts of a segmentation, annotating labels `region` with their own ids.

    ``obs`` has ``region``, ``cell_id``, ``n_transcripts`` and ``area_um2`` (``area_px2`` where no pixel size is known);
    ``obsm["spatial"]`` the centroids in the coordinate system of the grid.
    """
    area, centroid = areas_and_centroids(counted.labels)
    counts = count_matrix(counted.cell, counted.molecules.gene, (len(counted.source_ids), len(counted.molecules.gene_names)))
    name, values = named_area(area, counted.grid)
    return build_table(
        counts,
        counted.molecules.gene_names,
        region=region,
        instance_ids=counted.source_ids,
        obs={name: values},
        spatial=apply_affine(counted.grid.matrix, centroid),
    )


def named_area(area_px2: NDArray[np.int64], grid: Grid) -> tuple[str, NDArray[np.float64]]:
    """Areas with the name of their unit: ``area_um2``, or ``area_px2`` where no pixel size is known.

    Pixels of `area_px2` are those of the grid; those of the result are units of the coordinate system, so that labels with pixels of
    another size, and polygons, compare.
    """
    if grid.pixel_size_um is None:
        return "area_px2", area_px2.astype(np.float64) * abs(float(np.linalg.det(grid.matrix[:2, :2])))
    return "area_um2", area_px2.astype(np.float64) * grid.pixel_size_um**2
