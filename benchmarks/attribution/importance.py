"""Which mean over pixels ranks planted markers first, and which ranks are stable? Run: ``python benchmarks/attribution/importance.py``.

Tissue of `sjg.datasets.simulated_tissue`: 8 types in families, planted markers among 100 genes that all differ between types.
Networks are trained on the true types, so that the question is the attribution alone.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from agreement import seeded
from report import write
from scipy.stats import rankdata, spearmanr
from tissue import EMBEDDING, SIGMA_PX, SplatUNet
from torch import Tensor

from sjg.attribution import GeneImportance, molecule_attribution, splat_closed_form
from sjg.datasets import simulated_tissue

PIXEL_UM, SIDE_PX = 0.5, 256


class Data:
    """The tissue in pixels: transcripts, true type map, reference and markers."""

    def __init__(self, random_state: int) -> None:
        size_um = (SIDE_PX * PIXEL_UM, SIDE_PX * PIXEL_UM)
        sdata = simulated_tissue(size_um=size_um, pixel_size_um=PIXEL_UM, random_state=random_state)
        reference, truth = sdata.tables["reference"], sdata.tables["truth"]
        points = sdata.points["transcripts"].compute()
        self.types, genes = list(reference.obs_names), list(reference.var_names)
        self.coords_px = torch.tensor(points[["y", "x"]].to_numpy() / PIXEL_UM, dtype=torch.float32)
        self.gene = torch.tensor(points["gene"].astype(str).map({name: i for i, name in enumerate(genes)}).to_numpy())
        labels = np.asarray(sdata.labels["cells"])
        lookup = np.zeros(labels.max() + 1, dtype=np.int64)
        lookup[truth.obs["cell_id"].to_numpy()] = [self.types.index(name) + 1 for name in truth.obs["cell_type"]]
        self.type_map = torch.tensor(lookup[labels])
        self.profiles = torch.tensor(np.asarray(reference.X), dtype=torch.float32)
        marker = reference.var["marker_of"].astype(str).to_numpy()
        self.markers = np.stack([marker == name for name in self.types], 1)
        self.n_genes = len(genes)
        # A small tissue may lack a type; nothing can be asked about it.
        self.present = np.array([bool((self.type_map == k + 1).any()) for k in range(len(self.types))])


def train(data: Data, *, seed: int, from_profiles: bool, genes: Tensor | None = None, n_steps: int = 300) -> SplatUNet:
    """Cross entropy on random windows of 64 px; `genes` (bool) hides the others."""
    torch.manual_seed(seed)
    model = SplatUNet(data.n_genes, len(data.types))
    if from_profiles:
        share = data.profiles / data.profiles.sum(1, keepdim=True)
        logs = torch.log(share + 0.2 / data.n_genes)
        axes = torch.linalg.svd(logs - logs.mean(0), full_matrices=False)[2][: min(EMBEDDING, len(data.types) - 1)]
        model.embedding.data[:, : len(axes)] = axes.T * 0.3 * data.n_genes**0.5 / 10
    keep = torch.ones(len(data.gene), dtype=torch.bool) if genes is None else genes[data.gene]
    coords_px, gene = data.coords_px[keep], data.gene[keep]
    optimiser = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=n_steps)
    generator = seeded(seed)
    for _ in range(n_steps):
        corners = torch.randint(0, SIDE_PX - 64, (4, 2), generator=generator)
        maps = torch.cat([model.maps(coords_px - corner, gene, (64, 64)) for corner in corners])
        label = torch.stack([data.type_map[r : r + 64, c : c + 64] for r, c in corners.tolist()])
        loss = F.cross_entropy(model.head(maps), label)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def importances(model: SplatUNet, data: Data, genes: Tensor | None = None) -> dict[str, np.ndarray]:
    """(G, K) by each rule."""
    shape, targets = (SIDE_PX, SIDE_PX), list(range(1, len(data.types) + 1))
    keep = torch.ones(len(data.gene), dtype=torch.bool) if genes is None else genes[data.gene]
    molecules = {"coords_px": data.coords_px[keep], "gene": data.gene[keep]}
    maps, embedding = model.maps(**molecules, shape=shape).detach(), 10 * model.embedding.detach()
    with torch.no_grad():
        chance = model.head(maps).softmax(1)[:, 1:]
        own = F.one_hot(model.head(maps).argmax(1), len(targets) + 1).permute(0, 3, 1, 2)[:, 1:].float()
    arguments = {"sigma_px": SIGMA_PX, "n_probes": 16, "generator": seeded(0)}
    y, x = molecules["coords_px"].floor().long().T
    effect = molecule_attribution(
        model.head,
        maps,
        embedding,
        targets,
        **molecules,
        batch_index=torch.zeros_like(molecules["gene"]),
        **arguments,  # type: ignore[arg-type]
    )
    out = {
        "mean of -log sigma, all pixels (published)": splat_closed_form(model.head, maps, embedding, targets, **arguments),  # type: ignore[arg-type]
        "mean of -log sigma, pixels of the type": splat_closed_form(
            model.head,
            maps,
            embedding,
            targets,
            weight=own.permute(1, 0, 2, 3) + 1e-9,
            **arguments,  # type: ignore[arg-type]
        ),
    }
    for name, weight in (
        ("transcripts, all pixels", torch.ones_like(effect)),
        ("transcripts, pixels of the type", own[0][:, y, x]),
        ("transcripts, probability of the type", chance[0][:, y, x]),
    ):
        gathered = GeneImportance(data.n_genes, len(targets))
        gathered.add(effect, gene=molecules["gene"], weight=weight)
        out[name] = gathered.result(specificity=0).T
    out["transcripts, probability of the type, times share (specificity 1)"] = gathered.result(specificity=1).T
    # What the share alone would say: the effect of every transcript set to 1.
    share = GeneImportance(data.n_genes, len(targets))
    share.add(torch.ones_like(effect), gene=molecules["gene"], weight=chance[0][:, y, x])
    out["share alone"] = (share.result(specificity=1) - share.result(specificity=0)).T
    return {name: value.T.numpy()[:, data.present] for name, value in out.items()}


def auroc(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve by ranks."""
    n = truth.sum()
    return float((rankdata(score)[truth].sum() - n * (n + 1) / 2) / (n * (len(truth) - n)))


