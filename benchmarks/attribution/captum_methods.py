"""Captum's methods beside ours on one network: agreement, markers, time. Needs ``captum``; run: ``python benchmarks/attribution/captum_methods.py``."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from agreement import rank, seeded
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Saliency
from report import write
from scipy.stats import rankdata
from tissue import densities, trained
from torch import Tensor

from sjg.attribution import closed_form, gradient, optimize

SIDE_PX = 64


def auroc(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve by ranks."""
    n = truth.sum()
    return float((rankdata(score)[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


def main() -> None:
    torch.set_num_threads(1)
    tissue, splat_unet = trained()
    model, inputs = splat_unet.dense().eval(), densities(tissue, 40, 40, SIDE_PX)
    for parameter in model.parameters():
        parameter.requires_grad_(False)

    def summed(x: Tensor, target: int) -> Tensor:
        return model(x)[:, target].sum((1, 2))  # Captum wants one number an item

    integrated, tunnel = IntegratedGradients(summed), NoiseTunnel(Saliency(summed))
    noise = float(inputs.std())

    def smooth_gradient(target: int) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return tunnel.attribute(
                inputs, nt_type="smoothgrad_sq", nt_samples=16, stdevs=noise, additional_forward_args=(target,), abs=False
            )

    methods: dict[str, Callable[[int], Tensor]] = {
        "sjg closed_form, 16 probes": lambda c: closed_form(model, inputs, c, generator=seeded(0)),
        "sjg closed_form, 16 interleaved probes": lambda c: closed_form(model, inputs, c, generator=seeded(0), probes="interleaved"),
        "sjg optimize, 20 steps x 8 draws": lambda c: optimize(model, inputs, c, n_draws=8, noise="gaussian", generator=seeded(0)),
        "sjg gradient": lambda c: gradient(model, inputs, c),
        "captum Saliency": lambda c: Saliency(summed).attribute(inputs, additional_forward_args=(c,)),
        "captum NoiseTunnel (SmoothGrad squared, 16)": smooth_gradient,
        "captum InputXGradient": lambda c: InputXGradient(summed).attribute(inputs, additional_forward_args=(c,)).abs(),
        "captum IntegratedGradients (20)": lambda c: integrated.attribute(inputs, n_steps=20, additional_forward_args=(c,)).abs(),
    }
    targets = list(range(1, tissue.n_types + 1))
    # 512 interleaved probes are within 1 % of the exact norms here (agreement.py) and cheaper than 4,096.
    exact = [closed_form(model, inputs, c, n_probes=512, probes="interleaved", generator=seeded(9)) for c in targets]
    rows = {}
    for name, method in methods.items():
        method(1)
        start = time.process_time()
        scores = [method(c).detach() for c in targets]
        seconds = (time.process_time() - start) / len(targets)
        genes = [s.mean((0, 2, 3)) for s in scores]
        rows[name] = {
            "rank over genes against the exact norms": round(
                float(np.mean([rank(g, e.mean((0, 2, 3))) for g, e in zip(genes, exact, strict=True)])), 3
            ),
            "rank over pixels within a gene": round(
                float(np.mean([rank(s[0, g], e[0, g]) for s, e in zip(scores, exact, strict=True) for g in range(0, tissue.n_genes, 6)])), 3
            ),
            "AUROC of planted markers": round(
                float(np.mean([auroc(g.numpy(), m) for g, m in zip(genes, tissue.marker_mask().T, strict=True)])), 3
            ),
            "s per type": round(seconds, 3),
        }
    write("captum_methods", rows)


if __name__ == "__main__":
    main()
