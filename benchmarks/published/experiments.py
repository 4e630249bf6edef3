"""The experiments of the paper, in small: the published method beside sjg's own presets.

    python benchmarks/published/experiments.py                       # everything that is not in results/runs.json yet
    python benchmarks/published/experiments.py --only attribution    # one experiment
    python benchmarks/published/report.py                            # table and figure of what is there

Simulated tissue has known cells; of mouse CA1 (real, needs ``SJG_DATA_DIR``) only what needs no truth can be said. Each run appends one record
to the results, so an interrupted benchmark goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from skimage.segmentation import expand_labels
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel
from spatialdata.transformations import Identity, get_transformation

import sjg
from sjg.metrics import cell_calling_score, f1_at_iou, instance_iou, transcript_jaccard

RESULTS = Path(__file__).parent / "results" / "runs.json"
RINGS_PX = (3, 5, 7)
PIXEL_UM = 0.5
#: the schedule of the paper (200 epochs, attribution from epoch 20) on a network and patches that two cores can train
SMALL = {"patch_size_px": 64, "batch_size": 4, "channels": [8, 16, 24], "n_probes": 2, "n_importance_patches": 2}
GATES = {
    "CID": {"attribution": "closed_form"},
    # the argument that the authors' README gives: 2 types x 2 genes, 20 steps
    "CID by descent, 2x2": {
        "attribution": "optimize",
        "attribution_types": 2,
        "attribution_genes": 2,
        "attribution_interval": 60,
        "attribution_draws": 1,
    },
    # the gate of the second code base, and a gate that waits until the network is trained: 20 epochs are few steps on tissue this small
    "CID, top 10 %": {"attribution": "closed_form", "attribution_gate": "top_fraction"},
    "CID from epoch 100": {"attribution": "closed_form", "attribution_epoch": 100},
    "gradient": {"attribution": "gradient"},
    "none": {"attribution": "none"},
}
CA1_SIDE_PX = 600
CA1_PIXEL_UM = 0.325


@dataclass(frozen=True)
class Job:
    """One run."""

    experiment: str
    data: str
    method: str
    seed: int
    gene_fraction: float = 1.0
    resolution_um: float = PIXEL_UM
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.data} | {self.method} | genes {self.gene_fraction:g} | {self.resolution_um:g} um | seed {self.seed}"


def published(gate: str) -> dict[str, Any]:
    return {"preset": "published", "parameters": {**SMALL, **GATES[gate]}}


def jobs(seeds: list[int], own: list[str]) -> list[Job]:
    """All runs, the most telling first."""
    found = []
    for seed in seeds:
        found += [Job("attribution", "simulated", f"published, {gate}", seed, options=published(gate)) for gate in GATES]
        found += [Job("presets", "simulated", f"sjg {preset}", seed, options={"preset": preset}) for preset in own]
        for experiment, fraction, resolution in (("genes", 0.5, PIXEL_UM), ("genes", 0.25, PIXEL_UM), ("resolution", 1.0, 2 * PIXEL_UM)):
            methods = {f"published, {gate}": published(gate) for gate in ("CID", "none")} | {f"sjg {own[0]}": {"preset": own[0]}}
            found += [Job(experiment, "simulated", method, seed, fraction, resolution, options) for method, options in methods.items()]
    for method, options in {
        "published, CID": published("CID"),
        "published, none": published("none"),
        f"sjg {own[0]}": {"preset": own[0]},
    }.items():
        if method.startswith("published"):
            # of 71 types the most abundant ones, as the paper's attr_grid does
            options = {**options, "parameters": {**options["parameters"], "attribution_types": 8}}
        found.append(Job("ca1", "CA1", method, 0, resolution_um=2 * CA1_PIXEL_UM, options=options))
    return found


def simulated(seed: int, gene_fraction: float, size_um: float) -> SpatialData:
    sdata = sjg.datasets.simulated_tissue(size_um=(size_um, size_um), random_state=seed)
    if gene_fraction < 1:
        names = np.asarray(sdata["reference"].var_names)
        kept = np.random.default_rng(seed).permutation(names)[: round(gene_fraction * len(names))]
        points = sdata["transcripts"].compute()
        points = points[points["gene"].isin(kept)].reset_index(drop=True)
        points["gene"] = points["gene"].cat.remove_unused_categories()
        sdata["transcripts"] = PointsModel.parse(
            points,
            coordinates={"x": "x", "y": "y"},
            feature_key="gene",
            transformations=get_transformation(sdata["transcripts"], get_all=True),
        )
    return sdata


def ca1_crop() -> SpatialData:
    """The window of CA1 with most nuclei."""
    sdata = sjg.datasets.mouse_ca1()
    nuclei = np.asarray(sdata["nuclei"].data)
    side = CA1_SIDE_PX
    blocks = [(y, x) for y in range(0, nuclei.shape[0] - side, side // 2) for x in range(0, nuclei.shape[1] - side, side // 2)]
    y, x = max(blocks, key=lambda corner: len(np.unique(nuclei[corner[0] : corner[0] + side, corner[1] : corner[1] + side])))
    points = sdata["transcripts"].compute()
    inside = points["x"].between(x, x + side, inclusive="left") & points["y"].between(y, y + side, inclusive="left")
    points = points[inside].reset_index(drop=True)
    points = pd.DataFrame({"x": points["x"] - x, "y": points["y"] - y, "gene": points["gene"].astype(str)})
    window = np.s_[y : y + side, x : x + side]
    return SpatialData(
        images={"dapi": Image2DModel.parse(np.asarray(sdata["dapi"].data)[(slice(None), *window)], dims=("c", "y", "x"))},
        labels={"nuclei": Labels2DModel.parse(nuclei[window], dims=("y", "x"))},
        points={"transcripts": PointsModel.parse(points, feature_key="gene", transformations={"global": Identity()})},
        tables={"reference": sdata["reference"]},
    )


def class_iou(truth: np.ndarray, found: np.ndarray, types: list[str]) -> float:
    """Mean over the types of the IoU of their pixels; maps hold -1 for background, else the index of the type."""
    scores = [
        ((truth == k) & (found == k)).sum() / max(((truth == k) | (found == k)).sum(), 1) for k in range(len(types)) if (truth == k).any()
    ]
    return float(np.mean(scores))


def truth_scores(sdata: SpatialData, labels: np.ndarray, types_of: dict[int, str], cell: np.ndarray) -> dict[str, float]:
    """Of labels in the pixels of the truth with the ids of the nuclei, which are those of the true cells."""
    truth = np.asarray(sdata["cells"].data)
    true_types = sdata["truth"].obs.set_index("cell_id")["cell_type"].astype(str)
    names = sorted(set(true_types))
    code = {name: index for index, name in enumerate(names)}

    def type_map(ids: np.ndarray, of: dict[int, str]) -> np.ndarray:
        lookup = np.full(int(max(ids.max(), truth.max())) + 1, -1)
        for i, name in of.items():
            lookup[i] = code.get(name, -1)
        lookup[0] = -1
        return lookup[ids]

    true_cell = sdata["transcripts"]["true_cell"].compute().to_numpy()
    points = sdata["transcripts"][["y", "x"]].compute().to_numpy() / PIXEL_UM
    calling = cell_calling_score(labels, points, distance_px=RINGS_PX)
    return {
        "class_iou": class_iou(type_map(truth, true_types.to_dict()), type_map(labels, types_of), names),
        "gene_iou": float(transcript_jaccard(true_cell, cell)),
        "mean_iou": float(instance_iou(truth, labels, matching="id")),
        "f1_75": float(f1_at_iou(truth, labels, iou=0.75)),
        "transcripts_right": float((cell == true_cell).mean()),
        "covered": float((labels > 0).mean()),
        **{f"calling_{d}": float(score) for d, score in zip(RINGS_PX, calling, strict=True)},
    }


def run(job: Job, size_um: float) -> dict[str, Any]:
    sdata = simulated(job.seed, job.gene_fraction, size_um) if job.data == "simulated" else ca1_crop()
    # the machine may be shared
    started = time.process_time()
    extra = {} if job.data == "simulated" else {"pixel_size_um": CA1_PIXEL_UM}
    sjg.tl.segment(
        sdata,
        nuclei_key="nuclei",
        reference="reference",
        resolution_um=job.resolution_um,
        random_state=job.seed,
        progress=False,
        **extra,
        **job.options,
    )
    seconds = time.process_time() - started
    table = sdata["sjg_table"]
    scores: dict[str, float] = {}
    if job.data == "simulated":
        # back to the ids of the nuclei and the pixels of the truth
        old = np.concatenate([[0], table.obs["nucleus_id"].to_numpy()])
        zoom = round(job.resolution_um / PIXEL_UM)
        shape = sdata["cells"].shape
        labels = old[np.asarray(sdata["sjg_cells"].data)].repeat(zoom, 0).repeat(zoom, 1)[: shape[0], : shape[1]]
        cell = old[sdata["transcripts"]["sjg_cell_id"].compute().to_numpy()]
        types_of = dict(zip(table.obs["nucleus_id"], table.obs["cell_type"].astype(str), strict=True))
        scores = truth_scores(sdata, labels, types_of, cell)
    else:
        found = sjg.tl.evaluate(sdata, "sjg_cells", reference="reference").set_index("metric")["value"]
        for suffix in ("", "_posterior"):
            for name in ("negative_marker_purity", "fraction_assigned"):
                if name + suffix in found:
                    scores[name + suffix] = float(found[name + suffix])
        scores |= {f"calling_{d}": float(found[f"cell_calling_score_{d}px"]) for d in RINGS_PX}
        scores["covered"] = float((np.asarray(sdata["sjg_cells"].data) > 0).mean())
    history = table.uns["sjg"]["history"]
    curve = {name: np.asarray(history[name]).tolist() for name in ("loss", "fraction_assigned") if name in history}
    return {"name": job.name, "experiment": job.experiment, "data": job.data, "method": job.method, "seed": job.seed,
            "gene_fraction": job.gene_fraction, "resolution_um": job.resolution_um, "size_um": size_um, "seconds": round(seconds, 1),
            "n_cells": int(table.n_obs), "scores": scores, "curve": curve}  # fmt: skip


def baselines(seed: int, gene_fraction: float, size_um: float) -> list[dict[str, Any]]:
    """Nuclei, and nuclei expanded by the distance that is best for the mean IoU, chosen with the truth; types by the reference."""
    sdata = simulated(seed, gene_fraction, size_um)
    sjg.pp.annotate_nuclei(sdata, reference="reference")
    table = sdata["nuclei_table"].obs
    types_of = dict(zip(table["cell_id"], table["cell_type"].astype(str), strict=True))
    nuclei = np.asarray(sdata["nuclei"].data)
    pixel = (sdata["transcripts"][["y", "x"]].compute().to_numpy() / PIXEL_UM).astype(int).clip(0, np.array(nuclei.shape) - 1)
    expanded = [expand_labels(nuclei, d) for d in range(2, 31, 2)]
    truth = np.asarray(sdata["cells"].data)
    best = max(expanded, key=lambda labels: instance_iou(truth, labels, matching="id"))
    records = []
    for method, labels in (("nuclei", nuclei), ("nuclei, best expansion", best)):
        scores = truth_scores(sdata, labels, types_of, labels[pixel[:, 0], pixel[:, 1]])
        job = Job("baseline", "simulated", method, seed, gene_fraction)
        records.append({"name": job.name, "experiment": "baseline", "data": "simulated", "method": method, "seed": seed,
                        "gene_fraction": gene_fraction, "resolution_um": PIXEL_UM, "size_um": size_um, "seconds": 0.0,
                        "n_cells": int(nuclei.max()), "scores": scores, "curve": {}})  # fmt: skip
    return records


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--size-um", type=float, default=96.0, help="side of the simulated tissue")
    parser.add_argument("--presets", nargs="+", default=["fast", "default"], help="of sjg; the first one runs in every experiment")
    parser.add_argument("--only", nargs="+", help="experiments: baseline, attribution, presets, genes, resolution, ca1")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="only every Nth run, from the Ith")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    records = json.loads(arguments.results.read_text()) if arguments.results.exists() else []
    wanted = [job for job in jobs(arguments.seeds, arguments.presets) if not arguments.only or job.experiment in arguments.only]
    wanted = wanted[arguments.part[0] :: arguments.part[1]]

    def save(new: list[dict[str, Any]]) -> None:
        # another process may have written meanwhile
        now = json.loads(arguments.results.read_text()) if arguments.results.exists() else []
        names = {record["name"] for record in new}
        now = [record for record in now if record["name"] not in names] + new
        arguments.results.parent.mkdir(parents=True, exist_ok=True)
        arguments.results.write_text(json.dumps(now, indent=1) + "\n")

    done = {record["name"] for record in records}
    if arguments.part[0] == 0 and (not arguments.only or "baseline" in arguments.only):
        for seed in arguments.seeds:
            for fraction in (1.0, 0.5, 0.25):
                if Job("baseline", "simulated", "nuclei", seed, fraction).name not in done:
                    save(baselines(seed, fraction, arguments.size_um))
    for job in wanted:
        if job.name in done:
            continue
        record = run(job, arguments.size_um)
        save([record])
        print(job.name, record["seconds"], json.dumps(record["scores"]), flush=True)


if __name__ == "__main__":
    main()
