"""Counts and cell types of nuclei."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjg import access
from sjg._logging import logger
from sjg.core import Grid, InputError, MissingElementError, values_at
from sjg.pp._clustering import cluster_nuclei
from sjg.pp._reference import resolve_reference
from sjg.pp._typing import type_nuclei
from sjg.training import nucleus_or_ring

if TYPE_CHECKING:
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata import SpatialData

#: nuclei given as shapes are drawn with this many pixels across
_PX_PER_NUCLEUS = 25.0


def annotate_nuclei(
    sdata: SpatialData,
    nuclei_key: str = "nuclei",
    points_key: str | None = None,
    *,
    reference: AnnData | pd.DataFrame | str | None = None,
    cell_type_key: str = "cell_type",
    feature_key: str | None = None,
    min_qv: float | None = 20.0,
    control_pattern: str | None = access.CONTROL_PATTERN,
    n_clusters: int | None = None,
    coordinate_system: str = "global",
    random_state: int = 0,
    key_added: str = "nuclei_table",
    overwrite: bool = False,
) -> None:
    """Count the transcripts in each nucleus and say which type of cell it belongs to.

    With a reference, the type is the class under which the counts are most likely: Dirichlet-multinomial given their total, with the
    efficiency of each gene in situ, the frequency of each class and the spread of single nuclei estimated from the tissue, and a share
    of transcripts from the surroundings; where the nuclei of a class show other genes than the reference says, they decide
    (:func:`sjg.expression.fit_profiles`). Without a reference, Leiden communities of the nuclei, more than there are types, start a
    mixture of multinomials; its groups are joined down to the number under which nuclei that were held out are most likely. The
    clusters are named ``0``, ``1``, ... from the largest down.

    Parameters
    ----------
    sdata
        The object, changed in place.
    nuclei_key
        Labels or shapes of the nuclei. The index of shapes must be positive integers.
    points_key
        The transcripts; None takes the only points.
    reference
        AnnData of cells with a column `cell_type_key` in ``obs`` and raw counts, AnnData of class means (``obs_names`` are the types),
        DataFrame genes x classes, the key of such a table, or None to cluster.
    cell_type_key
        Column of the types of reference cells.
    feature_key
        Column of the gene in the points; None takes the one that the points declare.
    min_qv
        Lowest quality of a transcript, where there is a column ``qv``; None keeps all.
    control_pattern
        Regular expression of the names of control probes, which are left out; None keeps all.
    n_clusters
        Number of clusters where there is no reference; None finds it.
    coordinate_system
        Where nuclei and transcripts meet.
    random_state
        Seed of the clustering.
    key_added
        Key of the table.
    overwrite
        Whether a table of that name may be replaced.

    Returns
    -------
    None, and writes

    ``tables[key_added]``
        Annotates the nuclei, a row for each, sorted by id. ``X`` and ``layers["counts"]``: CSR integer counts. ``obs``: ``region``,
        ``cell_id`` (the id of the nucleus), ``n_transcripts``, ``area_um2`` (``area_px2`` where no pixel size is known), ``cell_type``
        (categorical), ``cell_type_confidence`` (posterior in [0, 1]; of a nucleus without transcripts the frequency of the type).
        Where nuclei hold fewer than 25 transcripts in the mean, and for clusters, types also count the transcripts of a narrow ring
        around each nucleus (a quarter to three quarters of the median radius).
        ``obsm["spatial"]``: centroids in `coordinate_system`. ``uns["sjg"]``: parameters and the fate of the transcripts.

    Raises
    ------
    MissingElementError
        No such nuclei, points or reference table.
    AmbiguousElementError
        Several points and none chosen.
    ExistingElementError
        The table exists and `overwrite` is False.
    InputError
        Elements that do not overlap, a reference that does not fit, or arguments that make no sense; nothing is written.

    See Also
    --------
    sjg.pp.segment_nuclei : nuclei from an image.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(96, 96))
    >>> sjg.pp.annotate_nuclei(sdata, reference="reference")
    >>> sdata["nuclei_table"].obs["cell_type"].dtype.name
    'category'
    """
    key = access.choose_nuclei(sdata, nuclei_key)
    if key is None:
        raise MissingElementError("Give nuclei_key, the labels or shapes of the nuclei.")
    points_key = access.choose_points(sdata, points_key)
    access.choose_coordinate_system(sdata, [key, points_key], coordinate_system)
    access.choose_feature_key(sdata, points_key, feature_key)
    access.check_new_keys(sdata, {"tables": [key_added]}, key_added=key_added, overwrite=overwrite)
    if reference is not None and n_clusters is not None:
        raise InputError("reference and n_clusters are both given: types come from the reference or from clustering; give one.")
    if isinstance(reference, str) and reference == key_added:
        raise InputError(f"reference and key_added are both {key_added!r}; choose another key_added.")
    grid = _grid(sdata, key, points_key, coordinate_system)
    labels, source_ids = access.read_nuclei(sdata, key, grid, coordinate_system=coordinate_system)
    if source_ids.size == 0:
        raise InputError(f"{key!r} holds no nucleus; choose other nuclei_key, or find nuclei with sjg.pp.segment_nuclei.")
    ids = _instance_ids(source_ids, key)
    molecules, report = access.read_molecules(
        sdata,
        points_key,
        grid,
        coordinate_system=coordinate_system,
        feature_key=feature_key,
        min_qv=min_qv,
        control_pattern=control_pattern,
        min_genes=1,
    )
    shape, nucleus = (len(ids), len(molecules.gene_names)), values_at(labels, molecules.yx_px)
    counts = access.count_matrix(nucleus, molecules.gene, shape)
    typed_by = nucleus_or_ring(labels, nucleus, molecules.yx_px, n_nuclei=len(ids), always=reference is None)
    types, confidence = _types(
        sdata,
        access.count_matrix(typed_by, molecules.gene, shape),
        molecules.gene_names,
        reference=reference,
        cell_type_key=cell_type_key,
        n_clusters=n_clusters,
        random_state=random_state,
    )
    area, centroid = access.areas_and_centroids(labels)
    area_name, areas = access.named_area(area, grid)
    logger.info("%d nuclei, %d of %d transcripts inside, %d types", len(ids), counts.sum(), report.n_kept, len(types.categories))
    details = {
        "nuclei_key": key,
        "points_key": points_key,
        "types_from": "clustering" if reference is None else "reference",
        "coordinate_system": coordinate_system,
        "random_state": random_state,
        "transcripts": report.counts(),
    }
    table = access.build_table(
        counts,
        molecules.gene_names,
        region=key,
        instance_ids=ids,
        obs={area_name: areas, "cell_type": types, "cell_type_confidence": confidence},
        spatial=access.apply_affine(grid.matrix, centroid),
        uns={"sjg": access.plain(details)},
    )
    access.attach(sdata, access.Outputs(tables={key_added: table}))


def _types(
    sdata: SpatialData,
    counts: csr_matrix,
    gene_names: tuple[str, ...],
    *,
    reference: AnnData | pd.DataFrame | str | None,
    cell_type_key: str,
    n_clusters: int | None,
    random_state: int,
) -> tuple[pd.Categorical, NDArray[np.float32]]:
    if reference is None:
        codes, confidence = cluster_nuclei(counts, n_clusters=n_clusters, random_state=random_state)
        names = tuple(str(number) for number in range(int(codes.max()) + 1))
    else:
        names, profiles = resolve_reference(reference, sdata, gene_names, cell_type_key)
        posterior = type_nuclei(counts, profiles)
        codes, confidence = posterior.argmax(axis=1).astype(np.int32), posterior.max(axis=1).astype(np.float32)
    return pd.Categorical.from_codes(codes, categories=list(names)).remove_unused_categories(), confidence


def _grid(sdata: SpatialData, nuclei_key: str, points_key: str, coordinate_system: str) -> Grid:
    """The pixels of the labels, or fine pixels around the shapes."""
    size = access.image_pixel_size_um(sdata, nuclei_key, points_key, coordinate_system=coordinate_system)
    if nuclei_key in sdata.labels:
        return access.labels_grid(sdata, nuclei_key, coordinate_system=coordinate_system, pixel_size_um=size)
    shapes = sdata.shapes[nuclei_key]
    geometry = shapes.geometry.buffer(shapes["radius"]) if "radius" in shapes else shapes.geometry
    areas = geometry.area.to_numpy()
    if not (areas > 0).any():
        raise InputError(f"shapes[{nuclei_key!r}] hold no polygon with an area; choose other nuclei_key.")
    step = float(2 * np.sqrt(np.median(areas[areas > 0]) / np.pi)) / _PX_PER_NUCLEUS
    x_min, y_min, x_max, y_max = geometry.total_bounds
    own = np.array([[step, 0, x_min], [0, step, y_min], [0, 0, 1]])
    shape = (int(np.ceil((y_max - y_min) / step)) + 1, int(np.ceil((x_max - x_min) / step)) + 1)
    matrix = access.affine_matrix(sdata, nuclei_key, coordinate_system) @ own
    return Grid(shape=shape, matrix=matrix, pixel_size_um=None if size is None else size * step)


def _instance_ids(source_ids: NDArray[Any], key: str) -> NDArray[np.int64]:
    if source_ids.dtype.kind not in "iu":
        raise InputError(
            f"The nuclei of shapes[{key!r}] have ids like {source_ids[:3].tolist()}; a table needs positive integers: number them with "
            f"sdata[{key!r}].index = range(1, len(sdata[{key!r}]) + 1)."
        )
    if source_ids.min() < 1:
        raise InputError(
            f"The nuclei of shapes[{key!r}] have an id {int(source_ids.min())}, but 0 is the background: number them from 1 with "
            f"sdata[{key!r}].index = range(1, len(sdata[{key!r}]) + 1)."
        )
    ids: NDArray[np.int64] = source_ids.astype(np.int64)
    return ids
