"""Segmentation quality against the number of genes, chosen by importance, by abundance or at random. Run: ``python benchmarks/attribution/panel.py``."""

from __future__ import annotations

import argparse

import pandas as pd
import torch
from report import HERE, write

import sjg

METRICS = ["mean_iou", "transcript_accuracy_posterior", "cell_type_accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 20, 40, 100])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    path = HERE / "results" / "panel_rows.csv"
    rows = [pd.read_csv(path)] if path.exists() else []
    done = set() if not rows else set(zip(rows[0]["repeat"], rows[0]["order"], strict=True))
    for seed in arguments.seeds:
        sdata = sjg.datasets.simulated_tissue(size_um=(96, 96), random_state=seed)
        sjg.tl.segment(sdata, reference="reference", preset="fast", random_state=seed, progress=False)
        # The largest panel is the whole one whoever chooses.
        for order in ("importance", "random", "abundance"):
            if (seed, order) in done:
                continue
            curve = sjg.tl.panel_curve(
                sdata,
                [n for n in arguments.sizes if n < sdata["sjg_table"].n_vars],
                orders=[order],
                truth_key="cells",
                reference="reference",
                random_state=seed,
            )
            whole = sjg.tl.evaluate(sdata, "sjg_cells", truth_key="cells").assign(
                order=order, n_genes=sdata["sjg_table"].n_vars, n_transcripts=len(sdata["transcripts"])
            )
            rows.append(pd.concat([curve, whole]).assign(repeat=seed))
            path.parent.mkdir(exist_ok=True)
            pd.concat(rows).to_csv(path, index=False)
            print(order, "done", flush=True)
    frame = pd.concat(rows)
    frame = frame[frame["metric"].isin(METRICS)]
    figure = sjg.pl.panel_curve(frame, metrics=METRICS, show=False)
    means = frame.groupby(["metric", "order", "n_genes"])["value"].mean().round(3)
    record = {
        metric: {
            order: {str(n): float(means[metric, order, n]) for n in sorted(set(frame["n_genes"]))}
            for order in dict.fromkeys(frame["order"])
        }
        for metric in METRICS
    }
    write("panel", {"tissues": len(set(frame["repeat"])), **record}, figure)


if __name__ == "__main__":
    main()
