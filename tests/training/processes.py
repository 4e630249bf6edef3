"""One run by several processes, started by torchrun from test_processes.py; the first one writes the result."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from conftest import plant

from sjg.training import Parameters, _trainer, make_fabric, segment_tissue

PARAMETERS = Parameters(
    n_rounds=3,
    steps_per_round=20,
    settled_loss=100.0,
    settled_cells=0.0,
    patches_per_step=2,
    patch_size_px=48,
    tile_size_px=40,
    channels=(6, 8),
    n_folds=2,
    n_importance_patches=1,
    n_probes=1,
    points_per_patch=1000,
)


def run(folder: Path) -> None:
    tissue = plant()
    fabric = make_fabric("cpu")
    found = segment_tissue(tissue.molecules, tissue.nuclei, tissue.types, PARAMETERS, fabric=fabric, checkpoint_dir=folder / "checkpoints")
    np.savez(
        folder / f"{fabric.world_size}-{fabric.global_rank}.npz",
        labels=found.labels,
        cell=found.molecule_cell,
        importance=found.gene_importance,
        history=json.dumps(found.history),
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    # rounds end early, after two windows; not on import, because the doctests import this module
    _trainer.WINDOW = 5
    run(Path(sys.argv[1]))
