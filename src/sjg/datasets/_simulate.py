"""The simulator: arrays from a seed, without any container."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError, generator
from sjg.datasets._simulate_cells import draw_cells, draw_nuclei, scatter_centres
from sjg.datasets._simulate_errors import confuse_types, jitter_nuclei, merge_nuclei, miss_nuclei
from sjg.datasets._simulate_image import draw_dapi
from sjg.datasets._simulate_transcripts import Transcripts, diffuse, draw_counts, place_in_cells, place_noise
from sjg.datasets._simulate_types import Profiles, organise_types

# one independent random stream per step, so that an option changes its own step and none of the others
(
    _CENTRES,
    _TYPES,
    _SIZES,
    _CELLS,
    _NUCLEI,
    _COUNTS,
    _PLACES,
    _DIFFUSION,
    _NOISE,
    _ORDER,
    _DAPI,
    _MISS,
    _MERGE,
    _JITTER,
    _CONFUSE,
    _GENES,
    _ASSAY,
) = range(1, 18)


@dataclass(frozen=True)
class TissueParameters:
    """What to simulate; see :func:`sjg.datasets.simulated_tissue` for the meaning and the units."""

    size_um: tuple[float, float] = (256.0, 256.0)
    pixel_size_um: float = 0.5
    transcripts_per_cell: float = 120.0
    noise_fraction: float = 0.08
    patchy_noise_fraction: float = 0.5
    diffusion_um: float = 0.5
    cell_diameter_um: float = 12.0
    cell_size_spread: float = 0.16
    coverage: float = 0.84
    nucleus_fraction: float = 0.31
    nucleus_size_spread: float = 0.22
    type_mixing: float = 1.0
    size_dispersion: float = 0.15
    gene_dispersion: float = 0.3
    nuclear_gene_fraction: float = 0.2
    nuclear_enrichment: float = 4.0
    reference_spread: float = 0.0
    missed_fraction: float = 0.0
    merged_fraction: float = 0.0
    jitter_um: float = 0.0
    wrong_type_fraction: float | None = None
    #: shapes, see :func:`sjg.datasets._simulate_cells.draw_cells` and :func:`draw_nuclei`
    irregularity: float = 1.0
    warping: float = 1.0
    gap_roughness: float = 1.0
    nucleus_centrality: float = 0.65

    def __post_init__(self) -> None:
        positive = ("pixel_size_um", "cell_diameter_um", "nuclear_enrichment")
        fractions = (
            *("noise_fraction", "patchy_noise_fraction", "coverage", "nucleus_fraction", "nuclear_gene_fraction"),
            *("missed_fraction", "merged_fraction", "wrong_type_fraction", "nucleus_centrality"),
        )
        unsigned = (
            *("transcripts_per_cell", "diffusion_um", "cell_size_spread", "nucleus_size_spread", "type_mixing"),
            *("size_dispersion", "gene_dispersion", "jitter_um", "irregularity", "warping", "gap_roughness"),
        )
        for name in (*positive, *fractions, *unsigned):
            value = getattr(self, name)
            if value is None:
                continue
            if not np.isfinite(value) or value < 0 or (name in positive and value == 0) or (name in fractions and value > 1):
                allowed = "above 0" if name in positive else "between 0 and 1" if name in fractions else "0 or more"
                raise InputError(f"{name} must be a finite number {allowed}, got {value!r}.")
        if self.noise_fraction == 1:
            raise InputError("noise_fraction must be below 1: it is the part of all transcripts that belong to no cell.")
        if self.coverage == 0 or self.nucleus_fraction == 0:
            raise InputError("coverage and nucleus_fraction must be above 0: a tissue without cells or nuclei has no truth.")
        if len(self.size_um) != 2 or not all(np.isfinite(side) and side >= 2 * self.cell_diameter_um for side in self.size_um):
            raise InputError(
                f"size_um must be (height, width), each at least two cell diameters ({2 * self.cell_diameter_um:g} um), got {self.size_um!r}."
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return int(round(self.size_um[0] / self.pixel_size_um)), int(round(self.size_um[1] / self.pixel_size_um))


@dataclass(frozen=True)
class Tissue:
    """Simulated tissue with its truth.

    Parameters
    ----------
    dapi
        (height, width) uint16 nuclear stain.
    cells
        (height, width) int32 true cells, ids 1..n.
    true_nuclei
        (height, width) int32 true nuclei; nucleus i lies inside cell i.
    nuclei
        The nuclei with the faults that were asked for; otherwise equal to `true_nuclei`.
    cell_type
        (n,) int64 true type of cells 1..n.
    initial_type
        (n,) int64 type given to the nucleus of cells 1..n, some of them wrong.
    transcripts
        The molecules.
    nuclear_enrichment
        (G,) density in the nucleus over that in the cytoplasm.
    reference_efficiency
        (G,) how well the assay of the reference sees each gene, over how well that of the tissue does.
    """

    dapi: NDArray[np.uint16]
    cells: NDArray[np.int32]
    true_nuclei: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    cell_type: NDArray[np.int64]
    initial_type: NDArray[np.int64]
    transcripts: Transcripts
    nuclear_enrichment: NDArray[np.float64]
    reference_efficiency: NDArray[np.float64]


def simulate(seed: int, profiles: Profiles, parameters: TissueParameters) -> Tissue:
    """Tissue from a seed: the same on every platform.

    Parameters
    ----------
    seed
        Non-negative integer.
    profiles
        The types and what they express.
    parameters
        Everything else.
    """
    p, shape, n_types = parameters, parameters.shape, len(profiles.type_names)
    px_per_um = 1 / p.pixel_size_um

    area_um2 = np.pi / 4 * p.cell_diameter_um**2 / p.coverage
    n_centres = max(1, int(round(shape[0] * shape[1] * p.pixel_size_um**2 / area_um2)))
    centres = scatter_centres(generator(seed, _CENTRES), shape, n_centres)
    scale_px = max(55 * px_per_um, 0.2 * min(shape))
    scale_px = min(scale_px, 90 * px_per_um)
    centre_type = organise_types(generator(seed, _TYPES), shape, centres, n_cell_types=n_types, scale_px=scale_px, mixing=p.type_mixing)
    sizes = generator(seed, _SIZES)
    type_size = np.exp(0.08 * sizes.standard_normal(n_types))
    relative = type_size[centre_type] * np.exp(p.cell_size_spread * sizes.standard_normal(n_centres))
    radius_px = np.rint(64 * relative * p.cell_diameter_um / 2 * px_per_um) / 64
    cells, kept = draw_cells(
        generator(seed, _CELLS),
        shape,
        centres,
        np.maximum(radius_px, 1),
        coverage=p.coverage,
        pixel_size_um=p.pixel_size_um,
        irregularity=p.irregularity,
        warping=p.warping,
        gap_roughness=p.gap_roughness,
    )
    cell_type = centre_type[kept]
    true_nuclei = draw_nuclei(
        generator(seed, _NUCLEI),
        cells,
        area_fraction=p.nucleus_fraction,
        size_spread=p.nucleus_size_spread,
        pixel_size_um=p.pixel_size_um,
        centrality=p.nucleus_centrality,
    )

    enrichment = _nuclear_enrichment(generator(seed, _GENES), len(profiles.gene_names), p)
    transcripts = _draw_transcripts(seed, profiles, p, cells, true_nuclei, cell_type, enrichment)

    nuclei = true_nuclei
    if p.merged_fraction:
        nuclei = merge_nuclei(generator(seed, _MERGE), nuclei, p.merged_fraction)
    if p.missed_fraction:
        nuclei = miss_nuclei(generator(seed, _MISS), nuclei, p.missed_fraction)
    if p.jitter_um:
        nuclei = jitter_nuclei(generator(seed, _JITTER), nuclei, p.jitter_um * px_per_um)
    return Tissue(
        dapi=draw_dapi(generator(seed, _DAPI), true_nuclei, pixel_size_um=p.pixel_size_um),
        cells=cells,
        true_nuclei=true_nuclei,
        nuclei=nuclei,
        cell_type=cell_type,
        initial_type=confuse_types(generator(seed, _CONFUSE), cell_type, n_types, p.wrong_type_fraction or 0.0),
        transcripts=transcripts,
        nuclear_enrichment=enrichment,
        reference_efficiency=np.exp(p.reference_spread * generator(seed, _ASSAY).standard_normal(len(profiles.gene_names))),
    )


def _nuclear_enrichment(rng: np.random.Generator, n_genes: int, p: TissueParameters) -> NDArray[np.float64]:
    """Density in the nucleus over that in the cytoplasm for each gene."""
    enrichment = np.ones(n_genes)
    enrichment[rng.permutation(n_genes)[: int(round(p.nuclear_gene_fraction * n_genes))]] = p.nuclear_enrichment
    return enrichment


def _draw_transcripts(
    seed: int,
    profiles: Profiles,
    p: TissueParameters,
    cells: NDArray[np.int32],
    nuclei: NDArray[np.int32],
    cell_type: NDArray[np.int64],
    enrichment: NDArray[np.float64],
) -> Transcripts:
    """Molecules of the cells and noise, diffused and in random order."""
    px_per_um = 1 / p.pixel_size_um
    area_px2 = np.bincount(cells.ravel(), minlength=len(cell_type) + 1)[1:]
    cell, gene = draw_counts(
        generator(seed, _COUNTS),
        profiles.means,
        cell_type,
        area_px2,
        transcripts_per_cell=p.transcripts_per_cell,
        size_dispersion=p.size_dispersion,
        gene_dispersion=p.gene_dispersion,
    )
    made = place_in_cells(generator(seed, _PLACES), cells, nuclei, cell, enrichment[gene])
    made = diffuse(generator(seed, _DIFFUSION), made, cells.shape, p.diffusion_um * px_per_um)

    noise = generator(seed, _NOISE)
    n_noise = int(round(len(gene) * p.noise_fraction / (1 - p.noise_fraction)))
    ambient = np.bincount(gene, minlength=len(profiles.gene_names)) + 1
    # half of the noise has the composition of the tissue (molecules that left their cell), half is blind to it (false calls)
    from_tissue = np.searchsorted(np.cumsum(ambient), noise.integers(0, ambient.sum(), n_noise), side="right")
    noise_gene = np.where(noise.random(n_noise) < 0.5, from_tissue, noise.integers(0, len(ambient), n_noise))
    lost = place_noise(noise, cells.shape, n_noise, patchy_fraction=p.patchy_noise_fraction, patch_scale_px=max(20 * px_per_um, 1))

    order = generator(seed, _ORDER).permutation(len(gene) + n_noise)
    return Transcripts(
        yx_px=np.concatenate([made, lost])[order],
        gene=np.concatenate([gene, noise_gene])[order],
        true_cell=np.concatenate([cell + 1, np.zeros(n_noise, np.int64)])[order],
    )
