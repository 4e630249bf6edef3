"""Cells whose nucleus was missed: how many are found, and how many of the found ones are real.

    python benchmarks/quality/missed.py --seeds 0 1 2

Only the search (``sjg.training.add_missed_nuclei``) runs here; what it does to a whole run is the method "sjg, find_missed" of compare.py.
Rows go to results/missed.json.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import MISSING, fields

import numpy as np
import torch
from conditions import CONDITIONS, Case, make_case
from numpy.typing import NDArray
from other_tissue import DATA_DIR
from real import ca1
from scipy import sparse
from scores import RESULTS, Rows
from skimage.segmentation import relabel_sequential
from spatialdata.models import Labels2DModel
from spatialdata.transformations import Identity

from sjg.core import CellTypes, Molecules
from sjg.pp._typing import type_nuclei
from sjg.tl._inputs import Request, read_inputs
from sjg.training import add_missed_nuclei, make_fabric

CA1 = "mouse CA1"
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
    best = posterior.argmax(1).astype(np.int32), posterior.max(1).astype(np.float32)
    types = CellTypes(case.reference_types, *best, case.profiles, (counts.T @ posterior).T)
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


def score_ca1(missed_fraction: float, seed: int) -> dict[str, float]:
    """The search on a part of CA1, of which some nuclei are hidden: they are real, what else is found nobody knows."""
    sdata, _ = ca1(DATA_DIR)
    nuclei = np.asarray(sdata["nuclei"])
    ids = np.unique(nuclei[nuclei > 0])
    hidden = np.isin(nuclei, np.random.default_rng([seed, 1]).permutation(ids)[: round(missed_fraction * len(ids))])
    labels, _, _ = relabel_sequential(np.where(hidden, 0, nuclei))
    del sdata.labels["nuclei"]
    sdata["nuclei"] = Labels2DModel.parse(labels.astype(np.int32), dims=("y", "x"), transformations={"global": Identity()})
    choices = dict.fromkeys(field.name for field in fields(Request) if field.default is MISSING)
    chosen = {"image_key": "dapi", "points_key": "transcripts", "nuclei_key": "nuclei", "reference": "reference"}
    inputs = read_inputs(sdata, Request(**{**choices, **chosen, "coordinate_system": "global", "random_state": 0}))
    fabric = make_fabric("cpu")
    start = time.process_time()
    found = add_missed_nuclei(inputs.molecules, inputs.nuclei, inputs.types, fabric=fabric)
    seconds = time.process_time() - start
    to_pixels = nuclei.shape[0] / inputs.grid.shape[0]
    centre = ((found.yx_px + 0.5) * to_pixels).astype(int)
    n_hidden = len(np.unique(nuclei[hidden]))
    real = np.unique(np.where(hidden, nuclei, 0)[tuple(centre.T)])
    real = real[real > 0]
    return {
        "n_cells": len(ids),
        "n_missed": n_hidden,
        "n_found": len(found),
        "n_real": len(real),
        "recall": len(real) / n_hidden if n_hidden else float("nan"),
        "cpu_seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conditions", nargs="+", default=["base", "12 transcripts", "sparse tissue", "second simulator, 120", CA1])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size-um", type=float, default=256)
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(RESULTS / "missed.json", KEY)
    for condition in arguments.conditions:
        if condition not in (*CONDITIONS, CA1):
            parser.error(f"no condition {condition!r}; choose from {', '.join((*CONDITIONS, CA1))}")
        if condition == CA1 and not DATA_DIR.is_dir():
            print(f"{CA1} left out: no data in {DATA_DIR}; name its folder as SJG_DATA_DIR")
            continue
        for fraction in arguments.fractions:
            # nothing is random on a real section of which no nucleus is hidden
            for seed in arguments.seeds if fraction or condition != CA1 else (0,):
                size_um = None if condition == CA1 else arguments.size_um
                key = {"condition": condition, "missed_fraction": fraction, "seed": seed, "size_um": size_um}
                if arguments.again or not rows.has(**key):
                    scores = score_ca1(fraction, seed) if condition == CA1 else score_search(condition, fraction, seed, arguments.size_um)
                    rows.add({**key, **{name: None if value != value else value for name, value in scores.items()}})
    total = {}
    for row in rows.read():
        sums = total.setdefault((row["condition"], row["missed_fraction"]), np.zeros(4))
        sums += [row["n_cells"], row["n_missed"], row["n_found"], row["n_real"]]
    for (condition, fraction), (n, missed, found, real) in total.items():
        print(f"{condition:24s} missed {fraction:4.0%}: found {found:3.0f} of {missed:3.0f} in {n:.0f} cells, real {real:3.0f}")


if __name__ == "__main__":
    main()