def by_type(a: np.ndarray, b: np.ndarray) -> float:
    """Mean rank correlation over types; a type that a network never predicts has no ranks and is left out."""
    return float(np.nanmean([spearmanr(x, y)[0] for x, y in zip(a.T, b.T, strict=True)]))


def main() -> None:
    torch.set_num_threads(1)
    record: dict[str, object] = {}
    for tissue in (0, 1):
        data = Data(tissue)
        half = torch.zeros(data.n_genes, dtype=torch.bool)
        half[torch.randperm(data.n_genes, generator=seeded(tissue))[: data.n_genes // 2]] = True
        for start in ("random", "profiles") if tissue == 0 else ("profiles",):
            first, second = (train(data, seed=seed, from_profiles=start == "profiles") for seed in (0, 1))
            halved = train(data, seed=0, from_profiles=start == "profiles", genes=half)
            with torch.no_grad():
                predicted = first.head(first.maps(data.coords_px, data.gene, (SIDE_PX, SIDE_PX))).argmax(1)[0]
            one, two, few = importances(first, data), importances(second, data), importances(halved, data, half)
            kept = half.numpy()
            rows = {
                rule: {
                    "AUROC": round(
                        float(np.mean([auroc(s, m) for s, m in zip(one[rule].T, data.markers[:, data.present].T, strict=True)])), 3
                    ),
                    "markers among the top ranks": round(
                        float(
                            np.mean(
                                [
                                    m[np.argsort(-s)[: m.sum()]].mean()
                                    for s, m in zip(one[rule].T, data.markers[:, data.present].T, strict=True)
                                ]
                            )
                        ),
                        2,
                    ),
                    "seeds": round(by_type(one[rule], two[rule]), 3),
                    "half of the genes": round(by_type(one[rule][kept], few[rule][kept]), 3),
                }
                for rule in one
            }
            accuracy = float((predicted == data.type_map).float().mean())
            record[f"tissue {tissue}, embedding from {start}"] = {"pixel accuracy": round(accuracy, 3), **rows}
    write("importance", record)


if __name__ == "__main__":
    main()
