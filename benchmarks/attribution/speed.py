"""Cost of all genes x all types for one patch, as ratios within one run. Run: ``python benchmarks/attribution/speed.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from report import write
from tissue import SIGMA_PX, SplatUNet, densities, make_tissue

from sjg.attribution import closed_form, molecule_attribution, optimize, splat_closed_form
from sjg.raster import splat

SIDE_PX, N_GENES, N_TYPES = 128, 100, 8
PUBLISHED_STEPS, PUBLISHED_DRAWS = 20, 8


def seconds(call: Callable[[], object], *, repeats: int = 3) -> float:
    """CPU seconds (the machine may be shared), best of `repeats` after one unmeasured call."""
    call()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        call()
        times.append(time.process_time() - start)
    return min(times)


def peak_mb(call: Callable[[], object]) -> float:
    """Memory that a call needs at its peak beyond what the process held before (Linux: the kernel's high-water mark, reset)."""
    call()
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    call()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    """kB."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1])


def main() -> None:
    torch.set_num_threads(1)
    tissue = make_tissue(seed=0, n_genes=N_GENES)
    torch.manual_seed(0)
    network = SplatUNet(N_GENES, N_TYPES).eval()  # cost does not depend on the weights
    model, inputs = network.dense().eval(), densities(tissue, 0, 0, SIDE_PX)
    types = list(range(1, N_TYPES + 1))

    # A step costs the same whatever its number: two runs of different length give its cost without the start.
    def joint(n_steps: int) -> float:
        return seconds(
            lambda: optimize(model, inputs, 1, n_steps=n_steps, n_draws=PUBLISHED_DRAWS, noise="gaussian", initial=0.1), repeats=1
        )

    # On a shared machine seconds wander: the two sides are timed in turn, and the middle one of the ratios is reported.
    rounds = []
    for _ in range(3):
        closed = {n: seconds(lambda n=n: closed_form(model, inputs, types, n_probes=n), repeats=2) for n in (2, 8, 16)}  # type: ignore[misc]
        rounds.append((closed, (joint(3) - joint(1)) / 2 * PUBLISHED_STEPS * N_TYPES))
    closed, joint_all = sorted(rounds, key=lambda pair: pair[1] / pair[0][16])[1]
    pairs = [
        seconds(
            lambda gene=gene: optimize(  # type: ignore[misc]
                model, inputs, 1, n_steps=3, n_draws=PUBLISHED_DRAWS, noise="gaussian", initial=0.1, genes=[gene], grid_px=8
            ),
            repeats=1,
        )
        for gene in (0, 30, 60, 90)
    ]
    pair_all = sum(pairs) / len(pairs) / 3 * PUBLISHED_STEPS * N_TYPES * N_GENES

    growth: dict[int, dict[str, float]] = {}
    memory = {}
    for n_genes in (500, 5000):
        gene = tissue.gene * (n_genes // N_GENES)
        embedding = torch.randn(n_genes, network.embedding.shape[1])
        maps = splat(tissue.coords_px, gene, embedding, (SIDE_PX, SIDE_PX), sigma_px=SIGMA_PX)[None]
        molecules = {"coords_px": tissue.coords_px, "gene": gene, "batch_index": torch.zeros_like(gene)}
        calls = {
            "mean of -log sigma": lambda e=embedding, m=maps: splat_closed_form(network.head, m, e, types, sigma_px=SIGMA_PX),  # type: ignore[misc]
            "transcripts": lambda e=embedding, m=maps, t=molecules: molecule_attribution(network.head, m, e, types, sigma_px=SIGMA_PX, **t),  # type: ignore[misc]
        }
        growth[n_genes] = {name: seconds(call, repeats=4) for name, call in calls.items()}
        memory[f"{n_genes} genes"] = {name: round(peak_mb(call), 1) for name, call in calls.items()}
    record = {
        "patch_px": SIDE_PX,
        "genes": N_GENES,
        "types": N_TYPES,
        "closed form, 16 probes, s": closed[16],
        "closed form, 8 probes, s": closed[8],
        "closed form, 2 probes, s": closed[2],
        "optimise, joint, 20 steps x 8 draws, s": joint_all,
        "optimise, pair by pair, s (extrapolated from 4 pairs, 3 steps)": pair_all,
        "joint / closed form 16, of three rounds": sorted(round(seconds / one[16], 1) for one, seconds in rounds),
        "joint / closed form 16": joint_all / closed[16],
        "joint / closed form 2": joint_all / closed[2],
        "pair by pair / closed form 16": pair_all / closed[16],
        "joint / closed form 8": joint_all / closed[8],
        "splat, s": growth,
        "peak memory, MB": {
            **memory,
            "closed form, dense, 16 probes, 8 types": round(peak_mb(lambda: closed_form(model, inputs, types)), 1),
        },
        "splat, 5000 genes / 500 genes": {k: growth[5000][k] / growth[500][k] for k in growth[500]},
    }
    write("speed", record)


if __name__ == "__main__":
    main()
