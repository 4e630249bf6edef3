"""Score the labels of any tool on the tissues of the benchmark.

    python benchmarks/quality/bring.py export FOLDER --conditions base --seeds 0
    ... run the tool on FOLDER/<condition>_<seed>/ ...
    python benchmarks/quality/bring.py score FOLDER --name proseg

``export`` writes for each tissue ``dapi.tif``, ``nuclei.tif`` (labels), ``transcripts.csv`` (x and y in pixels, gene, nucleus), ``reference.csv`` (genes x
types) and ``tissue.json``. ``score`` reads ``labels.tif`` or ``labels.npy`` and, where a tool assigns transcripts itself, ``cells.csv`` with a column ``cell`` (0 = none) in
the order of ``transcripts.csv``; ids are free, cells are matched with the truth one to one. Rows go beside the others, to results/simulated.json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from conditions import CONDITIONS, Case, make_case
from methods import Result
from scores import RESULTS, Rows, score
from skimage.io import imread, imsave

from sjg.metrics import matched_instances

KEY = ("condition", "method", "seed", "size_um")


def export(folder: Path, condition: str, seed: int, size_um: float) -> None:
    case = make_case(condition, seed, size_um=size_um)
    target = folder / f"{condition}_{seed}".replace(" ", "_").replace("%", "percent").replace(",", "")
    target.mkdir(parents=True, exist_ok=True)
    imsave(target / "dapi.tif", np.asarray(case.sdata["dapi"])[0], check_contrast=False)
    imsave(target / "nuclei.tif", case.nuclei.astype(np.int32), check_contrast=False)
    pd.DataFrame(
        {
            "x": case.yx_px[:, 1],
            "y": case.yx_px[:, 0],
            "gene": np.array(case.gene_names)[case.gene],
            "nucleus": case.nuclei[case.pixel],
        }
    ).to_csv(target / "transcripts.csv", index=False)
    pd.DataFrame(case.profiles.T, case.gene_names, case.reference_types).to_csv(target / "reference.csv")
    about = {"condition": condition, "seed": seed, "size_um": size_um, "pixel_size_um": case.pixel_size_um}
    (target / "tissue.json").write_text(json.dumps(about) + "\n")


def read(folder: Path, case: Case) -> Result:
    """What a tool has left, with the ids of the true cells that its cells match."""
    file = folder / "labels.npy"
    labels = np.load(file) if file.exists() else imread(folder / "labels.tif")
    cells = folder / "cells.csv"
    cell = pd.read_csv(cells)["cell"].to_numpy(np.int64) if cells.exists() else labels[case.pixel].astype(np.int64)
    pairs = matched_instances(case.truth, labels, iou=0)
    # an id above all true ones for cells that match none
    rename = int(case.truth.max()) + 1 + np.arange(max(int(labels.max()), int(cell.max())) + 1)
    rename[0] = 0
    rename[pairs.label_id] = pairs.truth_id
    return Result(rename[labels], rename[cell])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=["export", "score"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", default="brought", help="name of the method in the tables")
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS), choices=list(CONDITIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--size-um", type=float, default=128)
    arguments = parser.parse_args()
    if arguments.action == "export":
        for condition in arguments.conditions:
            for seed in arguments.seeds:
                export(arguments.folder, condition, seed, arguments.size_um)
        return
    rows = Rows(RESULTS / "simulated.json", KEY)
    for file in sorted(arguments.folder.glob("*/tissue.json")):
        about = json.loads(file.read_text())
        if not any((file.parent / name).exists() for name in ("labels.npy", "labels.tif")):
            print(f"{file.parent.name}: no labels.tif or labels.npy")
            continue
        case = make_case(about["condition"], about["seed"], size_um=about["size_um"])
        scores = score(case, read(file.parent, case))
        key = {name: about[name] for name in ("condition", "seed", "size_um")}
        rows.add({**key, "method": arguments.name, **scores})
        print(f"{file.parent.name}: transcripts right {scores['transcripts_right']:.3f}, mean IoU {scores['mean_iou']:.3f}")


if __name__ == "__main__":
    main()
