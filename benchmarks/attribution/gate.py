"""What the attribution gate brings to the label updates. Run: ``python benchmarks/attribution/gate.py [--seeds 0 1] [--only ...]``.

Simulated tissue of 128 um with known cells. Loop ``held-out``: the network competes for pixels, trained on held-out molecules and on its confident labels
(``use_claims=False``). Loop ``claims``: cells compete by claims, and the network learns types from their confident labels; segmentation cannot
change, so the network's type map is scored. Beside the gates stand two bounds: ``oracle`` lets a label pass only where the type of
the pixel is truly the label's (no gate can know more), ``no labels`` gives no confident pixel a label at all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from report import HERE, write

from sjg import access
from sjg.core import CellTypes, Molecules
from sjg.datasets import simulated_tissue
from sjg.metrics import f1_at_iou, instance_iou
from sjg.pp._typing import type_nuclei
from sjg.tl._inputs import Request, read_inputs
from sjg.training import PRESETS, Tissue, load_model, make_fabric, segment_tissue
from sjg.training._gate import AttributionGate
from sjg.training._importance import patch_inputs
from sjg.training._windows import Window

COMMON = PRESETS["fast"].replace(n_importance_patches=1, n_probes=1)
LOOPS = {
    "held-out": COMMON.replace(use_claims=False, patch_size_px=96, n_rounds=3, tile_size_px=256, pseudo_weight=0.1, reach_radii=4.0),
    "claims": COMMON.replace(n_rounds=2, steps_per_round=40),
}
#: by name: the gate and what else is changed
GATES: dict[str, tuple[str, dict[str, float]]] = {
    "none": ("none", {}),
    "dominant": ("dominant", {}),
    "contrast": ("contrast", {}),
    "top_fraction": ("top_fraction", {}),
    "evidence": ("evidence", {}),
    "oracle": ("oracle", {}),
    "no labels": ("no labels", {}),
    "none, confidence 0.5": ("none", {"pseudo_confidence": 0.5}),
    "contrast, confidence 0.5": ("contrast", {"pseudo_confidence": 0.5}),
    "oracle, confidence 0.5": ("oracle", {"pseudo_confidence": 0.5}),
}
#: transcripts per cell, share of wrong initial types, share of genes whose labels are shuffled among each other
CONDITIONS = {"120 transcripts": (120, 0.0, 0.0), "40 transcripts": (40, 0.0, 0.0), "40, wrong types, noisy genes": (40, 0.3, 0.5)}


@dataclass(frozen=True)
class Case:
    """A tissue in arrays with its truth; ids of cells are those of the nuclei."""

    molecules: Molecules
    nuclei: np.ndarray
    types: CellTypes
    cells: np.ndarray
    true_cell: np.ndarray
    true_type: np.ndarray
    type_map: np.ndarray  # 0 = background, k + 1 = type k


def make_case(seed: int, transcripts: int, wrong: float, noisy: float, *, size_um: float = 128.0) -> Case:
    """`wrong` of the nuclei start with another type; the genes of `noisy` lose their meaning: their names are shuffled among their transcripts."""
    sdata = simulated_tissue(size_um=(size_um, size_um), transcripts_per_cell=transcripts, random_state=seed)
    request = Request("dapi", "transcripts", "nuclei", None, "reference", None, None, "global", None, None, None, None, 0)
    inputs = read_inputs(sdata, request)
    rng = np.random.default_rng(100 + seed)
    gene = inputs.molecules.gene.copy()
    n_genes, n = len(inputs.molecules.gene_names), int(inputs.nuclei.max())
    affected = np.isin(gene, rng.permutation(n_genes)[: round(noisy * n_genes)])
    gene[affected] = rng.permutation(gene[affected])
    truth, points = sdata["truth"].obs, sdata["transcripts"].compute()
    source = np.asarray(inputs.source_ids, int)
    new_id = np.zeros(int(max(source.max(), np.asarray(sdata["cells"].data).max())) + 1, int)
    new_id[source] = np.arange(1, n + 1)
    cells = new_id[np.asarray(sdata["cells"].data)]
    true_type = np.full(n, -1)
    for cell, kind in zip(truth["cell_id"].astype(int), truth["cell_type"].astype(str), strict=True):
        if new_id[cell] > 0:
            true_type[new_id[cell] - 1] = inputs.types.names.index(kind)
    pixel = np.floor(inputs.molecules.yx_px).astype(int)
    nucleus = inputs.nuclei[pixel[:, 0], pixel[:, 1]]
    counts = access.count_matrix(nucleus[nucleus > 0], gene[nucleus > 0], (n, n_genes))
    posterior = type_nuclei(counts, inputs.types.profiles)
    initial, confidence = posterior.argmax(1).astype(np.int32), posterior.max(1).astype(np.float32)
    if wrong:
        swapped = rng.random(n) < wrong
        initial = np.where(swapped, (true_type + rng.integers(1, len(inputs.types.names), n)) % len(inputs.types.names), true_type)
        initial, confidence = initial.astype(np.int32), np.full(n, 0.9, np.float32)
    types = CellTypes(inputs.types.names, initial, confidence, inputs.types.profiles)
    molecules = Molecules(inputs.molecules.yx_px, gene, inputs.molecules.gene_names)
    type_map = np.concatenate([[0], true_type + 1])[cells]
    return Case(molecules, inputs.nuclei, types, cells, new_id[points["true_cell"].to_numpy()], true_type, type_map)


def run(case: Case, loop: str, gate: str, changes: dict[str, float], random_state: int) -> dict[str, float]:
    """One run and its scores; also the labels outside nuclei that the gate saw, and what it cost."""
    seen: dict[str, float] = defaultdict(float)
    judge, refresh = AttributionGate.passes, AttributionGate.refresh

    def passes(self: AttributionGate, pixel: np.ndarray, types: np.ndarray) -> np.ndarray:
        right = types + 1 == case.type_map[pixel[:, 0], pixel[:, 1]]
        passed = right if gate == "oracle" else np.zeros(len(types), bool) if gate == "no labels" else judge(self, pixel, types)
        if gate in ("oracle", "no labels") or self._verdicts or gate == "none":
            seen["labels"] += len(types)
            seen["right"] += right.sum()
            seen["passed"] += passed.sum()
            seen["passed and right"] += (passed & right).sum()
        return passed

    def timed(self: AttributionGate, *arguments: object, **named: object) -> None:
        start = time.process_time()
        refresh(self, *arguments, **named)  # type: ignore[arg-type]
        seen["gate s"] += time.process_time() - start

    AttributionGate.passes, AttributionGate.refresh = passes, timed  # type: ignore[method-assign, assignment]
    clock: dict[str, float] = {}

    def watch(record: dict[str, object]) -> None:
        if record["phase"] == "training":
            clock["end"] = time.process_time()

    parameters = LOOPS[loop].replace(**changes, **({} if gate in ("oracle", "no labels") else {"attribution_gate": gate}))
    start = time.process_time()
    try:
        found = segment_tissue(
            case.molecules, case.nuclei, case.types, parameters, fabric=make_fabric("cpu"), random_state=random_state, on_progress=watch
        )
    finally:
        AttributionGate.passes, AttributionGate.refresh = judge, refresh  # type: ignore[method-assign]
    return {
        "pixel types right, network": type_map_accuracy(found.network, case),
        "transcripts right": float((found.molecule_cell == case.true_cell).mean()),
        "mean IoU": float(instance_iou(case.cells, found.labels, matching="id")),
        "F1 at 0.75": float(f1_at_iou(case.cells, found.labels, iou=0.75)),
        "types right": float((found.cell_type == case.true_type).mean()),
        "labels of the right type": seen["right"] / max(seen["labels"], 1),
        "the same after the gate": seen["passed and right"] / seen["passed"] if seen["passed"] else float("nan"),
        "labels passed": seen["passed"] / max(seen["labels"], 1),
        "gate, share of training time": seen["gate s"] / (clock["end"] - start),
    }


def type_map_accuracy(stored: dict[str, Any], case: Case) -> float:
    """Share of the pixels of cells, outside nuclei, to which the network gives their true type (background left out)."""
    model, state, parameters = load_model(stored)
    tissue = Tissue(case.molecules, case.nuclei, parameters)
    maps, _, head, _, _ = patch_inputs(model, tissue, state, Window(0, 0, *case.nuclei.shape))
    with torch.no_grad():
        guess = head(maps)[0, 1:].argmax(0).numpy() + 1
    asked = (case.type_map > 0) & (case.nuclei == 0)
    return float((guess == case.type_map)[asked].mean())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--loop", default="held-out", choices=list(LOOPS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--gates", nargs="+", default=list(GATES), choices=list(GATES))
    parser.add_argument("--only", nargs="+", default=list(CONDITIONS), choices=list(CONDITIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "results" / "gate_runs.json"
    runs = json.loads(path.read_text()) if path.exists() else []
    done = {(r["loop"], r["condition"], r["seed"], r["gate"]) for r in runs}
    for seed in arguments.seeds:
        for condition in arguments.only:
            case = make_case(seed, *CONDITIONS[condition])
            for gate in arguments.gates:
                if (arguments.loop, condition, seed, gate) in done:
                    continue
                scores = {k: round(float(v), 4) for k, v in run(case, arguments.loop, *GATES[gate], seed).items()}
                runs.append({"loop": arguments.loop, "condition": condition, "seed": seed, "gate": gate, **scores})
                print(runs[-1], flush=True)
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(runs, indent=1) + "\n")
    summary: dict[str, dict[str, dict[str, float]]] = {}
    for loop, condition, gate in product(LOOPS, CONDITIONS, GATES):
        rows = [r for r in runs if (r["loop"], r["condition"], r["gate"]) == (loop, condition, gate)]
        if rows:
            names = [k for k in rows[0] if k not in ("loop", "condition", "seed", "gate")]
            means = {k: round(float(np.mean([r[k] for r in rows])), 3) for k in names}
            summary.setdefault(f"{loop}: {condition}", {})[gate] = {"tissues": len(rows), **means}
    write("gate", summary)


if __name__ == "__main__":
    main()
