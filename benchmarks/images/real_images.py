"""Nuclei, whole cells and truth-free quality on real images.

    SJG_DATA_DIR=../shared/data python benchmarks/images/real_images.py [nuclei stack cells quality]

Writes results/real_images.json, part by part.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from skimage.io import imread
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel

import sjg
from sjg.metrics import aggregated_jaccard, f1_at_iou, panoptic_quality

DATA = Path(os.environ.get("SJG_DATA_DIR") or Path(__file__).parents[3] / "shared" / "data")
OUTPUT = Path(__file__).parent / "results" / "real_images.json"
#: pixel size that CellSegmentationEvaluator gives for this tile
CODEX_PIXEL_UM = 0.37745


def scores(truth, labels) -> dict[str, float]:
    return {
        "f1_50": f1_at_iou(truth, labels),
        "f1_75": f1_at_iou(truth, labels, iou=0.75),
        "pq": panoptic_quality(truth, labels),
        "aji": aggregated_jaccard(truth, labels),
        "n_truth": int(len(np.unique(truth)) - 1),
        "n": int(labels.max()),
    }


def segmented(image, model=Image2DModel, **options):
    dims = ("c", "y", "x") if image.ndim == 2 else ("c", "z", "y", "x")
    sdata = SpatialData(images={"image": model.parse(image[None], dims=dims)})
    sjg.pp.segment_nuclei(sdata, **options)
    return np.asarray(sdata["nuclei"])


def nuclei() -> dict:
    folder = DATA / "fluorescence_nuclei"
    files = sorted((folder / "images").glob("*.tif"))
    each = [scores(imread(folder / "masks" / file.name).astype(np.int32), segmented(imread(file))) for file in files]
    section = DATA / "nuclei_2d_3d"
    return {
        "fluorescence_nuclei": {name: float(np.mean([row[name] for row in each])) for name in each[0]} | {"images": len(each)},
        "nuclei_2d": scores(imread(section / "mask2d.tif").astype(np.int32), segmented(imread(section / "img2d.tif"))),
    }


def stack() -> dict:
    section = DATA / "nuclei_2d_3d"
    truth = imread(section / "mask3d.tif").astype(np.int32)
    return {"nuclei_3d": scores(truth, segmented(imread(section / "img3d.tif"), Image3DModel, z_step_px=2.0))}


def codex() -> SpatialData:
    folder = DATA / "codex_tile"
    named = {"nucleus": "nucleus.tif", "membrane": "membrane.tif", "cytoplasm": "cytoplasm.tif"}
    named |= {file.stem: f"channels/{file.name}" for file in sorted((folder / "channels").glob("*.tif"))}
    planes = np.stack([imread(folder / file) for file in named.values()])
    masks = {file.stem.removeprefix("mask_"): imread(file).astype(np.int32) for file in sorted((folder / "masks").glob("*.tif"))}
    return SpatialData(
        images={"codex": Image2DModel.parse(planes, dims=("c", "y", "x"), c_coords=list(named))},
        labels={name: Labels2DModel.parse(mask, dims=("y", "x")) for name, mask in masks.items()},
    )


def segment_codex(sdata) -> dict[str, str]:
    """Our labels by name."""
    options = {"nucleus_channel": "nucleus", "compartment": "both", "progress": False}
    sjg.tl.segment_image(sdata, "codex", membrane_channels=["membrane", "cytoplasm"], key_added="sjg", **options)
    return {"sjg": "sjg_cells", "sjg, nuclei only": "sjg_nuclei"}


def cells() -> dict:
    sdata = codex()
    masks = [name for name in sdata.labels if not name.startswith("expert")]
    start = time.perf_counter()
    ours = segment_codex(sdata)
    seconds = time.perf_counter() - start
    sjg.pp.patches(sdata, "codex", patch_size_px=512, overlap=0.05)
    options = {"nucleus_channel": "nucleus", "membrane_channels": ["membrane", "cytoplasm"], "compartment": "both", "progress": False}
    sjg.tl.segment_image(sdata, "codex", patches_key="patches", key_added="tiled", **options)
    labels = {**{name: name for name in masks}, **ours}
    experts = {key: np.asarray(sdata[key]) for key in ("expert1", "expert2")}
    table = {name: {key: scores(truth, np.asarray(sdata[of])) for key, truth in experts.items()} for name, of in labels.items()}
    same = {
        part: {
            str(iou): f1_at_iou(np.asarray(sdata[f"sjg_{part}"]), np.asarray(sdata[f"tiled_{part}"]), iou=iou) for iou in (0.5, 0.9, 0.99)
        }
        for part in ("nuclei", "cells")
    }
    return {"codex_cells": table, "codex_tiled_equals_untiled": same, "codex_seconds": seconds}


def quality() -> dict:
    sdata = codex()
    names = [name for name in sdata.labels if not name.startswith("expert")]
    segment_codex(sdata)
    channels = [name for name in sdata["codex"].c.values if name.startswith("CH_")]
    table = sjg.tl.segmentation_quality(
        sdata,
        names,
        "codex",
        nuclei_key="sjg_nuclei",
        channels=channels,
        segmented_channels=["nucleus", "membrane", "cytoplasm"],
        pixel_size_um=CODEX_PIXEL_UM,
    )
    f1 = {key: [f1_at_iou(np.asarray(sdata[key]), np.asarray(sdata[name])) for name in names] for key in ("expert1", "expert2")}
    agreement = {}
    for key, values in f1.items():
        agreement[key] = {column: float(spearmanr(table[column], values, nan_policy="omit").statistic) for column in table}
    return {
        "codex_quality": table.T.to_dict(),
        "codex_quality_rank_agreement": agreement,
        "codex_f1": {k: dict(zip(names, v, strict=True)) for k, v in f1.items()},
    }


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"no real data: {DATA} is not a folder; set SJG_DATA_DIR")
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(OUTPUT.read_text()) if OUTPUT.is_file() else {}
    parts = {"stack": stack, "cells": cells, "quality": quality, "nuclei": nuclei}
    for name in sys.argv[1:] or parts:
        results |= parts[name]()
        OUTPUT.write_text(json.dumps(results, indent=1) + "\n")
        print(name, "done", flush=True)


if __name__ == "__main__":
    main()
