"""Does any attribution tell right from wrong labels? Run: ``python benchmarks/attribution/gate_scores.py``.

Before every round of self-training (loop ``held-out`` of ``gate.py``) every second pixel outside nuclei that would get a label (posterior over 0.9) is scored by several
quantities; the area under the ROC curve says how well each tells labels of the right type from others. 0.5 is chance.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from gate import COMMON, make_case
from importance import auroc
from report import write
from scipy.stats import rankdata

from sjg.attribution import molecule_attribution, type_attribution, type_contribution
from sjg.raster import gaussian_blur
from sjg.training import Tissue, make_fabric
from sjg.training._importance import patch_inputs
from sjg.training._run import make_trainer
from sjg.training._trainer import Trainer
from sjg.training._windows import Window

SETTINGS = COMMON.replace(use_claims=False, patch_size_px=128, n_rounds=2, reach_radii=4.0)
BLUR_PX = 3.0
CONDITIONS = {
    "120 transcripts": (120, 0.0, 0.0),
    "120, wrong types": (120, 0.3, 0.0),
    "120, noisy genes": (120, 0.0, 0.5),
    "40, wrong types, noisy genes": (40, 0.3, 0.5),
}


def quantities(trainer: Trainer, pixel: np.ndarray) -> dict[str, np.ndarray]:
    """(K, P) of each quantity at (P, 2) pixels of the tissue."""
    model, state = trainer.model.module, trainer.state
    maps, embedding, head, sigma_px, batch = patch_inputs(model, trainer.tissue, state, Window(0, 0, *trainer.tissue.shape))
    targets = list(range(1, state.posterior.shape[1] + 1))
    seeded = torch.Generator().manual_seed(0)
    possible = type_attribution(head, maps, embedding, targets, sigma_px=sigma_px, n_probes=8, generator=seeded)[0]
    effect = molecule_attribution(
        head, maps, embedding, targets, coords_px=batch.coords_px, gene=batch.gene, batch_index=torch.zeros_like(batch.gene),
        sigma_px=sigma_px, n_probes=8, generator=seeded,
    )  # fmt: skip
    y, x = batch.coords_px.floor().long().T
    noise = torch.zeros(len(targets), *maps.shape[2:])
    noise.view(len(targets), -1).index_add_(1, y * maps.shape[3] + x, effect)
    blurred = gaussian_blur(noise[None], BLUR_PX)[0].clamp(min=0)
    with torch.no_grad():
        chance = torch.log_softmax(head(maps)[0], 0)[1:]
    found = {
        "-log sigma summed over genes": possible,
        "the same for noise that the counts have": 0.5 * (blurred + 1e-12).log(),
        "evidence (type_contribution)": gaussian_blur(type_contribution(head, maps, targets), BLUR_PX)[0],
        "log probability of the network": chance,
    }
    return {name: value.numpy()[:, pixel[:, 0], pixel[:, 1]] for name, value in found.items()}


def scores(trainer: Trainer, case: object, rng: np.random.Generator) -> dict[str, float]:
    tissue, state = trainer.tissue, trainer.state
    window = Window(0, 0, *tissue.shape)
    pixel = np.argwhere(np.ones(tissue.shape, bool))[::2]
    points = tissue.points(pixel + 0.5, window)
    near = tissue.molecules_in(window)
    shown = near[rng.random(len(near)) < 0.7]
    batch = tissue.batch(window, tissue.context(window), shown, 0.7, points, state)
    with torch.no_grad():
        log_weight, _ = trainer.model(batch, state.log_profiles, state.log_prior)
    best, slot = log_weight.max(1)
    winner, confidence = points.winner(slot.numpy()), best.exp().numpy()
    asked = (points.nucleus == 0) & (winner > 0) & (confidence > SETTINGS.pseudo_confidence)
    own = state.posterior.argmax(1).numpy()[winner[asked] - 1]
    right = own + 1 == case.type_map[pixel[asked, 0], pixel[asked, 1]]  # type: ignore[attr-defined]
    out = {
        "labels": int(asked.sum()),
        "of the right type": round(float(right.mean()), 3),
        "posterior": round(auroc(confidence[asked], right), 3),
    }
    column = np.arange(len(own))
    for name, every in quantities(trainer, pixel[asked]).items():
        rival = every.copy()
        rival[own, column] = -np.inf
        margin = every[own, column] - rival.max(0)
        if name == "-log sigma summed over genes":
            out["dominant type passes"] = round(float((margin > 0).mean()), 3)
            standard = (every - every.mean(1, keepdims=True)) / every.std(1, keepdims=True)
            rival = standard.copy()
            rival[own, column] = -np.inf
            out[f"{name}, margin, types standardised"] = round(auroc(standard[own, column] - rival.max(0), right), 3)
        own_rank = np.array([rankdata(row) for row in every])[own, column]
        out[f"{name}, margin"] = round(auroc(margin, right), 3)
        out[f"{name}, rank within the type"] = round(auroc(own_rank, right), 3)
    return out


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", default=list(CONDITIONS), choices=list(CONDITIONS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = {}
    for name in arguments.only:
        case = make_case(0, *CONDITIONS[name])
        trainer = make_trainer(Tissue(case.molecules, case.nuclei, SETTINGS), case.types, SETTINGS, make_fabric("cpu"), 0)
        for epoch in range(SETTINGS.n_rounds):
            for _ in range(SETTINGS.steps_per_round):
                trainer.train_step()
            record[f"{name}, after round {epoch}"] = scores(trainer, case, np.random.default_rng(0))
            print(record[f"{name}, after round {epoch}"], flush=True)
            trainer.end_round()
        write("gate_scores", record)


if __name__ == "__main__":
    main()
