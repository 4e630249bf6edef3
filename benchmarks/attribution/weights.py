"""Where is a rare type? Ranks of known markers by the weight of the transcripts. Run: ``python benchmarks/attribution/weights.py STORE.zarr``.

The store holds a run of ``sjg.tl.segment`` on the mouse CA1 section (for instance ``sjg demo --data mouse-ca1``). The weight of a transcript for a type is the probability of
the type at its pixel (network), the posterior of the type of the nearest cell, or their product.
"""

from __future__ import annotations

import argparse

import numpy as np
import spatialdata as sd
import torch
from report import write
from runs import MARKERS

from sjg.attribution import GeneImportance, molecule_attribution
from sjg.tl._inputs import read_arrays
from sjg.tl._stored_run import stored_request, stored_run
from sjg.training import Tissue, load_model
from sjg.training._importance import nearest_posterior, patch_inputs, patches_by_type

RULES = ("network", "cells", "network x cells")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--table", default="sjg_table")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sdata = sd.read_zarr(arguments.store)
    table, details = stored_run(sdata, arguments.table)
    model, state, parameters = load_model(details["network"], device="cpu")
    model.requires_grad_(False)
    arrays = read_arrays(sdata, stored_request(details))
    tissue = Tissue(arrays.molecules, arrays.nuclei, parameters)
    genes, names = list(arrays.molecules.gene_names), list(table.varm["gene_importance"].columns)
    gathered = {rule: GeneImportance(len(genes), len(names)) for rule in RULES}
    generator = torch.Generator().manual_seed(0)
    for window, present in patches_by_type(tissue, state, list(range(len(names))), 2, np.random.default_rng(0)):
        maps, embedding, head, sigma_px, batch = patch_inputs(model, tissue, state, window)
        found = molecule_attribution(
            head, maps, embedding, [t + 1 for t in present], coords_px=batch.coords_px, gene=batch.gene,
            batch_index=torch.zeros_like(batch.gene), sigma_px=sigma_px, n_probes=6, generator=generator,
        )  # fmt: skip
        effect = torch.full((len(names), len(batch.gene)), torch.nan)
        effect[present] = found
        pixel = batch.coords_px.floor().long()
        with torch.no_grad():
            network = torch.softmax(head(maps)[0], 0)[1:, pixel[:, 0], pixel[:, 1]]
        cells = nearest_posterior(tissue, state, window, batch.coords_px.numpy() + np.array([window.y0, window.x0], np.float32))
        for rule, weight in zip(RULES, (network, cells, network * cells), strict=True):
            gathered[rule].add(effect, gene=batch.gene, weight=weight)
    n_cells = table.obs["cell_type"].value_counts()
    record = {}
    for rule in RULES:
        rank = (-gathered[rule].result().numpy()).argsort(0).argsort(0) + 1
        ranks = {
            marker: {
                f"{name} ({n_cells[name]} cells)": int(rank[genes.index(marker), t])
                for t, name in enumerate(names)
                if part in name and n_cells.get(name, 0) >= 2
            }
            for marker, part in MARKERS.items()
        }
        flat = [r for by_type in ranks.values() for r in by_type.values()]
        record[rule] = {"in the top ten": f"{sum(r <= 10 for r in flat)} of {len(flat)}", **ranks}
    write("weights", record)


if __name__ == "__main__":
    main()
