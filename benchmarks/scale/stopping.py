"""What early stopping saves and what it costs: every run with all its steps and with the rule.

    SJG_DATA_DIR=... python benchmarks/scale/stopping.py first:0 second:0 ca1 --preset default

``first``: 128 x 128 um of ``sjg.datasets.simulated_tissue``, with planted markers; ``second``: 160 x 160 um of the other simulator of
``benchmarks/quality``; ``ca1``: the part of the hippocampus section used there, without truth; ``large``: 384 x 384 um and 20 types. What a second seed does
to the importance is the measure of what a difference means. Rows go to results/stopping.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from scipy.stats import spearmanr
from spatialdata import SpatialData

import sjg
from sjg.metrics import instance_iou, transcript_assignment
from sjg.training import PRESETS, make_fabric, segment_tissue

HERE = Path(__file__).parent
sys.path += [str(HERE.parent / "attribution"), str(HERE.parent / "quality")]
from importance import auroc  # noqa: E402
from other_tissue import OtherTissue, other_tissue  # noqa: E402
from real import ca1  # noqa: E402
from runs import read  # noqa: E402
from scores import Rows  # noqa: E402

#: types with fewer cells have no ranks worth comparing
MIN_CELLS = {"ca1": 4}
#: every step of every round
ALL_STEPS = {"settled_loss": 0.0, "settled_cells": 0.0}


def tissue(kind: str, seed: int) -> SpatialData:
    """One of the tissues by name."""
    if kind == "first":
        return sjg.datasets.simulated_tissue(size_um=(128, 128), random_state=seed)
    if kind == "large":
        return sjg.datasets.simulated_tissue(size_um=(384, 384), n_types=20, random_state=seed)
    if kind == "second":
        return other_tissue(OtherTissue(shape=(320, 320), n_cells=195), seed=seed)
    return ca1(Path(os.environ["SJG_DATA_DIR"]))[0]


def run(sdata: SpatialData, preset: str, changes: dict[str, float], random_state: int) -> tuple[dict[str, object], np.ndarray, np.ndarray]:
    """A whole run: its row, its gene importance and the number of cells by type."""
    arrays = read(sdata)
    marks: dict[str, float] = {}
    start = time.process_time()
    found = segment_tissue(
        arrays.molecules,
        arrays.nuclei,
        arrays.types(),
        PRESETS[preset].replace(**changes),
        fabric=make_fabric("cpu"),
        random_state=random_state,
        on_progress=lambda record: marks.__setitem__(record["phase"], time.process_time() - start),
    )
    row: dict[str, object] = {
        "steps_by_round": [int(n) for n in np.diff([0] + [record["step"] for record in found.history])],
        "changed_types": [round(record["changed_types"], 4) for record in found.history],
        "training_cpu_s": round(marks["training"]),
        "whole_cpu_s": round(time.process_time() - start),
    }
    if "cells" in sdata.labels:
        true_cell = sdata["transcripts"].compute()["true_cell"].to_numpy()
        truth = sdata["truth"].obs
        codes = {name: i for i, name in enumerate(arrays.names)}
        of_nucleus = dict(zip(truth["cell_id"], truth["cell_type"].map(codes), strict=True))
        y, x = np.nonzero(np.asarray(sdata["nuclei"]))
        row["transcripts_right"] = transcript_assignment(true_cell, found.molecule_cell).accuracy
        row["mean_iou"] = float(instance_iou(np.asarray(sdata["cells"]), found.labels))
        # the working grid has the pixels of the labels
        pairs = {int(found.labels[a, b]): of_nucleus[int(c)] for a, b, c in zip(y, x, np.asarray(sdata["nuclei"])[y, x], strict=True)}
        row["types_right"] = float(np.mean([found.cell_type[cell - 1] == code for cell, code in pairs.items()]))
    cells = np.bincount(found.cell_type, minlength=len(arrays.names))
    reference = sdata["reference"]
    if "marker_of" in getattr(reference, "var", {}):
        marker = reference.var["marker_of"].astype(str).reindex(list(arrays.molecules.gene_names)).to_numpy()
        types = [t for t in np.flatnonzero(cells >= 10) if (marker == arrays.names[t]).any()]
        columns = [(found.gene_importance[:, t], marker == arrays.names[t]) for t in types]
        row["auroc_of_markers"] = float(np.mean([auroc(score, is_marker) for score, is_marker in columns]))
        row["markers_first"] = float(np.mean([m[np.argsort(-score)[: m.sum()]].mean() for score, m in columns]))
    return row, found.gene_importance, cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tissues", nargs="+", help="first, second, large or ca1, with :seed")
    parser.add_argument("--preset", default="default")
    a = parser.parse_args()
    torch.set_num_threads(1)
    rows = Rows(HERE / "results" / "stopping.json", ("tissue", "preset", "steps"))
    for name in a.tissues:
        kind, _, seed = name.partition(":")
        sdata = tissue(kind, int(seed or 0))
        whole, ranks, cells = run(sdata, a.preset, ALL_STEPS, 0)
        types = np.flatnonzero(cells >= MIN_CELLS.get(kind, 10))
        for label, changes, random_state in (("by the rule", {}, 0), ("all, second seed", ALL_STEPS, 1)):
            row, importance, _ = run(sdata, a.preset, changes, random_state)
            agreement = [float(spearmanr(importance[:, t], ranks[:, t])[0]) for t in types]
            row |= {"ranks_as_with_all": float(np.mean(agreement)), "worst_type": min(agreement)}
            rows.add({"tissue": name, "preset": a.preset, "steps": label, **row})
            print(name, label, row, flush=True)
        rows.add({"tissue": name, "preset": a.preset, "steps": "all", **whole})
        print(name, "all", whole, flush=True)


if __name__ == "__main__":
    main()
