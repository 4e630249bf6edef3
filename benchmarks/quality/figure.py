"""Draws docs/_static/comparison.png from the rows of compare.py: figure.py [OUTPUT]."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from conditions import CONDITIONS
from scores import RESULTS

OUTPUT = Path(__file__).parents[2] / "docs" / "_static" / "comparison.png"
#: method, label, marker, colour
STYLES = {
    "nuclei": ("nuclei only", "|", "0.6"),
    "best expansion": ("nuclei, best expansion", "s", "0.45"),
    "geodesic growth": ("geodesic growth", "D", "#8c6bb1"),
    "pciSeq": ("pciSeq", "^", "#4292c6"),
    "ComSeg": ("ComSeg", "v", "#238b45"),
    "sjg published": ("sjg, published rule", "X", "#d6604d"),
    "sjg fast": ("sjg, fast", "o", "#fdae61"),
    "sjg": ("sjg, default", "o", "#b2182b"),
}
PANELS = {"transcripts_right": "transcripts right", "mean_iou": "mean IoU", "f1_75": "F1 at IoU 0.75"}


def main() -> None:
    output = Path(sys.argv[1]) if len(sys.argv) > 1 else OUTPUT
    values = defaultdict(list)
    for row in json.loads((RESULTS / "simulated.json").read_text()):
        for metric in PANELS:
            if row.get(metric) is not None:
                values[row["condition"], row["method"], metric].append(row[metric])
    names = [name for name in CONDITIONS if any(key[0] == name for key in values)]
    fig, axes = plt.subplots(1, len(PANELS), figsize=(13, 0.36 * len(names) + 1.4), sharey=True, layout="constrained")
    for ax, (metric, title) in zip(axes, PANELS.items(), strict=True):
        for method, (label, marker, colour) in STYLES.items():
            for y, name in enumerate(names):
                runs = of_method(values, name, method, metric)
                if runs:
                    ax.errorbar(np.mean(runs), y, xerr=np.std(runs), fmt=marker, color=colour, ms=7, elinewidth=1.2, alpha=0.9)
            ax.plot([], [], marker, color=colour, label=label)
        ax.set(title=title, xlim=(0, 1), yticks=range(len(names)), yticklabels=names)
        ax.grid(axis="x", color="0.9")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    fig.savefig(output, dpi=90)


def of_method(values: dict, name: str, method: str, metric: str) -> list[float]:
    if method != "best expansion":
        return values.get((name, method, metric), [])
    every = [runs for (condition, one, m), runs in values.items() if condition == name and m == metric and one.startswith("expansion")]
    return max(every, key=np.mean) if every else []


if __name__ == "__main__":
    main()
