"""sjg's presets beside nuclei and their best expansion on simulated tissue with known cells.

    python benchmarks/quality/compare.py --transcripts 120 40 12 --seeds 0 1 2 --presets fast default

Writes a JSON file of every run and prints the means as a table. Expansion gets the distance that is best for each metric, chosen with
the truth: a user could not do better.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
from skimage.segmentation import expand_labels

import sjg
from sjg.metrics import f1_at_iou, instance_iou

DISTANCES_PX = range(4, 31, 2)
METRICS = ("transcripts_right", "mean_iou", "f1_75")


def score(truth, labels, true_cell, cell) -> dict[str, float]:
    return {
        "transcripts_right": float((cell == true_cell).mean()),
        "mean_iou": float(instance_iou(truth, labels, matching="id")),
        "f1_75": float(f1_at_iou(truth, labels, iou=0.75)),
    }


def baselines(truth, nuclei, true_cell, pixel) -> dict[str, dict[str, float]]:
    def of(labels):
        return score(truth, labels, true_cell, labels[pixel[:, 0], pixel[:, 1]])

    grown = [of(expand_labels(nuclei, d)) for d in DISTANCES_PX]
    return {"nuclei": of(nuclei), "expansion": {m: max(g[m] for g in grown) for m in METRICS}}


def run(sdata, preset: str, reference: str | None) -> tuple[np.ndarray, np.ndarray, float]:
    start = time.perf_counter()
    key = f"{preset}_{'ref' if reference else 'noref'}"
    sjg.tl.segment(sdata, "dapi", nuclei_key="nuclei", reference=reference, preset=preset, key_added=key, progress=False)
    seconds = time.perf_counter() - start
    labels = np.asarray(sdata[f"{key}_cells"].data)
    table = sdata[f"{key}_table"]
    # Back to the ids of the nuclei, which are those of the true cells.
    old = np.concatenate([[0], table.obs["nucleus_id"].to_numpy()])
    cell = sdata["transcripts"][f"{key}_cell_id"].compute().to_numpy()
    return old[labels], old[cell], seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--transcripts", type=int, nargs="+", default=[120, 40, 12])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--presets", nargs="+", default=["fast", "default"])
    parser.add_argument("--without-reference", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "compare.json")
    arguments = parser.parse_args()
    records = []
    for transcripts in arguments.transcripts:
        for seed in arguments.seeds:
            sdata = sjg.datasets.simulated_tissue(transcripts_per_cell=transcripts, random_state=seed)
            truth, nuclei = np.asarray(sdata["cells"].data), np.asarray(sdata["nuclei"].data)
            points = sdata["transcripts"].compute()
            true_cell = points["true_cell"].to_numpy()
            pixel = np.clip(np.floor(points[["y", "x"]].to_numpy() / 0.5).astype(int), 0, np.array(truth.shape) - 1)
            found = baselines(truth, nuclei, true_cell, pixel)
            for preset in arguments.presets:
                for reference in ["reference", None] if arguments.without_reference else ["reference"]:
                    labels, cell, seconds = run(sdata, preset, reference)
                    name = f"sjg {preset}" + ("" if reference else ", no reference")
                    found[name] = {**score(truth, labels, true_cell, cell), "seconds": seconds}
            records += [{"method": m, "transcripts": transcripts, "seed": seed, **values} for m, values in found.items()]
            arguments.output.parent.mkdir(parents=True, exist_ok=True)
            arguments.output.write_text(json.dumps(records, indent=1) + "\n")
    print("| transcripts per cell | method | transcripts right | mean IoU | F1 at IoU 0.75 | s |\n|---|---|---|---|---|---|")
    for transcripts in arguments.transcripts:
        for method in dict.fromkeys(r["method"] for r in records):
            rows = [r for r in records if r["method"] == method and r["transcripts"] == transcripts]
            cells = [f"{np.mean([r[m] for r in rows]):.3f} ± {np.std([r[m] for r in rows]):.3f}" for m in METRICS]
            seconds = f"{np.mean([r['seconds'] for r in rows]):.0f}" if "seconds" in rows[0] else ""
            print(f"| {transcripts} | {method} | {' | '.join(cells)} | {seconds} |")


if __name__ == "__main__":
    main()
