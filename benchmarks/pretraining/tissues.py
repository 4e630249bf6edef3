"""Small random tissues on which the network of claims is trained.

    python benchmarks/pretraining/tissues.py --count 5000 --output tissues

Everything that differs between assays, organs and simulators is drawn anew for each tissue: density of molecules, panel, types, size and
shape of cells, coverage, nuclei, diffusion, noise, overdispersion, missed and shifted nuclei, and how far the reference is from the truth.
Class means are synthetic, or those of CA1 scRNA-seq where ``SJG_DATA_DIR`` holds them.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd

from sjg.core import InputError, generator
from sjg.datasets._simulate import Tissue, TissueParameters, simulate
from sjg.datasets._simulate_types import Profiles, sampled_profiles, synthetic_profiles

SIZE_UM = 96.0


def random_parameters(rng: np.random.Generator) -> TissueParameters:
    """Settings of one tissue."""

    def log_uniform(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    coverages = [rng.uniform(0.2, 0.5), rng.uniform(0.45, 0.8), rng.uniform(0.75, 0.95), rng.uniform(0.8, 0.9), 1.0]
    return TissueParameters(
        size_um=(SIZE_UM, SIZE_UM),
        transcripts_per_cell=log_uniform(4, 400),
        noise_fraction=float(rng.uniform(0.01, 0.35)),
        patchy_noise_fraction=float(rng.choice([0, 0.5, rng.random()])),
        diffusion_um=float(rng.choice([0.3, 0.5, 0.5, 1.0, 1.5, 2.0])),
        cell_diameter_um=float(rng.uniform(8.5, 15)),
        cell_size_spread=float(rng.uniform(0.05, 0.35)),
        coverage=float(rng.choice(coverages, p=[0.2, 0.2, 0.25, 0.25, 0.1])),
        nucleus_fraction=float(rng.uniform(0.15, 0.75)),
        nucleus_size_spread=float(rng.uniform(0.02, 0.35)),
        type_mixing=float(rng.choice([0.5, 1, 2, 4])),
        size_dispersion=float(rng.choice([0.0, 0.05, 0.15, 0.3, 0.6, 1.0])),
        gene_dispersion=float(rng.choice([0, 0.1, 0.3, 0.6, 1.0])),
        nuclear_gene_fraction=float(rng.choice([0, 0.2, 0.4, 1.0, 1.0])),
        nuclear_enrichment=log_uniform(0.35, 5),
        missed_fraction=float(rng.choice([0, 0, 0, 0.05, 0.15])),
        jitter_um=float(rng.choice([0, 0, 0, 0.4, 0.8])),
        irregularity=float(rng.choice([0.0, 0.5, 1.0, 1.0, 1.5])),
        warping=float(rng.uniform(0, 1.3)),
        gap_roughness=float(rng.uniform(0.2, 1.5)),
        nucleus_centrality=float(rng.uniform(0.4, 0.97)),
    )


def random_profiles(rng: np.random.Generator, seed: int, reference: pd.DataFrame | None) -> Profiles:
    """Types and their class means."""
    n_genes, n_types = int(np.exp(rng.uniform(np.log(30), np.log(400)))), int(rng.integers(2, 16))
    if reference is not None and rng.random() < 0.5:
        means, types, genes = reference.to_numpy().T, tuple(reference.columns), tuple(reference.index)
        return sampled_profiles(generator(seed, 0), means, types, genes, n_cell_types=n_types, n_genes=min(n_genes, len(genes)))
    n_markers = int(rng.integers(0, max(1, min(5, n_genes // (2 * n_types)) + 1)))
    return synthetic_profiles(generator(seed, 0), n_cell_types=n_types, n_genes=max(n_genes, n_types), n_markers_per_type=n_markers)


def random_tissue(seed: int, reference: pd.DataFrame | None) -> tuple[Tissue, dict[str, np.ndarray]]:
    """A tissue, and as arrays what training needs of it."""
    rng = np.random.default_rng([77, seed])
    profiles = random_profiles(rng, seed, reference)
    tissue = simulate(seed, profiles, random_parameters(rng))
    means = profiles.means
    if rng.random() < 0.4:  # a reference of another assay: every gene with an efficiency of its own
        means = means * np.exp(rng.uniform(0, 0.9) * rng.standard_normal(means.shape[1]))
    molecules = tissue.transcripts
    return tissue, {
        "cells": tissue.cells,
        "nuclei": tissue.nuclei,
        "yx": molecules.yx_px.astype(np.float32),
        "gene": molecules.gene.astype(np.int32),
        "true_cell": molecules.true_cell.astype(np.int32),
        "cell_type": tissue.cell_type.astype(np.int32),
        "profiles": means / means.sum(1, keepdims=True),
        "wrong": np.float64(rng.choice([0, 0.05, 0.15])),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("SJG_DATA_DIR")
    path = Path(data or "") / "mouse_ca1_iss" / "reference_class_means.csv"
    reference = pd.read_csv(path, index_col=0) if data and path.exists() else None
    for seed in range(arguments.first, arguments.first + arguments.count):
        try:
            _, arrays = random_tissue(seed, reference)
        except InputError as error:  # a draw that the simulator refuses
            print(seed, error)
            continue
        np.savez(arguments.output / f"{seed:06d}.npz", **arrays)


if __name__ == "__main__":
    main()
