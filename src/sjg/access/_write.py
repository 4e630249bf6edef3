"""The outputs of a segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import dask.array as da
import numpy as np
import pandas as pd
from geopandas import GeoDataFrame
from numpy.typing import NDArray
from spatialdata.models import Labels2DModel, ShapesModel
from spatialdata.transformations import Affine, BaseTransformation, Scale, Sequence, get_transformation

from sjg._keys import INSTANCE_KEY, cell_id_column, confidence_column, labels_key, shapes_key, table_key
from sjg._logging import logger
from sjg.access._attach import Outputs, attach, check_output_keys
from sjg.access._counting import named_area
from sjg.access._frames import affine_matrix, apply_affine
from sjg.access._geometry import areas_and_centroids, outlines
from sjg.access._molecules import MoleculeReport
from sjg.access._plain import history_columns, plain
from sjg.access._points import molecule_column, with_columns
from sjg.access._table import build_table, count_matrix
from sjg.core import Grid, InputError, Molecules, Releasing, Segmentation, release, scratch_zeros
from sjg.core.colors import distinct_colors

if TYPE_CHECKING:
    from anndata import AnnData
    from spatialdata import SpatialData

#: side of the chunks of written labels
_CHUNK_PX = 2048
#: ids that are renumbered together
_ROWS_ELEMENTS = 1 << 22


def write_segmentation(
    sdata: SpatialData,
    segmentation: Segmentation,
    grid: Grid,
    *,
    molecules: Molecules,
    report: MoleculeReport,
    image_key: str,
    points_key: str,
    key_added: str = "sjg",
    coordinate_system: str = "global",
    source_ids: NDArray[Any] | None = None,
    uns: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    to_disk: bool = True,
) -> None:
    """Write every output of a run into `sdata`, all or none.

    All elements are complete before the first one is attached; where attaching or writing to the store fails, `sdata` and the
    store are as they were. Where `sdata` is backed by a store, the elements are written to it too.

    Parameters
    ----------
    sdata
        The object, changed in place.
    segmentation
        The result. Ids without a pixel are left out, their molecules become unassigned and the other ids close up.
    grid
        The working raster of the run.
    molecules, report
        What :func:`read_molecules` returned for the run.
    image_key
        The image from which the grid was made; labels and shapes get its transformations, composed with the grid's scale.
    points_key
        The points that gain columns.
    key_added
        Prefix of the outputs.
    coordinate_system
        The coordinate system of the grid and of ``obsm["spatial"]``.
    source_ids
        (n,) ids of the nuclei 1..n in their element; None where the run made the nuclei itself with ids 1..n.
    uns
        More entries of ``uns["sjg"]``, nested plain types.
    overwrite
        Whether outputs of the same names may be replaced.
    to_disk
        Whether to write to the store where `sdata` has one.

    Returns
    -------
    None, and writes

    ``labels["{key_added}_cells"]``
        int32 (y, x) in grid pixels, 0 = background, ids 1..n; the transformations of the image composed with the grid's scale.
    ``shapes["{key_added}_boundaries"]``
        One valid polygon for each cell, index = id, in grid pixels with the same transformations.
    ``tables["{key_added}_table"]``
        Annotates the labels; see :func:`segmentation_table`.
    ``points[points_key]["{key_added}_cell_id"]``
        int32 cell of each transcript, 0 = none.
    ``points[points_key]["{key_added}_confidence"]``
        float32 posterior of that choice, of "none" where the cell is 0; 0 where the transcript took no part (filtered out or
        outside the image).

    Raises
    ------
    ExistingElementError
        An output exists and `overwrite` is False.
    InputError
        The store is read-only, or the arrays do not fit each other.
    """
    check_output_keys(sdata, key_added, points_key, overwrite=overwrite, to_disk=to_disk)
    _check_sizes(segmentation, grid, molecules, report)
    segmentation, source_ids = compact(segmentation, source_ids)
    region = labels_key(key_added)
    details = {
        **run_keys(key_added, image_key, points_key, coordinate_system),
        "transcripts": report.counts(),
        **(uns or {}),
    }
    table = segmentation_table(segmentation, grid, molecules=molecules, region=region, source_ids=source_ids, uns=details)
    labels, shapes = cell_elements(sdata, segmentation.labels, grid, image_key, coordinate_system)
    columns = {
        cell_id_column(key_added): molecule_column(report.row, segmentation.molecule_cell, report.n_total),
        confidence_column(key_added): molecule_column(report.row, segmentation.molecule_confidence, report.n_total),
    }
    points = with_columns(sdata.points[points_key], report.partition_sizes, columns)
    outputs = Outputs(
        labels={region: labels}, shapes={shapes_key(key_added): shapes}, points={points_key: points}, tables={table_key(key_added): table}
    )
    attach(sdata, outputs, to_disk=to_disk)


def segmentation_table(
    segmentation: Segmentation,
    grid: Grid,
    *,
    molecules: Molecules,
    region: str,
    source_ids: NDArray[Any] | None = None,
    uns: Mapping[str, Any] | None = None,
) -> AnnData:
    """The table of cells of a run.

    Parameters
    ----------
    segmentation, grid, molecules
        The result and what it was computed from.
    region
        Key of the labels.
    source_ids
        (m,) ids of nuclei 1..m in their element; cells beyond m started from no nucleus of the user's.
    uns
        More entries of ``uns["sjg"]``.

    Returns
    -------
    AnnData with

    ``X``, ``layers["counts"]``
        int32 CSR counts of the transcripts whose cell this is.
    ``obs``
        ``region``, ``cell_id``, ``n_transcripts``, ``area_um2`` (``area_px2`` where no pixel size is known), ``cell_type``
        (categorical), ``cell_type_confidence``, ``nucleus_id`` (id in the user's element; 0, or an empty text, for none).
    ``obsm["spatial"]``
        (n, 2) centroids (x, y) of the masks in the coordinate system of the grid.
    ``varm["gene_importance"]``
        DataFrame genes x types, higher = more informative.
    ``uns["sjg"]``
        ``parameters``, ``history`` (an array for each field), ``network``, ``grid`` and the entries of `uns`.
    ``uns["cell_type_colors"]``
        A colour for each category of ``cell_type``; a type has the same colour in every run with the same types.
    """
    n_cells = len(segmentation.cell_type)
    area, centroid = areas_and_centroids(segmentation.labels)
    table = build_table(
        count_matrix(segmentation.molecule_cell, molecules.gene, (n_cells, len(molecules.gene_names))),
        molecules.gene_names,
        region=region,
        instance_ids=np.arange(1, n_cells + 1),
        obs=cell_columns(segmentation, grid, area, source_ids),
        spatial=apply_affine(grid.matrix, centroid),
    )
    add_run(table, segmentation, grid, uns or {})
    return table


def run_keys(key_added: str, image_key: str, points_key: str, coordinate_system: str) -> dict[str, str]:
    """Which elements a run used, for its record."""
    return {"key_added": key_added, "image_key": image_key, "points_key": points_key, "coordinate_system": coordinate_system}


def cell_columns(segmentation: Segmentation, grid: Grid, area_px2: NDArray[np.int64], source_ids: NDArray[Any] | None) -> dict[str, Any]:
    """What ``obs`` says of every cell, whatever it was measured in."""
    area_name, areas = named_area(area_px2, grid)
    types = pd.Categorical.from_codes(segmentation.cell_type, categories=list(segmentation.type_names))
    return {
        area_name: areas,
        "cell_type": types.remove_unused_categories(),
        "cell_type_confidence": segmentation.cell_type_confidence.astype(np.float32),
        "nucleus_id": nucleus_ids(source_ids, len(segmentation.cell_type)),
    }


def add_run(table: AnnData, segmentation: Segmentation, grid: Grid, details: Mapping[str, Any]) -> None:
    """The record of the run, the importance of its genes or channels and the colours of its types."""
    record = {
        "parameters": segmentation.parameters,
        "network": segmentation.network,
        "grid": {"shape": grid.shape, "matrix": grid.matrix, "pixel_size_um": grid.pixel_size_um},
        **details,
    }
    names = list(segmentation.type_names)
    table.uns["sjg"] = {**plain(record), "history": history_columns(segmentation.history)}
    table.varm["gene_importance"] = pd.DataFrame(segmentation.gene_importance, index=table.var_names, columns=names)
    # out of the palette of all types of the run, so that a type keeps its colour where others are absent
    color_of = dict(zip(names, distinct_colors(len(names)), strict=True))
    table.uns["cell_type_colors"] = [color_of[name] for name in table.obs["cell_type"].cat.categories]


def cell_elements(
    sdata: SpatialData, cells: NDArray[np.int32], grid: Grid, image_key: str, coordinate_system: str
) -> tuple[Any, GeoDataFrame]:
    """Labels and boundaries of cells 1..n, placed where the image is."""
    chunks = (min(_CHUNK_PX, grid.shape[0]), min(_CHUNK_PX, grid.shape[1]))
    labels = Labels2DModel.parse(
        # a name of its own spares a hash of the whole array
        da.from_array(Releasing(cells), chunks, name=f"cells-{uuid4().hex}", asarray=False, meta=np.zeros((0, 0), cells.dtype)),
        dims=("y", "x"),
        transformations=grid_transformations(sdata, image_key, grid, coordinate_system=coordinate_system),
    )
    polygons = GeoDataFrame(geometry=outlines(cells))
    polygons.index = pd.RangeIndex(1, len(polygons) + 1, name=INSTANCE_KEY)
    shapes = ShapesModel.parse(polygons, transformations=grid_transformations(sdata, image_key, grid, coordinate_system=coordinate_system))
    return labels, shapes


def grid_transformations(
    sdata: SpatialData, image_key: str, grid: Grid, *, coordinate_system: str = "global"
) -> dict[str, BaseTransformation]:
    """Transformations for an element in the pixels of `grid`: those of the image, after the map from grid to image.

    The element lands in every coordinate system where the image does, exactly where the image does.
    """
    transformations: Any = get_transformation(sdata.images[image_key], get_all=True)
    to_image = np.linalg.inv(affine_matrix(sdata, image_key, coordinate_system)) @ grid.matrix
    # what is left of rounding would turn an identity into an affine map
    to_image = np.where(np.abs(to_image - np.rint(to_image)) < 1e-7, np.rint(to_image), to_image)
    if np.array_equal(to_image, np.eye(3)):
        return dict(transformations)
    x, y = to_image[0, 0], to_image[1, 1]
    to_pixels: BaseTransformation = (
        Scale([x, y], axes=("x", "y"))
        if np.array_equal(to_image, np.diag([x, y, 1.0]))
        else Affine(to_image, input_axes=("x", "y"), output_axes=("x", "y"))
    )
    return {name: Sequence([to_pixels, transformation]) for name, transformation in transformations.items()}


def nucleus_ids(source_ids: NDArray[Any] | None, n_cells: int) -> NDArray[Any]:
    if source_ids is None:
        return np.arange(1, n_cells + 1)
    ids = np.asarray(source_ids)
    if ids.dtype.kind not in "iu":
        ids = ids.astype(str).astype(object)
    extra = n_cells - len(ids)
    if extra <= 0:
        return ids[:n_cells]
    none: Any = np.zeros(extra, dtype=ids.dtype) if ids.dtype.kind in "iu" else np.full(extra, "", dtype=object)
    return np.concatenate([ids, none])


def compact(segmentation: Segmentation, source_ids: NDArray[Any] | None) -> tuple[Segmentation, NDArray[Any] | None]:
    """Leave out the cells without a pixel: tables and viewers break on rows without a mask."""
    n_cells = len(segmentation.cell_type)
    area, _ = areas_and_centroids(segmentation.labels)
    present = np.zeros(n_cells, dtype=bool)
    present[: len(area)] = area > 0
    if present.all():
        return segmentation, source_ids
    if not present.any():
        raise InputError("The segmentation has no cell; nothing is written.")
    logger.warning("%d cells have no pixel and are left out", int((~present).sum()))
    new_id = np.concatenate([[0], np.where(present, np.cumsum(present), 0)]).astype(np.int32)
    compacted = replace(
        segmentation,
        labels=_renumbered(segmentation.labels, new_id),
        molecule_cell=_renumbered(segmentation.molecule_cell, new_id),
        cell_type=segmentation.cell_type[present],
        cell_type_confidence=segmentation.cell_type_confidence[present],
    )
    return compacted, nucleus_ids(source_ids, n_cells)[present]


def _renumbered(ids: NDArray[np.int32], new_id: NDArray[np.int32]) -> NDArray[np.int32]:
    renumbered = scratch_zeros(ids.shape, np.int32)
    step = max(1, _ROWS_ELEMENTS // max(1, int(np.prod(ids.shape[1:]))))
    for start in range(0, len(ids), step):
        renumbered[start : start + step] = new_id[ids[start : start + step]]
    release(renumbered, ids)
    return renumbered


def _check_sizes(segmentation: Segmentation, grid: Grid, molecules: Molecules, report: MoleculeReport) -> None:
    n_cells, n_molecules = len(segmentation.cell_type), len(molecules)
    sizes = {
        "labels": (segmentation.labels.shape, grid.shape),
        "largest id in labels": (max(len(areas_and_centroids(segmentation.labels)[0]), n_cells), n_cells),
        "molecule_cell": (len(segmentation.molecule_cell), n_molecules),
        "molecule_confidence": (len(segmentation.molecule_confidence), n_molecules),
        "rows of molecules": (report.n_kept, n_molecules),
        "cell_type_confidence": (len(segmentation.cell_type_confidence), n_cells),
        "gene_importance": (segmentation.gene_importance.shape, (len(molecules.gene_names), len(segmentation.type_names))),
    }
    wrong = {name: pair for name, pair in sizes.items() if pair[0] != pair[1]}
    if wrong:
        raise InputError(f"The segmentation does not fit its molecules and grid (found, expected): {wrong}.")
    if n_cells == 0:
        raise InputError("The segmentation has no cell; nothing is written.")
