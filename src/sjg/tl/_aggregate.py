"""Ids and a table of counts for any labels, so that segmentations can be compared."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from sjg.access import (
    CONTROL_PATTERN,
    Outputs,
    attach,
    check_new_keys,
    choose_labels,
    choose_points,
    labels_table,
    molecule_column,
    molecules_in_labels,
    with_columns,
)
from sjg.core import InputError, MissingElementError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from spatialdata import SpatialData

    from sjg.access import LabelledMolecules


def assign_transcripts(
    sdata: SpatialData,
    labels_key: str,
    points_key: str | None = None,
    *,
    key_added: str,
    coordinate_system: str = "global",
    feature_key: str | None = None,
    min_qv: float | None = 20.0,
    control_pattern: str | None = CONTROL_PATTERN,
    overwrite: bool = False,
) -> None:
    """Write for each transcript the id of the label that it lies in.

    Labels and points are brought together through their transformations; the labels are read in their own pixels, at full
    resolution. Where `sdata` is backed by a store, the points there gain the column too.

    Parameters
    ----------
    sdata
        The object, changed in place.
    labels_key
        2-D integer labels from any source, 0 = background; ids may have gaps.
    points_key
        The transcripts; may be left out where there is only one points element.
    key_added
        Name of the new column.
    coordinate_system
        Where both elements are brought together.
    feature_key
        Column of the gene; default the one that the points declare.
    min_qv
        Lowest quality where there is a column ``qv``; None takes all.
    control_pattern
        Regular expression of gene names that are no genes (control probes, blanks); None takes all.
    overwrite
        Whether an existing column may be replaced.

    Returns
    -------
    None, and writes

    ``points[points_key][key_added]``
        int64 id of the label, 0 = none: outside every label, or filtered out by `min_qv` or `control_pattern`. Joined to the
        points lazily, partition by partition; index, partitions, attributes and transformations stay.

    Raises
    ------
    MissingElementError, AmbiguousElementError
        No such element, or several points and none chosen.
    ExistingElementError
        The column exists and `overwrite` is False.
    InputError
        An element cannot be read, the two do not overlap, or the store is read-only.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=20)
    >>> sjg.tl.assign_transcripts(sdata, "nuclei", key_added="nucleus_id")
    >>> bool((sdata["transcripts"]["nucleus_id"].compute() > 0).any())
    True
    """
    labels_key, points_key = choose_labels(sdata, labels_key), choose_points(sdata, points_key)
    check_new_keys(sdata, {}, columns={points_key: [key_added]}, key_added=key_added, overwrite=overwrite)
    counted = molecules_in_labels(
        sdata,
        labels_key,
        points_key,
        coordinate_system=coordinate_system,
        feature_key=feature_key,
        min_qv=min_qv,
        control_pattern=control_pattern,
    )
    report = counted.report
    column = molecule_column(report.row, original_ids(counted), report.n_total)
    points = with_columns(sdata.points[points_key], report.partition_sizes, {key_added: column})
    attach(sdata, Outputs(points={points_key: points}))


def aggregate(
    sdata: SpatialData,
    labels_key: str,
    points_key: str | None = None,
    *,
    key_added: str,
    cell_id_key: str | None = None,
    coordinate_system: str = "global",
    feature_key: str | None = None,
    min_qv: float | None = 20.0,
    control_pattern: str | None = CONTROL_PATTERN,
    pixel_size_um: float | None = None,
    overwrite: bool = False,
) -> None:
    """Count the transcripts of each gene in each label and write the table.

    Every label gets a row, transcripts or not; the background gets none.

    Parameters
    ----------
    sdata
        The object, changed in place.
    labels_key
        2-D integer labels from any source, 0 = background; ids may have gaps.
    points_key
        The transcripts; may be left out where there is only one points element.
    key_added
        Key of the new table.
    cell_id_key
        Integer column of the points with the label id of each transcript (0 = none), to count by it instead of by the masks;
        for example the ``sjg_cell_id`` of a run, or the assignment of another tool.
    coordinate_system
        Where the elements are brought together; the frame of ``obsm["spatial"]``.
    feature_key
        Column of the gene; default the one that the points declare.
    min_qv
        Lowest quality where there is a column ``qv``; None takes all.
    control_pattern
        Regular expression of gene names that are no genes (control probes, blanks); None takes all.
    pixel_size_um
        Side of a full-resolution pixel of the image, as in :func:`segment`; it is scaled to labels of another resolution. None
        takes what the run of the labels recorded, else deduces it from the transformations.
    overwrite
        Whether an existing table may be replaced.

    Returns
    -------
    None, and writes ``tables[key_added]``, annotating `labels_key`, rows sorted by label id, with

    ``X``, ``layers["counts"]``
        int32 CSR (cells, genes) counts.
    ``obs``
        ``region`` (categorical), ``cell_id`` (the label id), ``n_transcripts``, ``area_um2`` (``area_px2`` where no pixel size is
        known).
    ``obsm["spatial"]``
        (cells, 2) centroids (x, y) of the labels in the coordinate system.

    Raises
    ------
    MissingElementError, AmbiguousElementError
        No such element or column, or several points and none chosen.
    ExistingElementError
        The table exists and `overwrite` is False.
    InputError
        An element cannot be read, the two do not overlap, `cell_id_key` holds ids that no label has, or the store is read-only.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=20)
    >>> sjg.tl.aggregate(sdata, "nuclei", key_added="by_nucleus")
    >>> sdata["by_nucleus"].n_obs == len(set(sdata["nuclei"].values.ravel()) - {0})
    True
    """
    labels_key, points_key = choose_labels(sdata, labels_key), choose_points(sdata, points_key)
    check_new_keys(sdata, {"tables": [key_added]}, key_added=key_added, overwrite=overwrite)
    counted = molecules_in_labels(
        sdata,
        labels_key,
        points_key,
        coordinate_system=coordinate_system,
        feature_key=feature_key,
        min_qv=min_qv,
        control_pattern=control_pattern,
        pixel_size_um=pixel_size_um,
    )
    if cell_id_key is not None:
        counted = replace(counted, cell=cells_by_column(sdata, points_key, cell_id_key, counted))
    attach(sdata, Outputs(tables={key_added: labels_table(counted, region=labels_key)}))


def original_ids(counted: LabelledMolecules) -> NDArray[np.int64]:
    """(N,) id in the labels element of the label that each molecule lies in, 0 = none."""
    return np.concatenate([[0], counted.source_ids])[counted.cell]


def read_id_column(sdata: SpatialData, points_key: str, column: str) -> NDArray[np.int64]:
    """(rows,) integer column of the points, in the order of the partitions; missing values become 0 = none.

    Raises
    ------
    MissingElementError
        No such column.
    InputError
        Not integers.
    """
    points = sdata.points[points_key]
    if column not in points.columns:
        raise MissingElementError(f"points[{points_key!r}] has no column {column!r}; there are: {list(points.columns)}.")
    # one partition after the other: the whole column at once would be held twice
    parts = [points[column].get_partition(index).compute() for index in range(points.npartitions)]
    if all(is_numeric_dtype(part.dtype) and not is_bool_dtype(part.dtype) for part in parts):
        values = np.concatenate([part.fillna(0).to_numpy() for part in parts])
        if (values >= 0).all() and (values == np.rint(values)).all():
            return values.astype(np.int64)
    raise InputError(
        f"Column {column!r} of points[{points_key!r}] must hold integer ids of 0 or more, 0 = no cell, got {points[column].dtype}; turn "
        "names into the ids of the labels first."
    )


def cells_by_column(sdata: SpatialData, points_key: str, column: str, counted: LabelledMolecules) -> NDArray[np.int32]:
    """(N,) cell 1..n of each molecule by the label ids in a column of the points, 0 = none.

    Raises
    ------
    MissingElementError
        No such column.
    InputError
        Not integers, or ids that the labels do not have.
    """
    ids = read_id_column(sdata, points_key, column)[counted.report.row]
    position = np.searchsorted(counted.source_ids, ids).clip(max=len(counted.source_ids) - 1)
    known = counted.source_ids[position] == ids
    unknown = np.unique(ids[~known & (ids != 0)])
    if unknown.size:
        raise InputError(
            f"Column {column!r} of points[{points_key!r}] holds {unknown.size} ids that the labels do not have, e.g. {unknown[:3].tolist()}; "
            "choose the labels that it belongs to."
        )
    return np.where(known, position + 1, 0).astype(np.int32)
