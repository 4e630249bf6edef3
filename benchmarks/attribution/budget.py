"""Does the noise that an attribution implies change the logits as promised? Run: ``python benchmarks/attribution/budget.py``."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import torch
from agreement import rank, seeded
from report import write
from tissue import densities, trained

from sjg.attribution import closed_form, noise_response, noise_scale, optimize

SIDE_PX, TARGET = 32, 1


def main() -> None:
    torch.set_num_threads(1)
    tissue, splat_unet = trained()
    model, inputs = splat_unet.dense().eval(), densities(tissue, 40, 40, SIDE_PX)
    with torch.no_grad():
        variance = float(model(inputs)[:, TARGET].var(correction=0))
    exact = closed_form(model, inputs, TARGET, n_probes=SIDE_PX**2, probes="interleaved")
    quick = closed_form(model, inputs, TARGET, generator=seeded(0))
    rows = []
    for fraction in np.logspace(-5, 0.5, 9):
        budget = float(fraction) * variance
        ratio = {}
        for name, score in (("exact", exact), ("16 probes", quick)):
            sigma = noise_scale(score, budget=budget, n_outputs=SIDE_PX**2)
            ratio[name] = round(float(noise_response(model, inputs, TARGET, sigma=sigma, n_draws=50, generator=seeded(1))) / budget, 3)
        rows.append({"budget / variance of the logits": float(f"{fraction:.2g}"), **ratio})
    corrections = []
    for fraction in (1e-3, 0.3):
        weight = 2 * fraction * variance
        # What the objective itself wants at this budget: a long run, started from nothing.
        reference = optimize(model, inputs, TARGET, n_steps=150, n_draws=16, information_weight=weight, generator=seeded(3))
        start = {"n_draws": 8, "lr": 0.05, "information_weight": weight, "initial": exact}
        corrected = optimize(model, inputs, TARGET, n_steps=20, generator=seeded(4), **start)  # type: ignore[arg-type]
        cold = optimize(model, inputs, TARGET, n_steps=20, n_draws=8, information_weight=weight, generator=seeded(4))
        record: dict[str, float] = {"budget / variance": fraction}
        for name, score in (("closed form", exact), ("closed form + 20 steps", corrected), ("20 steps alone", cold)):
            record[f"genes: {name}"] = round(rank(score.mean((0, 2, 3)), reference.mean((0, 2, 3))), 3)
            scaled = score + (closed_scale(weight) if name == "closed form" else 0.0)
            response = noise_response(model, inputs, TARGET, sigma=(-scaled).exp(), n_draws=50, generator=seeded(5))
            # The objective at these sigmas, up to the same constant for all: lower is better.
            record[f"objective: {name}"] = round(float(response) / weight + float(scaled.mean()), 3)
        response = noise_response(model, inputs, TARGET, sigma=(-reference).exp(), n_draws=50, generator=seeded(5))
        record["objective: 150 steps"] = round(float(response) / weight + float(reference.mean()), 3)
        corrections.append(record)
    figure, ax = plt.subplots(figsize=(4.6, 3.2))
    x = [row["budget / variance of the logits"] for row in rows]
    for name in ("exact", "16 probes"):
        ax.plot(x, [row[name] for row in rows], "o-", ms=3, lw=1, label=name)
    ax.axhspan(0.9, 1.1, color="0.9", zorder=0)
    ax.set(xscale="log", xlabel="budget / variance of the logit map", ylabel="measured / promised change", ylim=(0, None))
    ax.legend(frameon=False, fontsize=8)
    write("budget", {"calibration": rows, "correction": corrections}, figure)


def closed_scale(weight: float) -> float:
    """Constant that turns ``log||J||`` into -log sigma at the optimum of the objective (sizes: 60 genes on the same raster)."""
    n_genes = 60
    return -0.5 * float(np.log(weight / (2 * n_genes)))


if __name__ == "__main__":
    main()
