"""Table and figure of the experiments of the paper, from what ``experiments.py`` left.

python benchmarks/published/report.py docs/_static/published
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

RESULTS = Path(__file__).parent / "results" / "runs.json"
COLUMNS = {
    "class IoU": "class_iou",
    "gene IoU": "gene_iou",
    "mean IoU": "mean_iou",
    "F1 at 0.75": "f1_75",
    "transcripts right": "transcripts_right",
    "covered": "covered",
    "calling 3 px": "calling_3",
    "calling 5 px": "calling_5",
    "calling 7 px": "calling_7",
}
CA1_COLUMNS = {
    "purity": "negative_marker_purity",
    "assigned": "fraction_assigned",
    **{k: v for k, v in COLUMNS.items() if v[:3] in ("cov", "cal")},
}
ORDER = (
    "nuclei",
    "nuclei, best expansion",
    "published, none",
    "published, gradient",
    "published, CID",
    "published, CID, top 10 %",
    "published, CID from epoch 100",
    "published, CID by descent, 2x2",
)


def rank(method: str) -> int:
    return ORDER.index(method) if method in ORDER else len(ORDER)


def table(records: list[dict], columns: dict[str, str]) -> str:
    """Markdown, one line for each method and condition; over several seeds mean ± standard deviation."""
    keys = list(dict.fromkeys((r["gene_fraction"], r["resolution_um"], r["method"]) for r in records))
    keys.sort(key=lambda key: (-key[0], key[1], rank(key[2]), key[2]))
    lines = ["| genes | pixel | method | " + " | ".join(columns) + " | s |", "|---" * (len(columns) + 4) + "|"]
    for fraction, resolution, method in keys:
        chosen = [r for r in records if (r["gene_fraction"], r["resolution_um"], r["method"]) == (fraction, resolution, method)]
        cells = [summary([r["scores"].get(name, np.nan) for r in chosen]) for name in columns.values()]
        seconds = f"{np.mean([r['seconds'] for r in chosen]):.0f}" if chosen[0]["seconds"] else ""
        lines.append(f"| {fraction:.0%} | {resolution:g} um | {method} | " + " | ".join(cells) + f" | {seconds} |")
    return "\n".join(lines)


def summary(values: list[float]) -> str:
    mean = np.mean(values)
    digits = 2 if mean < 10 else 1
    text = f"{mean:.3f}" if mean < 1 else f"{mean:.{digits}f}"
    return text if len(values) == 1 else f"{text} ± {np.std(values):.{3 if mean < 1 else digits}f}"


def figure(records: list[dict], path: Path) -> None:
    simulated = [r for r in records if r["data"] == "simulated"]
    colours = {"nuclei, best expansion": "0.6", "published, none": "#1f77b4", "published, CID": "#d62728", "published, gradient": "#ff7f0e",
               "published, CID by descent, 2x2": "#9467bd", "published, CID, top 10 %": "#e377c2", "published, CID from epoch 100": "#8c564b",
               "sjg fast": "#2ca02c", "sjg default": "#17becf"}  # fmt: skip
    fig, axes = plt.subplots(1, 4, figsize=(15, 3.6), layout="constrained")
    full = [r for r in simulated if r["gene_fraction"] == 1 and r["resolution_um"] == 0.5]
    methods = sorted({r["method"] for r in full}, key=lambda m: (rank(m), m))
    for offset, (label, name) in enumerate((("class IoU", "class_iou"), ("gene IoU", "gene_iou"), ("mean IoU", "mean_iou"))):
        means = [np.mean([r["scores"][name] for r in full if r["method"] == m]) for m in methods]
        axes[0].barh(np.arange(len(methods)) + 0.27 * offset, means, 0.25, label=label)
    axes[0].set_yticks(np.arange(len(methods)) + 0.27, methods, fontsize=7)
    axes[0].invert_yaxis()
    axes[0].set(xlim=(0, 1), title="all genes, 0.5 um")
    axes[0].legend(fontsize=7, loc="upper right")
    for axis, key, values, title in (
        (axes[1], "gene_fraction", (0.25, 0.5, 1.0), "fraction of genes"),
        (axes[2], "resolution_um", (1.0, 0.5), "pixel (um)"),
    ):
        for method in sorted({r["method"] for r in simulated} - {"nuclei"}, key=lambda m: (rank(m), m)):
            other = {"gene_fraction": 1.0, "resolution_um": 0.5}
            del other[key]
            rows = [r for r in simulated if r["method"] == method and all(r[k] == v for k, v in other.items())]
            points = [
                (v, np.mean([r["scores"]["mean_iou"] for r in rows if r[key] == v])) for v in values if any(r[key] == v for r in rows)
            ]
            if len(points) > 1:
                axis.plot(*zip(*points, strict=True), "o-", label=method, color=colours.get(method))
        axis.set(xlabel=title, ylabel="mean IoU over true cells", ylim=(0, 1))
        axis.legend(fontsize=7, loc="lower left" if key == "gene_fraction" else "lower right")
    for r in full:
        if r["curve"] and r["method"].startswith("published") and r["seed"] == full[0]["seed"]:
            curve = r["curve"]["fraction_assigned"]
            axes[3].plot(np.arange(1, len(curve) + 1), curve, label=r["method"], color=colours.get(r["method"]))
    axes[3].set(xlabel="epoch", ylabel="fraction of transcripts in cells", ylim=(0, 1))
    axes[3].legend(fontsize=7)
    fig.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path, help="folder for the figure")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    records = json.loads(arguments.results.read_text())
    arguments.directory.mkdir(parents=True, exist_ok=True)
    print(table([r for r in records if r["data"] == "simulated"], COLUMNS), end="\n\n")
    print(table([r for r in records if r["data"] == "CA1"], CA1_COLUMNS))
    figure(records, arguments.directory / "experiments.png")


if __name__ == "__main__":
    main()
