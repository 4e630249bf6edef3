"""Where is a rare type? Ranks of known markers by the weight of the transcripts. Run: ``python benchmarks/attribution/weights.py [--cache FOLDER]``.

A network trained on the mouse CA1 section as in ``runs.py``, whose cache serves here too. The weight of a transcript for a type is the probability of
the type at its pixel (network), the posterior of the type of the nearest cell, or their product; it counts the transcripts of a gene as well.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from report import write
from runs import marker_ranks, read, trained

from sjg.attribution import GeneImportance
from sjg.datasets import mouse_ca1
from sjg.training._importance import patch_effect, patches_by_type

RULES = ("network", "cells", "network x cells")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--cache", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arrays = read(mouse_ca1())
    run = trained(arrays, arguments.preset, 0, cache=None if arguments.cache is None else arguments.cache / "ca1_first.npy")
    run.model.requires_grad_(False)
    genes, names = list(arrays.molecules.gene_names), arrays.names
    gathered = {rule: GeneImportance(len(genes), len(names)) for rule in RULES}
    generator = torch.Generator().manual_seed(0)
    for window, present in patches_by_type(run.tissue, run.state, list(range(len(names))), 2, np.random.default_rng(0)):
        found = patch_effect(run.model, run.tissue, run.state, window, present, run.parameters, generator)
        effect = torch.full((len(names), len(found.gene)), torch.nan)
        effect[present] = found.effect
        weights = (found.probability, found.posterior, found.probability * found.posterior)
        for rule, weight in zip(RULES, weights, strict=True):
            gathered[rule].add(effect, gene=found.gene, weight=weight)
    cells = np.bincount(run.state.posterior.argmax(1).numpy(), minlength=len(names))
    record = {
        f"{rule}, specificity {s}": marker_ranks(gathered[rule].result(specificity=s).numpy(), genes, names, cells)
        for s in (1, 2)
        for rule in RULES
    }
    write("weights", record)


if __name__ == "__main__":
    main()
