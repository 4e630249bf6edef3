"""Simulated tissue as a SpatialData object."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from sjg._keys import INSTANCE_KEY, REGION_KEY
from sjg.access._class_means import class_means
from sjg.core import InputError, generator
from sjg.datasets._simulate import Tissue, TissueParameters, simulate
from sjg.datasets._simulate_types import Profiles, sampled_profiles, synthetic_profiles

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray
    from pandas import DataFrame
    from spatialdata import SpatialData

#: side of the chunks of rasters in pixels
_CHUNK_PX = 2048


def simulated_tissue(
    *,
    size_um: tuple[float, float] = (256, 256),
    pixel_size_um: float = 0.5,
    n_cell_types: int = 8,
    n_genes: int = 100,
    transcripts_per_cell: float = 120,
    noise_fraction: float = 0.08,
    diffusion_um: float = 0.5,
    reference: AnnData | DataFrame | None = None,
    random_state: int | np.random.Generator | None = 0,
    n_markers_per_type: int | None = None,
    cell_diameter_um: float = 12.0,
    cell_size_spread: float = 0.16,
    coverage: float = 0.84,
    nucleus_fraction: float = 0.31,
    nucleus_size_spread: float = 0.22,
    type_mixing: float = 1.0,
    size_dispersion: float = 0.15,
    gene_dispersion: float = 0.3,
    nuclear_gene_fraction: float = 0.2,
    nuclear_enrichment: float = 4.0,
    patchy_noise_fraction: float = 0.5,
    reference_spread: float = 0.0,
    missed_fraction: float = 0.0,
    merged_fraction: float = 0.0,
    jitter_um: float = 0.0,
    wrong_type_fraction: float | None = None,
) -> SpatialData:
    """Simulate a tissue section in which the cell and the type of every transcript are known.

    Irregular cells in contact with extracellular gaps between them, off-centre nuclei whose size follows that of their cell only in
    part, types in layers and patches, counts with per-cell and per-gene spread, diffusion, uniform and patchy noise, nuclear-enriched
    genes, and a DAPI image with texture, haze, blur and shot noise. See :doc:`/simulator` for pictures and limits.

    Parameters
    ----------
    size_um
        (height, width) in micrometres.
    pixel_size_um
        Side of a pixel in micrometres.
    n_cell_types
        Number of types; with a `reference`, at most as many as it has.
    n_genes
        Number of genes; with a `reference`, at most as many as it has.
    transcripts_per_cell
        Mean number of transcripts that a cell makes.
    noise_fraction
        Part of all transcripts that belong to no cell.
    diffusion_um
        Standard deviation along each axis of the step between the place where a transcript was made and where it is seen.
    reference
        Class means to draw types from: a DataFrame genes x types or an AnnData types x genes. Without it, synthetic class means.
    random_state
        Seed or generator. The same seed gives the same tissue on every platform; None draws a fresh one.
    n_markers_per_type
        Planted markers per type of the synthetic class means; by default as many as fit in a third of the genes, at most 4.
        Not with a `reference`.
    cell_diameter_um
        Diameter of a disc with the mean area of a cell.
    cell_size_spread
        Standard deviation of the logarithm of a cell's relative radius, before neighbours compete.
    coverage
        Part of the image that is covered by cells.
    nucleus_fraction
        Area of the nucleus over that of a cell of mean size.
    nucleus_size_spread
        Standard deviation of the logarithm of the nuclear area among cells of one size.
    type_mixing
        0 gives regions of one type; above 3 the types are mixed at random.
    size_dispersion
        Variance of the factor on a cell's total count that its area does not explain.
    gene_dispersion
        Variance of the factor on each gene's rate in each cell: the overdispersion of counts.
    nuclear_gene_fraction
        Part of the genes whose transcripts are enriched in nuclei.
    nuclear_enrichment
        Their density in the nucleus over that in the cytoplasm.
    patchy_noise_fraction
        Part of the noise that clusters in patches; the rest is uniform.
    reference_spread
        Standard deviation of the logarithm of each gene's efficiency in the assay of ``tables["reference"]`` over that in the tissue; with 0 the
        reference is the truth, 0.5 to 1 is what two assays differ by.
    missed_fraction
        Part of the nuclei missing from ``labels["nuclei"]``; their ids stay unused there.
    merged_fraction
        Part of the nuclei that have swallowed their neighbour.
    jitter_um
        Standard deviation along each axis of the displacement of nuclei labels; a nucleus may then leave its cell.
    wrong_type_fraction
        Part of the nuclei that start with a wrong type in ``tables["nuclei_table"]``; None writes no such table.

    Returns
    -------
    SpatialData with coordinate system ``global`` in micrometres

    - ``images["dapi"]``: (c, y, x) uint16, channel ``dapi``
    - ``labels["nuclei"]``: (y, x) int32, with the faults asked for
    - ``labels["cells"]``: (y, x) int32, the truth; a cell and its nucleus share the id
    - ``points["transcripts"]``: ``x``, ``y`` in micrometres, categorical ``gene`` (the feature key), int32 ``true_cell`` (0 = noise)
    - ``tables["truth"]``: annotates ``cells``; ``X`` counts by ``true_cell``; ``obs`` has ``cell_type``, ``area_um2``,
      ``nucleus_area_um2``, ``n_transcripts``, ``nucleus_id`` (the nucleus that covers most of the true one, 0 = missed);
      ``obsm["spatial"]`` centroids (x, y) in micrometres
    - ``tables["reference"]``: types x genes mean counts; of another assay where `reference_spread` is given; ``var`` has ``marker_of``
      (planted markers) and ``nuclear_enrichment``
    - ``tables["nuclei_table"]``: annotates ``nuclei`` with ``obs["cell_type"]``, where `wrong_type_fraction` is given
    - ``attrs["simulation"]``: the settings

    Raises
    ------
    InputError
        If a setting is out of range or the reference cannot be used.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64), n_cell_types=3, n_genes=20)
    >>> sdata["dapi"].shape
    (1, 128, 128)
    >>> list(sdata["reference"].obs_names)
    ['type_0', 'type_1', 'type_2']
    """
    for name, count in (("n_cell_types", n_cell_types), ("n_genes", n_genes)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise InputError(f"{name} must be an integer of at least 1, got {count!r}.")
    parameters = TissueParameters(
        size_um=(float(size_um[0]), float(size_um[1])) if len(size_um) == 2 else size_um,
        pixel_size_um=pixel_size_um,
        transcripts_per_cell=transcripts_per_cell,
        noise_fraction=noise_fraction,
        patchy_noise_fraction=patchy_noise_fraction,
        diffusion_um=diffusion_um,
        cell_diameter_um=cell_diameter_um,
        cell_size_spread=cell_size_spread,
        coverage=coverage,
        nucleus_fraction=nucleus_fraction,
        nucleus_size_spread=nucleus_size_spread,
        type_mixing=type_mixing,
        size_dispersion=size_dispersion,
        gene_dispersion=gene_dispersion,
        nuclear_gene_fraction=nuclear_gene_fraction,
        nuclear_enrichment=nuclear_enrichment,
        reference_spread=reference_spread,
        missed_fraction=missed_fraction,
        merged_fraction=merged_fraction,
        jitter_um=jitter_um,
        wrong_type_fraction=wrong_type_fraction,
    )
    seed = _seed(random_state)
    if reference is None:
        n_markers = min(4, n_genes // (3 * n_cell_types)) if n_markers_per_type is None else n_markers_per_type
        if n_markers < 0 or n_markers * n_cell_types > n_genes:
            raise InputError(f"n_markers_per_type={n_markers} times n_cell_types={n_cell_types} must lie between 0 and n_genes={n_genes}.")
        profiles = synthetic_profiles(generator(seed, 0), n_cell_types=n_cell_types, n_genes=n_genes, n_markers_per_type=n_markers)
    else:
        if n_markers_per_type is not None:
            raise InputError("n_markers_per_type goes with synthetic class means only: leave it out where a reference is given.")
        means, types, genes = class_means(reference)
        profiles = sampled_profiles(generator(seed, 0), means, types, genes, n_cell_types=n_cell_types, n_genes=n_genes)
    return _assemble(simulate(seed, profiles, parameters), profiles, parameters, seed)


def _seed(random_state: int | np.random.Generator | None) -> int:
    """A non-negative integer from which every stream of the simulation is spawned."""
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**63))
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1, np.uint64)[0] >> 1)
    if isinstance(random_state, bool) or not isinstance(random_state, int | np.integer) or random_state < 0:
        raise InputError(f"random_state must be a non-negative integer, a numpy Generator or None, got {random_state!r}.")
    return int(random_state)


def _assemble(tissue: Tissue, profiles: Profiles, parameters: TissueParameters, seed: int) -> SpatialData:
    """SpatialData in micrometres: rasters carry the pixel size as a Scale, points and centroids are in the global system already."""
    import pandas as pd
    from anndata import AnnData
    from spatialdata import SpatialData
    from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
    from spatialdata.transformations import Identity, Scale

    def scale() -> dict[str, Scale]:
        return {"global": Scale([parameters.pixel_size_um] * 2, axes=("x", "y"))}

    molecules, px = tissue.transcripts, parameters.pixel_size_um
    points = pd.DataFrame(
        {
            "x": molecules.yx_px[:, 1] * px,
            "y": molecules.yx_px[:, 0] * px,
            "gene": pd.Categorical.from_codes(molecules.gene, list(profiles.gene_names)),
            "true_cell": molecules.true_cell.astype(np.int32),
        }
    )
    reference = AnnData(
        profiles.means * tissue.reference_efficiency * parameters.transcripts_per_cell,
        obs=pd.DataFrame(index=list(profiles.type_names)),
        var=pd.DataFrame(
            {
                "marker_of": pd.Categorical.from_codes(profiles.marker_of, list(profiles.type_names)),
                "nuclear_enrichment": tissue.nuclear_enrichment,
            },
            index=list(profiles.gene_names),
        ),
    )
    tables = {"truth": _truth_table(tissue, profiles, parameters), "reference": TableModel.parse(reference)}
    if parameters.wrong_type_fraction is not None:
        tables["nuclei_table"] = _nuclei_table(tissue, profiles)
    chunks = (min(_CHUNK_PX, tissue.cells.shape[0]), min(_CHUNK_PX, tissue.cells.shape[1]))
    settings = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(parameters).items() if value is not None}
    return SpatialData(
        images={
            "dapi": Image2DModel.parse(
                tissue.dapi[None], dims=("c", "y", "x"), c_coords=["dapi"], transformations=scale(), chunks=(1, *chunks)
            )
        },
        labels={
            name: Labels2DModel.parse(array, dims=("y", "x"), transformations=scale(), chunks=chunks)
            for name, array in (("nuclei", tissue.nuclei), ("cells", tissue.cells))
        },
        points={
            "transcripts": PointsModel.parse(
                points, coordinates={"x": "x", "y": "y"}, feature_key="gene", transformations={"global": Identity()}, npartitions=1
            )
        },
        tables=tables,
        attrs={"simulation": {"seed": seed, **settings}},
    )


def _truth_table(tissue: Tissue, profiles: Profiles, parameters: TissueParameters) -> AnnData:
    """Table that annotates the true cells."""
    import pandas as pd
    from anndata import AnnData
    from scipy.sparse import csr_matrix
    from spatialdata.models import TableModel

    n, px = len(tissue.cell_type), parameters.pixel_size_um
    molecules = tissue.transcripts
    own = molecules.true_cell > 0
    counts = csr_matrix(
        (np.ones(int(own.sum()), np.int32), (molecules.true_cell[own] - 1, molecules.gene[own])), shape=(n, len(profiles.gene_names))
    )
    area = np.bincount(tissue.cells.ravel(), minlength=n + 1)[1:]
    ids = np.arange(1, n + 1)
    obs = pd.DataFrame(
        {
            REGION_KEY: pd.Categorical(["cells"] * n),
            INSTANCE_KEY: ids,
            "cell_type": pd.Categorical.from_codes(tissue.cell_type, list(profiles.type_names)),
            "area_um2": area * px**2,
            "nucleus_area_um2": np.bincount(tissue.true_nuclei.ravel(), minlength=n + 1)[1:] * px**2,
            "n_transcripts": np.asarray(counts.sum(axis=1)).ravel(),
            "nucleus_id": _covering_nucleus(tissue.true_nuclei, tissue.nuclei, n),
        },
        index=ids.astype(str),
    )
    flat = tissue.cells.ravel()
    rows, columns = np.divmod(np.arange(flat.size), tissue.cells.shape[1])
    sums = [np.bincount(flat, weights=axis, minlength=n + 1)[1:] for axis in (columns, rows)]
    spatial = (np.column_stack(sums) / np.maximum(area, 1)[:, None] + 0.5) * px
    table = AnnData(counts, obs=obs, var=pd.DataFrame(index=list(profiles.gene_names)), obsm={"spatial": spatial})
    return TableModel.parse(table, region="cells", region_key=REGION_KEY, instance_key=INSTANCE_KEY)


def _covering_nucleus(true_nuclei: NDArray[np.int32], nuclei: NDArray[np.int32], n: int) -> NDArray[np.int64]:
    """For each true nucleus, the id in `nuclei` that covers most of it (0 = none)."""
    from scipy.sparse import coo_matrix

    both = (true_nuclei > 0) & (nuclei > 0)
    overlap = coo_matrix((np.ones(int(both.sum()), np.int64), (true_nuclei[both], nuclei[both])), shape=(n + 1, n + 1)).tocsr()
    return np.asarray(overlap.argmax(axis=1)).ravel()[1:].astype(np.int64) if overlap.nnz else np.zeros(n, np.int64)


def _nuclei_table(tissue: Tissue, profiles: Profiles) -> AnnData:
    """Table that annotates the nuclei with the types they start with."""
    import pandas as pd
    from anndata import AnnData
    from spatialdata.models import TableModel

    ids = np.unique(tissue.nuclei[tissue.nuclei > 0]).astype(np.int64)
    obs = pd.DataFrame(
        {
            REGION_KEY: pd.Categorical(["nuclei"] * len(ids)),
            INSTANCE_KEY: ids,
            "cell_type": pd.Categorical.from_codes(tissue.initial_type[ids - 1], list(profiles.type_names)),
        },
        index=ids.astype(str),
    )
    return TableModel.parse(AnnData(obs=obs), region="nuclei", region_key=REGION_KEY, instance_key=INSTANCE_KEY)
