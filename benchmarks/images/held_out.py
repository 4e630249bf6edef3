"""How much the figures on fluorescence_nuclei owe to settings chosen on those images.

    SJG_DATA_DIR=../shared/data python benchmarks/images/held_out.py

Scores every image with the defaults and with random settings of the watershed around wide ranges; then, over many random halves, the settings
that are best on one half are scored on the other. Writes results/held_out.json.
"""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
from real_images import DATA, OUTPUT
from skimage.io import imread

from sjg.imaging import WatershedParameters, watershed_nuclei
from sjg.metrics import f1_at_iou

N_SETTINGS = 16
N_SPLITS = 200
#: ranges from which settings are drawn, all about a factor of two wide; the defaults lie inside
RANGES = {
    "global_fraction": (0.55, 1.05),
    "local_fraction": (0.4, 0.8),
    "own_fraction": (0.4, 0.7),
    "local_spread": (0.0, 0.5),
    "plain_roundness": (0.0, 0.05),
    "roundness_weight": (2.5, 10.0),
    "crowded_from": (0.2, 0.5),
    "seed_depth": (0.05, 0.2),
    "brightness_weight": (0.5, 1.5),
    "smoothing": (1 / 20, 1 / 8),
    "opening": (0.03, 0.12),
    "min_area": (0.06, 0.24),
}


def main() -> None:
    folder = DATA / "fluorescence_nuclei"
    files = sorted((folder / "images").glob("*.tif"))
    pairs = [(imread(file), imread(folder / "masks" / file.name).astype(np.int32)) for file in files]
    rng = np.random.default_rng(0)
    drawn = [{name: float(rng.uniform(*bounds)) for name, bounds in RANGES.items()} for _ in range(N_SETTINGS)]
    settings = [WatershedParameters(), *(WatershedParameters(**values) for values in drawn)]
    table = np.zeros((len(settings), len(pairs)))
    for row, parameters in enumerate(settings):
        table[row] = [f1_at_iou(truth, watershed_nuclei(image, parameters=parameters)) for image, truth in pairs]
        print(row, round(float(table[row].mean()), 4), flush=True)
    chosen, held, best = [], [], []
    for _ in range(N_SPLITS):
        order = rng.permutation(len(pairs))
        one, other = order[: len(order) // 2], order[len(order) // 2 :]
        pick = int(table[:, one].mean(axis=1).argmax())
        chosen.append(pick)
        held.append([float(table[pick, one].mean()), float(table[pick, other].mean()), float(table[0, other].mean())])
        # without the defaults, which were chosen on all images
        pick = 1 + int(table[1:, one].mean(axis=1).argmax())
        best.append([float(table[pick, one].mean()), float(table[pick, other].mean())])
    result = {
        "images": len(pairs),
        "settings": len(settings),
        "f1_50_of_each": table.mean(axis=1).round(4).tolist(),
        "defaults_win_fraction": float(np.mean(np.array(chosen) == 0)),
        "chosen_on_one_half": dict(
            zip(("same_half", "other_half", "defaults_other_half"), np.mean(held, axis=0).round(4).tolist(), strict=True)
        ),
        "chosen_among_random": dict(zip(("same_half", "other_half"), np.mean(best, axis=0).round(4).tolist(), strict=True)),
        "best_random": asdict(settings[1 + int(table[1:].mean(axis=1).argmax())]),
    }
    (OUTPUT.parent / "held_out.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
