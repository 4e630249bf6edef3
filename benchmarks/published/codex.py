"""Protein images: a crop of a CODEX tile against two experts' whole-cell masks, by the channels alone.

    SJG_DATA_DIR=... python benchmarks/published/codex.py

The experts disagree with each other, so every method is scored against both, and they against each other.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import tifffile
from skimage.segmentation import expand_labels, relabel_sequential
from spatialdata import SpatialData
from spatialdata.models import Image2DModel

import sjg
from sjg.metrics import f1_at_iou, instance_iou

RESULTS = Path(__file__).parent / "results" / "codex.json"
CROP = np.s_[300:700, 450:850]
PRESETS = {
    "sjg fast": {"preset": "fast"},
    "published, none": {
        "preset": "published",
        "parameters": {"patch_size_px": 128, "batch_size": 4, "channels": [8, 16, 24], "attribution": "none"},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("SJG_DATA_DIR", "")) / "codex_tile")
    arguments = parser.parse_args()
    files = sorted([*arguments.data.glob("*.tif"), *(arguments.data / "channels").glob("*.tif")])
    names = [path.stem for path in files]
    image = np.stack([np.squeeze(tifffile.imread(path))[CROP] for path in files])
    experts = {}
    for path in sorted((arguments.data / "masks").glob("*.tif*")):
        if "expert" in path.stem.lower() or "annotator" in path.stem.lower():
            experts[path.stem] = relabel_sequential(np.squeeze(tifffile.imread(path)).astype(np.int64)[CROP])[0]
    records = []

    def score(method: str, labels: np.ndarray, seconds: float = 0.0) -> None:
        for expert, truth in experts.items():
            values = {f"f1_{t}": float(f1_at_iou(truth, labels, iou=t)) for t in (0.5, 0.75)} | {
                "mean_iou": float(instance_iou(truth, labels))
            }
            records.append(
                {"method": method, "expert": expert, "n_cells": len(np.unique(labels)) - 1, "seconds": round(seconds, 1), **values}
            )
            print(records[-1], flush=True)

    for name, labels in experts.items():
        score(name, labels)
    sdata = SpatialData(images={"codex": Image2DModel.parse(image, dims=("c", "y", "x"), c_coords=names)})
    sjg.pp.segment_nuclei(sdata, "codex", channel="nucleus")
    nuclei = np.asarray(sdata["nuclei"].data)
    score("nuclei", nuclei)
    for distance in (2, 3, 4, 6):
        score(f"nuclei + {distance} px", expand_labels(nuclei, distance))
    for method, options in PRESETS.items():
        start = time.perf_counter()
        sjg.tl.segment(
            sdata, image_key="codex", nuclei_key="nuclei", channel="nucleus", key_added="run", overwrite=True, progress=False, **options
        )
        score(method, np.asarray(sdata["run_cells"].data), time.perf_counter() - start)
        importance = sdata["run_table"].varm["gene_importance"]
        print(importance.rank(ascending=False).astype(int).to_string(), flush=True)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(records, indent=1) + "\n")


if __name__ == "__main__":
    main()
