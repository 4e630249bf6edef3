"""Train the network of claims on simulated tissues and write its weights as plain arrays.

    python benchmarks/pretraining/train.py tissues --steps 20000 --output claims.npz

One tissue a step: claims of all its cells at once, cross entropy of the true cell of pixels outside nuclei and of molecules. Types start
as in a run (from nuclei) or from the truth with errors. ``--start`` goes on from earlier weights, ``--validate`` prints the scores on
tissues that were left out.

The weights in the package: 20,500 steps on 5,500 tissues of a narrower kind (cells of even density, nuclei up to 55 % of a cell, noise up to
25 %), then 13,000 steps at ``--learning-rate 1.5e-3`` in which three of four tissues were of the present kind, with ``--keep-start 0.5``: the
mean of both loses hardly anything on even tissue and keeps most of what the second part taught about uneven, sparse and noisy tissue.
They never saw tissue of one type, nor the purities that are assumed there (`training/_scene.py`), and are older than the gamma factors of
single cells (one weight of the type against a cell's counts then) and false calls in the noise (`training/_own_profiles.py`, `_state.py`).
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sjg.core import CellTypes, Molecules
from sjg.networks import ClaimNet, load_claim_net, save_claim_net
from sjg.pp._typing import type_nuclei
from sjg.training import PRESETS
from sjg.training._claims import Claims, crop_bounds, gather_evidence
from sjg.training._crops import N_CHANNELS, Lattice, MoleculeEvidence
from sjg.training._nuclei import nearest_candidates
from sjg.training._own_profiles import OwnProfiles, fit_own_profiles
from sjg.training._scene import measure_scene
from sjg.training._state import CellState, initial_state
from sjg.training._tissue import Tissue

PARAMETERS = PRESETS["default"]
N_POINTS = 4000
MAX_GRADIENT_NORM = 3.0
AVERAGING_STEPS = 150
WARM_UP_STEPS = 30


@dataclass(frozen=True)
class Example:
    """A tissue as a run sees it, and its truth with the ids of the nuclei."""

    tissue: Tissue
    state: CellState
    own: OwnProfiles | None
    cells: np.ndarray
    true_cell: np.ndarray


def read_example(path: Path, rng: np.random.Generator) -> Example | None:
    """None where there are too few nuclei to learn from."""
    with np.load(path, allow_pickle=False) as stored:
        t = dict(stored)
    ids = np.unique(t["nuclei"])
    ids = ids[ids > 0]
    if len(ids) < 8:
        return None
    new = np.zeros(max(int(t[name].max()) for name in ("nuclei", "cells", "true_cell")) + 1, np.int32)
    new[ids] = np.arange(1, len(ids) + 1)
    nuclei = new[t["nuclei"]]
    yx = np.clip(t["yx"], 0, np.nextafter(np.array(nuclei.shape, np.float32), np.float32(0))).astype(np.float32)
    n_types, n_genes = t["profiles"].shape
    tissue = Tissue(Molecules(yx, t["gene"], tuple(str(g) for g in range(n_genes))), nuclei, PARAMETERS)
    if rng.random() < 0.6:
        initial = t["cell_type"][ids - 1].astype(np.int32)
        wrong = rng.random(len(ids)) < float(t["wrong"])
        initial[wrong] = rng.integers(0, n_types, wrong.sum())
        confidence = np.full(len(ids), rng.choice([0.7, 0.9, 0.95]), np.float32)
    else:
        inside = tissue.nucleus_of > 0
        counts = np.zeros((len(ids), n_genes))
        np.add.at(counts, (tissue.nucleus_of[inside] - 1, tissue.molecules.gene[inside]), 1)
        posterior = type_nuclei(counts, t["profiles"])
        initial, confidence = posterior.argmax(1).astype(np.int32), posterior.max(1).astype(np.float32)
    types = CellTypes(tuple(str(k) for k in range(n_types)), initial, confidence, t["profiles"])
    state = initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, types, PARAMETERS, device=torch.device("cpu"))
    own = None
    if rng.random() < 0.9:
        own = fit_own_profiles(state, tissue.nucleus_of, tissue.molecules.gene, rng=rng)
    order = tissue.as_given(np.arange(len(yx)))  # the tissue keeps molecules in an order of its own
    true_cell = np.empty(len(yx), np.int32)
    true_cell[order] = new[t["true_cell"]]
    return Example(tissue, state, own, new[t["cells"]], true_cell)


def claims(net: ClaimNet, example: Example, rng: np.random.Generator) -> tuple[Claims, MoleculeEvidence]:
    """Claims of all cells, from crops that are turned and mirrored at random."""
    tissue, state = example.tissue, example.state
    everyone = np.arange(len(tissue.nuclei))
    evidence = gather_evidence(tissue, state, example.own, np.arange(len(tissue.molecules)), PARAMETERS.n_candidates)
    typical = float(state.density.median())
    crops = Lattice(tissue.nuclei, *crop_bounds(tissue.nuclei, everyone)).crops(
        everyone,
        evidence,
        log_density=torch.log(state.density / typical).clamp(-3, 3).numpy(),
        typical_density=typical,
        scene=measure_scene(tissue, state),
    )
    turns, mirror = int(rng.integers(4)), bool(rng.integers(2))
    crops = torch.rot90(crops, turns, (2, 3))
    # a third less time on a CPU than in the usual layout
    maps = net((crops.flip(3) if mirror else crops).contiguous(memory_format=torch.channels_last))
    maps = maps.flip(3) if mirror else maps
    return Claims(tissue.nuclei, everyone, torch.rot90(maps, -turns, (2, 3)).contiguous()), evidence


def losses(net: ClaimNet, example: Example, rng: np.random.Generator) -> tuple[Tensor, Tensor, float, float]:
    """Cross entropies of pixels and molecules, and the fractions that are right."""
    tissue = example.tissue
    found, evidence = claims(net, example, rng)
    free = np.flatnonzero(tissue.labels.ravel() == 0)
    pixel = rng.choice(free, min(N_POINTS, len(free)), replace=False)
    yx = np.stack(np.divmod(pixel, tissue.shape[1]), 1) + 0.5
    candidate, signed, _ = nearest_candidates(tissue.nuclei, yx, PARAMETERS.n_candidates)
    place = found.at(yx, candidate, signed, molecules=False)
    place = torch.cat([place, place.new_zeros(len(place), 1)], 1)
    molecule = rng.choice(len(example.true_cell), min(N_POINTS, len(example.true_cell)), replace=False)
    source = found.at(evidence.yx_px[molecule], evidence.candidate[molecule], evidence.signed_px[molecule], molecules=True)
    source = source + net.gene_weight * evidence.log_ratio[molecule]
    source = torch.cat([source, source.new_zeros(len(source), 1)], 1)
    pairs = (
        (place, _slot(candidate, signed, example.cells.ravel()[pixel])),
        (source, _slot(evidence.candidate[molecule], evidence.signed_px[molecule], example.true_cell[molecule])),
    )
    entropy = [torch.nn.functional.cross_entropy(logit[slot >= 0], torch.from_numpy(slot[slot >= 0])) for logit, slot in pairs]
    right = [float((logit.argmax(1).numpy() == slot).mean()) for logit, slot in pairs]
    return entropy[0], entropy[1], right[0], right[1]


def _slot(candidate: np.ndarray, signed_px: np.ndarray, true_cell: np.ndarray) -> np.ndarray:
    """Column of the true cell among the candidates; the last for none, -1 where it is not among them."""
    hit = (candidate + 1 == true_cell[:, None]) & np.isfinite(signed_px)
    return np.where(true_cell == 0, candidate.shape[1], np.where(hit.any(1), hit.argmax(1), -1))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("tissues", type=Path, nargs="+", help="folders; one that is named twice counts twice")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path)
    parser.add_argument("--keep-start", type=float, default=0.0, help="share of the weights of --start in the result")
    parser.add_argument("--validate", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    rng = np.random.default_rng(arguments.seed)
    files = [path for folder in arguments.tissues for path in sorted(folder.glob("*.npz"))]
    net = ClaimNet(N_CHANNELS)
    if arguments.start is not None:
        net.load_state_dict(load_claim_net(arguments.start).state_dict())
    optimizer = torch.optim.Adam(net.parameters(), arguments.learning_rate)
    average = {name: value.clone() for name, value in net.state_dict().items()}
    records, started = [], time.perf_counter()
    for step in range(arguments.steps):
        example = read_example(files[int(rng.integers(len(files)))], rng)
        if example is None:
            continue
        factor = min(1, (step + 1) / WARM_UP_STEPS) * (0.5 * (1 + math.cos(math.pi * step / arguments.steps)) + 0.01)
        for group in optimizer.param_groups:
            group["lr"] = factor * arguments.learning_rate
        of_pixels, of_molecules, *right = losses(net, example, rng)
        optimizer.zero_grad()
        (of_pixels + of_molecules).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        with torch.no_grad():
            for name, value in net.state_dict().items():
                average[name].lerp_(value, 1 / min(step + 1, AVERAGING_STEPS))
        records.append((float(of_pixels.detach()), float(of_molecules.detach()), *right))
        if (step + 1) % 100 == 0:
            print(step + 1, np.round(np.mean(records[-100:], 0), 3), f"{time.perf_counter() - started:.0f} s", flush=True)
    if arguments.start is not None and arguments.keep_start > 0:
        for name, value in load_claim_net(arguments.start).state_dict().items():
            average[name].lerp_(value, arguments.keep_start)
    net.load_state_dict(average)
    save_claim_net(net, arguments.output)
    if arguments.validate is not None:
        examples = [read_example(path, rng) for path in sorted(arguments.validate.glob("*.npz"))]
        with torch.no_grad():
            scores = [[float(v) for v in losses(net, e, rng)] for e in examples if e is not None]
        print("left out:", np.round(np.mean(scores, 0), 3))


if __name__ == "__main__":
    main()
