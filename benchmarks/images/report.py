"""The tables of docs/images.md from results/*.json: ``python benchmarks/images/report.py``."""

from __future__ import annotations

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
STAGES = ("simulate", "patches", "segment", "match", "aggregate", "quality")
_COLUMNS = ("f1_50", "pq", "aji")


def nuclei(results: dict) -> list[str]:
    lines = ["| nuclei | F1 0.5 | F1 0.75 | PQ | AJI |", "|---|---|---|---|---|"]
    for key in ("fluorescence_nuclei", "nuclei_2d", "nuclei_3d"):
        if key in results:
            row = results[key]
            lines.append(f"| `{key}` | " + " | ".join(f"{row[name]:.3f}" for name in ("f1_50", "f1_75", "pq", "aji")) + " |")
    return lines


def cells(results: dict) -> list[str]:
    table = results.get("codex_cells", {})
    order = sorted(table, key=lambda name: -sum(table[name][expert]["f1_50"] for expert in ("expert1", "expert2")))
    lines = ["| cells of `codex_tile` | n | expert 1: F1 / PQ / AJI | expert 2: F1 / PQ / AJI |", "|---|---|---|---|"]
    for name in order:
        both = [" / ".join(f"{table[name][expert][column]:.3f}" for column in _COLUMNS) for expert in ("expert1", "expert2")]
        lines.append(f"| {name} | {table[name]['expert1']['n']} | {both[0]} | {both[1]} |")
    return lines


def quality(results: dict) -> list[str]:
    agreement = results.get("codex_quality_rank_agreement", {})
    lines = ["| metric | expert 1 | expert 2 |", "|---|---|---|"]
    for metric in agreement.get("expert1", {}):
        lines.append(f"| {metric} | {agreement['expert1'][metric]:.2f} | {agreement['expert2'][metric]:.2f} |")
    return lines


def whole_slide(results: dict) -> list[str]:
    """CPU seconds and peak resident GB of each step."""
    lines = ["| side, px | cells | " + " | ".join(STAGES) + " | together |", "|---|---|" + "---|" * (len(STAGES) + 1)]
    for side, record in sorted(results.items(), key=lambda item: int(item[0])):
        known = [record[stage] for stage in STAGES if stage in record]
        cells = [f"{record[stage]['cpu_seconds']:.0f} s / {record[stage]['peak_gb']:.2f} GB" if stage in record else "" for stage in STAGES]
        together = f"{sum(each['cpu_seconds'] for each in known):.0f} s / {max(each['peak_gb'] for each in known):.2f} GB"
        lines.append(f"| {int(side):,} | {record['match']['n_cells']:,} | " + " | ".join(cells) + f" | {together} |")
    return lines


def main() -> None:
    results = json.loads((RESULTS / "real_images.json").read_text())
    for part in (nuclei, cells, quality):
        print("\n".join(part(results)), end="\n\n")
    print("\n".join(whole_slide(json.loads((RESULTS / "whole_slide.json").read_text()))), end="\n\n")
    print(json.dumps(results.get("codex_tiled_equals_untiled", {})))


if __name__ == "__main__":
    main()
