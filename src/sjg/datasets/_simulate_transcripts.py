"""Transcripts of simulated cells: how many, of which gene, where."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sjg.datasets._smooth_noise import smooth_noise

#: cells drawn at once, to bound the memory of large panels
_CELLS_AT_ONCE = 1024


@dataclass(frozen=True)
class Transcripts:
    """Simulated molecules in random order.

    Parameters
    ----------
    yx_px
        (N, 2) float64 positions as (y, x) in pixels, inside the image.
    gene
        (N,) int64 index of the gene.
    true_cell
        (N,) int64 id of the cell it comes from, 0 for noise.
    """

    yx_px: NDArray[np.float64]
    gene: NDArray[np.int64]
    true_cell: NDArray[np.int64]


def draw_counts(
    rng: np.random.Generator,
    means: NDArray[np.float64],
    cell_type: NDArray[np.int64],
    area_px2: NDArray[np.int64],
    *,
    transcripts_per_cell: float,
    size_dispersion: float,
    gene_dispersion: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cell (index from 0) and gene of every molecule made by a cell.

    The total of a cell is proportional to its area times a gamma variable of variance `size_dispersion`; the rate of each gene in it gets
    another gamma variable of variance `gene_dispersion`; counts are Poisson. The mean over cells is `transcripts_per_cell`.
    """
    total = transcripts_per_cell * area_px2 / max(area_px2.mean(), 1)
    if size_dispersion > 0:
        total = total * rng.standard_gamma(1 / size_dispersion, len(total)) * size_dispersion
    cells, genes = [], []
    for start in range(0, len(cell_type), _CELLS_AT_ONCE):
        part = slice(start, start + _CELLS_AT_ONCE)
        rate = means[cell_type[part]] * total[part, None]
        if gene_dispersion > 0:
            rate = rate * rng.standard_gamma(1 / gene_dispersion, rate.shape) * gene_dispersion
        # a rate rounded to 2^-20 is the same on every platform, so is the number of variates that the Poisson sampler consumes
        counts = rng.poisson(np.rint(rate * 2**20) / 2**20)
        cell, gene = np.nonzero(counts)
        n = counts[cell, gene]
        cells.append(np.repeat(cell + start, n))
        genes.append(np.repeat(gene, n))
    if not cells:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    return np.concatenate(cells), np.concatenate(genes)


def place_in_cells(
    rng: np.random.Generator,
    cells: NDArray[np.int32],
    nuclei: NDArray[np.int32],
    cell: NDArray[np.int64],
    enrichment: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A position inside its own cell for each molecule.

    Parameters
    ----------
    rng
        Source of the positions.
    cells, nuclei
        (height, width) int32 labels that share ids.
    cell
        (N,) index of the cell, from 0.
    enrichment
        (N,) density in the nucleus over that in the cytoplasm for the gene of each molecule.

    Returns
    -------
    (N, 2) float64 positions as (y, x) in pixels.
    """
    flat = cells.ravel()
    pixels = np.flatnonzero(flat)
    in_nucleus = nuclei.ravel()[pixels] == flat[pixels]
    # pixels sorted by cell, cytoplasm before nucleus: each compartment is one run
    order = np.argsort(flat[pixels].astype(np.int64) * 2 + in_nucleus, kind="stable")
    pixels = pixels[order]
    n_compartments = 2 * (int(flat.max(initial=0)) + 1)
    size = np.bincount(flat[pixels].astype(np.int64) * 2 + in_nucleus[order], minlength=n_compartments)
    start = np.cumsum(size) - size
    cytoplasm, nucleus = size[2 * (cell + 1)], size[2 * (cell + 1) + 1]
    nuclear = rng.random(len(cell)) * (enrichment * nucleus + cytoplasm) < enrichment * nucleus
    compartment = 2 * (cell + 1) + nuclear
    pick = pixels[start[compartment] + (rng.random(len(cell)) * size[compartment]).astype(np.int64)]
    return np.column_stack(np.divmod(pick, cells.shape[1])) + rng.random((len(cell), 2))


def place_noise(
    rng: np.random.Generator, shape: tuple[int, int], n: int, *, patchy_fraction: float, patch_scale_px: float
) -> NDArray[np.float64]:
    """Positions of `n` molecules that belong to no cell, a part of them clustered in patches of about `patch_scale_px`."""
    n_patchy = int(round(n * patchy_fraction))
    uniform = rng.random((n - n_patchy, 2)) * np.asarray(shape, float)
    field = smooth_noise(rng, shape, patch_scale_px)
    # integer weights: their sum does not depend on the order of summation
    weight = np.cumsum(np.rint(1024 * np.clip(field - 0.8, 0, None) ** 2 + 4).astype(np.int64))
    pick = np.searchsorted(weight, rng.integers(0, weight[-1], n_patchy), side="right")
    patchy = np.column_stack(np.divmod(pick, shape[1])) + rng.random((n_patchy, 2))
    return np.concatenate([uniform, patchy])


def diffuse(rng: np.random.Generator, yx_px: NDArray[np.float64], shape: tuple[int, int], sigma_px: float) -> NDArray[np.float64]:
    """Positions after a Gaussian step of standard deviation `sigma_px` along each axis, reflected at the borders of the image."""
    size = np.asarray(shape, float)
    moved = np.abs(yx_px + sigma_px * rng.standard_normal(yx_px.shape))
    moved = np.where(moved >= size, 2 * size - moved, moved)
    return np.clip(moved, 0, np.nextafter(size, 0))
