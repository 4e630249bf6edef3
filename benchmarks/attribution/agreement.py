"""Which side is right? Closed form and optimisation against the exact Jacobian of a trained network.

One probe per output pixel gives every column norm exactly; no sampling is left. Run: ``python benchmarks/attribution/agreement.py``.
"""

from __future__ import annotations

import time

import matplotlib.pyplot as plt
import numpy as np
import torch
from report import write
from scipy.stats import spearmanr
from tissue import densities, trained
from torch import Tensor, nn

from sjg.attribution import closed_form, optimize

SIDE_PX = 32
CONVERGED = {"n_steps": 100, "n_draws": 8}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rank(a: Tensor, b: Tensor) -> float:
    return float(spearmanr(a.flatten().numpy(), b.flatten().numpy())[0])


def per_pixel(score: Tensor, exact: Tensor) -> float:
    """Mean over genes of the rank correlation over pixels."""
    return float(np.mean([rank(score[0, g], exact[0, g]) for g in range(score.shape[1])]))


def by_effort(model: nn.Module, inputs: Tensor, target: int, exact: Tensor) -> list[dict[str, object]]:
    """Rank agreement with the exact answer against the number of network passes."""
    rows: list[dict[str, object]] = []

    def add(method: str, passes: int, score: Tensor, seconds: float) -> None:
        genes = rank(score.mean((0, 2, 3)), exact.mean((0, 2, 3)))
        rows.append(
            {"method": method, "passes": passes, "pixels": round(per_pixel(score, exact), 3), "genes": round(genes, 3), "s": seconds}
        )

    for probes in ("signs", "interleaved"):
        for n_probes in (2, 4, 8, 16, 64, 256):
            start = time.process_time()
            score = closed_form(model, inputs, target, n_probes=n_probes, probes=probes, generator=seeded(0))  # type: ignore[arg-type]
            add(f"closed form, {probes}", n_probes, score, round(time.process_time() - start, 2))
    for noise, efforts in (("gaussian", ((20, 8), (60, 4), (200, 8))), ("orthogonal", ((20, 8), (60, 4), (200, 8), (300, 16)))):
        for n_steps, n_draws in efforts:
            start = time.process_time()
            score = optimize(model, inputs, target, n_steps=n_steps, n_draws=n_draws, noise=noise, generator=seeded(0))  # type: ignore[arg-type]
            add(f"optimise, {noise}", 2 * n_steps * n_draws, score, round(time.process_time() - start, 2))
    return rows


def main() -> None:
    torch.set_num_threads(1)
    tissue, splat_unet = trained()
    model, inputs = splat_unet.dense().eval(), densities(tissue, 40, 40, SIDE_PX)
    exact = [closed_form(model, inputs, k + 1, n_probes=SIDE_PX**2, probes="interleaved") for k in range(tissue.n_types)]
    effort = by_effort(model, inputs, 1, exact[0])
    types = []
    for kind in range(tissue.n_types):
        quick = closed_form(model, inputs, kind + 1, generator=seeded(0)).mean((0, 2, 3))
        first, second = (
            optimize(model, inputs, kind + 1, generator=seeded(seed), **CONVERGED).mean((0, 2, 3))  # type: ignore[arg-type]
            for seed in (1, 2)
        )
        types.append(
            {
                "type": kind,
                "closed form (16 signs) vs optimise": round(rank(quick, first), 3),
                "optimise vs itself": round(rank(first, second), 3),
                "closed form vs exact": round(rank(quick, exact[kind].mean((0, 2, 3))), 3),
                "optimise vs exact": round(rank(first, exact[kind].mean((0, 2, 3))), 3),
            }
        )
    figure, axes = plt.subplots(1, 2, figsize=(8.5, 3.2), sharex=True)
    for method in dict.fromkeys(str(row["method"]) for row in effort):
        own = sorted((row for row in effort if row["method"] == method), key=lambda row: row["passes"])  # type: ignore[arg-type, return-value]
        for ax, key in zip(axes, ("pixels", "genes"), strict=True):
            ax.plot([r["passes"] for r in own], [r[key] for r in own], "o-", ms=3, lw=1, label=method)
    for ax, title in zip(axes, ("pixels within a gene", "genes"), strict=True):
        ax.set(xscale="log", xlabel="network passes for one type", ylabel="Spearman with exact Jacobian", title=title)
    axes[0].legend(fontsize=7, frameon=False)
    figure.tight_layout()
    write("agreement", {"effort": effort, "types": types}, figure)


if __name__ == "__main__":
    main()
