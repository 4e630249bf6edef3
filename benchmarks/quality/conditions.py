"""The tissues of the quality benchmark: one base case, and one change of it at a time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from other_tissue import VARIANTS, other_tissue

import sjg

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from spatialdata import SpatialData


@dataclass(frozen=True)
class Condition:
    """A kind of tissue, and what a method is told about it.

    Parameters
    ----------
    settings
        Arguments of ``sjg.datasets.simulated_tissue`` that differ from its defaults.
    variant
        Name of a variant of the second simulator, instead.
    reference
        Whether the class means are given.
    lacks
        How many of the most common types the class means do not have.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    variant: str | None = None
    reference: bool = True
    lacks: int = 0


#: base case: cells in contact, 120 transcripts per cell, 100 genes, 0.5-um diffusion, 8 % noise, perfect nuclei, reference given
CONDITIONS: dict[str, Condition] = {
    "base": Condition(),
    "12 transcripts": Condition({"transcripts_per_cell": 12}),
    "40 transcripts": Condition({"transcripts_per_cell": 40}),
    "300 transcripts": Condition({"transcripts_per_cell": 300}),
    "sparse tissue": Condition({"coverage": 0.45}),
    "500 genes": Condition({"n_genes": 500}),
    "diffusion 2 um": Condition({"diffusion_um": 2.0}),
    "noise 5 %": Condition({"noise_fraction": 0.05}),
    "noise 20 %": Condition({"noise_fraction": 0.2}),
    "imperfect nuclei": Condition({"missed_fraction": 0.05, "merged_fraction": 0.05, "jitter_um": 0.75}),
    "10 % missed nuclei": Condition({"missed_fraction": 0.1}),
    "10 % wrong types": Condition({"wrong_type_fraction": 0.1}),
    "one cell type": Condition({"n_cell_types": 1}),
    # efficiencies as between the hippocampus section of Qian et al. and its scRNA-seq: their logarithms differ by 1.1
    "reference of another assay": Condition({"reference_spread": 1.0}),
    "reference lacks two types": Condition(lacks=2),
    "no reference": Condition(reference=False),
    "no reference, 40": Condition({"transcripts_per_cell": 40}, reference=False),
    "second simulator, 120": Condition(variant="120"),
    "second simulator, 40": Condition(variant="40"),
    "second simulator, 12": Condition(variant="12"),
    "second simulator, large cells": Condition(variant="large cells"),
    "second simulator, diffuse, noisy": Condition(variant="diffuse, noisy"),
    "second simulator, one type": Condition(variant="one type"),
    "second simulator, other reference": Condition(variant="other reference"),
    "second simulator, no reference": Condition(variant="120", reference=False),
}


@dataclass(frozen=True)
class Case:
    """One tissue as arrays, beside the object that it was read from.

    Parameters
    ----------
    name, seed, condition
        Where it comes from.
    sdata
        The object.
    truth, nuclei
        (H, W) int32, ids shared.
    yx_px, gene, true_cell
        (N, 2) positions in pixels, (N,) gene and true cell (0 = noise) of each transcript.
    gene_names, type_names
        Genes and types.
    reference_types, profiles
        Types of the reference and its (K, G) class means.
    cell_type
        (n,) index of the true type of cells 1..n.
    pixel_size_um
        Side of a pixel.
    """

    name: str
    seed: int
    condition: Condition
    sdata: SpatialData
    truth: NDArray[np.int32]
    nuclei: NDArray[np.int32]
    yx_px: NDArray[np.float64]
    gene: NDArray[np.int64]
    true_cell: NDArray[np.int64]
    gene_names: tuple[str, ...]
    type_names: tuple[str, ...]
    reference_types: tuple[str, ...]
    profiles: NDArray[np.float64]
    cell_type: NDArray[np.int64]
    pixel_size_um: float

    @property
    def pixel(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row and column of each transcript."""
        row, column = np.floor(self.yx_px).astype(np.int64).T
        return np.clip(row, 0, self.truth.shape[0] - 1), np.clip(column, 0, self.truth.shape[1] - 1)


def make_case(name: str, seed: int, *, size_um: float) -> Case:
    """Simulate the tissue of a condition."""
    condition = CONDITIONS[name]
    if condition.variant is None:
        sdata = sjg.datasets.simulated_tissue(size_um=(size_um, size_um), random_state=seed, **condition.settings)
        pixel_size_um = 0.5
    else:
        settings = VARIANTS[condition.variant]
        side = round(size_um / settings.pixel_size_um)
        n_cells = round(settings.n_cells * side**2 / (settings.shape[0] * settings.shape[1]))
        sdata = other_tissue(replace(settings, shape=(side, side), n_cells=n_cells), seed=seed)
        pixel_size_um = settings.pixel_size_um
    points = sdata["transcripts"].compute()
    names = sdata["reference"].obs_names
    types = sdata["truth"].obs["cell_type"].astype(str)
    sdata["reference"] = sdata["reference"][~names.isin(types.value_counts().index[: condition.lacks])].copy()
    reference = sdata["reference"]
    return Case(
        name=name,
        seed=seed,
        condition=condition,
        sdata=sdata,
        truth=np.asarray(sdata["cells"]),
        nuclei=np.asarray(sdata["nuclei"]),
        yx_px=points[["y", "x"]].to_numpy() / pixel_size_um,
        gene=points["gene"].cat.codes.to_numpy(np.int64),
        true_cell=points["true_cell"].to_numpy(np.int64),
        gene_names=tuple(points["gene"].cat.categories),
        type_names=tuple(names),
        reference_types=tuple(reference.obs_names),
        profiles=np.asarray(reference.to_df()[list(points["gene"].cat.categories)], float),
        cell_type=names.get_indexer(types),
        pixel_size_um=pixel_size_um,
    )
