"""Planted markers: three per type, every other gene shared by all types. Run: ``python benchmarks/attribution/planted.py``."""

from __future__ import annotations

import numpy as np
import torch
from agreement import seeded
from importance import auroc
from report import write
from tissue import SIGMA_PX, trained

from sjg.attribution import GeneImportance, molecule_attribution, splat_closed_form


def main() -> None:
    torch.set_num_threads(1)
    record = {}
    for seed in (0, 1):
        tissue, network = trained(seed, tissue_seed=seed)
        side = tissue.type_map.shape[0]
        targets = list(range(1, tissue.n_types + 1))
        maps, embedding = network.maps(tissue.coords_px, tissue.gene, (side, side)).detach(), 10 * network.embedding.detach()
        with torch.no_grad():
            logits = network.head(maps)
        y, x = tissue.coords_px.floor().long().clamp(0, side - 1).T
        arguments = {"sigma_px": SIGMA_PX, "generator": seeded(0)}
        effect = molecule_attribution(
            network.head,
            maps,
            embedding,
            targets,
            coords_px=tissue.coords_px,
            gene=tissue.gene,
            batch_index=torch.zeros_like(tissue.gene),
            **arguments,  # type: ignore[arg-type]
        )
        gathered = GeneImportance(tissue.n_genes, tissue.n_types)
        gathered.add(effect, gene=tissue.gene, weight=logits.softmax(1)[0, 1:, y, x])
        rules = {
            "mean of -log sigma, all pixels (published)": splat_closed_form(network.head, maps, embedding, targets, **arguments).T,  # type: ignore[arg-type]
            "transcripts, probability of the type": gathered.result(specificity=0),
            "transcripts, probability of the type, times share (specificity 1)": gathered.result(specificity=1),
        }
        columns = tissue.marker_mask().T
        record[f"tissue {seed}"] = {
            "pixel accuracy": round(float((logits.argmax(1)[0] == tissue.type_map).float().mean()), 3),
            **{
                name: {
                    "AUROC": round(float(np.mean([auroc(s.numpy(), m) for s, m in zip(score.T, columns, strict=True)])), 3),
                    "worst type": round(min(auroc(s.numpy(), m) for s, m in zip(score.T, columns, strict=True)), 3),
                }
                for name, score in rules.items()
            },
        }
    write("planted", record)


if __name__ == "__main__":
    main()
