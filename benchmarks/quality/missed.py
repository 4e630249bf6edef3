"""Cells whose nucleus was missed: how many are found, and how many of the found ones are real.

    python benchmarks/quality/missed.py --seeds 0 1 2

Only the search (``sjg.training.add_missed_nuclei``) runs here; what it does to a whole run is the method "sjg, find_missed" of compare.py.
Rows go to results/missed.json.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from conditions import CONDITIONS, Case, make_case
from numpy.typing import NDArray
from scipy import sparse
from scores import RESULTS, Rows

from sjg.core import CellTypes, Molecules
from sjg.pp._typing import type_nuclei
from sjg.training import add_missed_nuclei, make_fabric

KEY = ("condition", "missed_fraction", "seed", "size_um")


def hide_nuclei(case: Case, missed_fraction: float, seed: int) -> tuple[Molecules, NDArray[np.int32], CellTypes, NDArray[np.int64]]:
    """The tissue without some of its nuclei: transcripts, nuclei 1..n, their types by the class means, and the cells that lost theirs."""
    ids = np.unique(case.nuclei[case.nuclei > 0])
    missed = np.random.default_rng([seed, 1]).permutation(ids)[: round(missed_fraction * len(ids))]
    shown = np.setdiff1d(ids, missed)
    number = np.zeros(ids.max() + 1, np.int32)
    number[shown] = np.arange(1, len(shown) + 1)
    labels = number[case.nuclei]
    nucleus = labels[case.pixel]
    inside = nucleus > 0
    counts = sparse.coo_array(
        (np.ones(int(inside.sum())), (nucleus[inside] - 1, case.gene[inside])), shape=(len(shown), len(case.gene_names))
    ).tocsr()
    posterior = type_nuclei(sparse.csr_matrix(counts), case.profiles)
    types = CellTypes(case.type_names, posterior.argmax(1).astype(np.int32), posterior.max(1).astype(np.float32), case.profiles)
    return Molecules(case.yx_px.astype(np.float32), case.gene.astype(np.int32), case.gene_names), labels, types, missed


def score_search(condition: str, missed_fraction: float, seed: int, size_um: float) -> dict[str, float]:
    case = make_case(condition, seed, size_um=size_um)
    molecules, labels, types, missed = hide_nuclei(case, missed_fraction, seed)
    fabric = make_fabric("cpu")
    start = time.process_time()
    found = add_missed_nuclei(molecules, labels, types, fabric=fabric)
    seconds = time.process_time() - start
    owner = case.truth[tuple(found.yx_px.T)]
    real = np.unique(owner[np.isin(owner, missed)])
    return {
        "n_cells": len(case.cell_type),
        "n_missed": len(missed),
        "n_found": len(found),
        "n_real": len(real),
        "precision": len(real) / len(found) if len(found) else float("nan"),
        "recall": len(real) / len(missed) if len(missed) else float("nan"),
        "cpu_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conditions", nargs="+", default=["base", "12 transcripts", "sparse tissue", "second simulator, 120"])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size-um", type=float, default=256)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(RESULTS / "missed.json", KEY)
    for condition in arguments.conditions:
        if condition not in CONDITIONS:
            parser.error(f"no condition {condition!r}; choose from {', '.join(CONDITIONS)}")
        for fraction in arguments.fractions:
            for seed in arguments.seeds:
                key = {"condition": condition, "missed_fraction": fraction, "seed": seed, "size_um": arguments.size_um}
                if arguments.again or not rows.has(**key):
                    scores = score_search(condition, fraction, seed, arguments.size_um)
                    rows.add({**key, **{name: None if value != value else value for name, value in scores.items()}})
    total = {}
    for row in rows.read():
        sums = total.setdefault((row["condition"], row["missed_fraction"]), np.zeros(4))
        sums += [row["n_cells"], row["n_missed"], row["n_found"], row["n_real"]]
    for (condition, fraction), (n, missed, found, real) in total.items():
        print(f"{condition:24s} missed {fraction:4.0%}: found {found:3.0f} of {missed:3.0f} in {n:.0f} cells, real {real:3.0f}")


if __name__ == "__main__":
    main()
