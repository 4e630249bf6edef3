"""Tables and warnings of a report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anndata import AnnData

#: parts of the record that are shown in another way, or are no settings
_NOT_SETTINGS = ("network", "history", "quality")
_LONGEST = 12
_NOT_GIVEN = "not given"


def facts(record: Mapping[str, Any]) -> list[list[str]]:
    """Settings of a run as (dotted name, text), nested ones flattened."""
    rows: list[list[str]] = []

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for name, item in value.items():
                if prefix or name not in _NOT_SETTINGS:
                    walk(f"{prefix}.{name}" if prefix else str(name), item)
        else:
            rows.append([prefix, _NOT_GIVEN if _was_left_out(prefix, value) else _text(value)])

    walk("", record)
    # a store does not keep their order; the elements come first, then groups
    return sorted(rows, key=lambda row: ("." in row[0], row[0]))


def fact_groups(record: Mapping[str, Any]) -> dict[str, list[list[str]]]:
    """The same rows by section of the report: inputs and filters, settings, versions."""
    groups: dict[str, list[list[str]]] = {"Inputs and filters": [], "Settings": [], "Versions": []}
    for name, text in facts(record):
        start, _, rest = name.partition(".")
        if start == "versions":
            groups["Versions"].append([rest, text])
        elif start in ("transcripts", "request", "grid") or name.endswith("_key") or name == "coordinate_system":
            groups["Inputs and filters"].append([name, text])
        else:
            groups["Settings"].append([name.removeprefix("parameters."), text])
    return {title: rows for title, rows in groups.items() if rows}


def type_rows(table: AnnData) -> list[list[str]]:
    """Cells, transcripts and confidence of each type, the most frequent first."""
    rows = []
    groups = table.obs.groupby(table.obs["cell_type"].astype(str))
    for name, group in sorted(groups, key=lambda one: -len(one[1])):
        counts = f"{group['n_transcripts'].median():.0f}" if "n_transcripts" in group else "-"
        confidence = f"{group['cell_type_confidence'].median():.2f}" if "cell_type_confidence" in group else "-"
        rows.append([str(name), f"{len(group):,}", f"{len(group) / table.n_obs:.1%}", counts, confidence])
    return rows


def warnings_of(table: AnnData, metrics: Mapping[str, float]) -> list[str]:
    """What a reader should look into; the limits are rules of thumb, named in each line."""
    found = []
    assigned = metrics.get("fraction_assigned_posterior", metrics.get("fraction_assigned", np.nan))
    if assigned < 0.5:
        found.append(
            f"Only {assigned:.0%} of the transcripts are in a cell (below 50 %): check nuclei and the frames of image and transcripts."
        )
    if "n_transcripts" in table.obs:
        few = float((table.obs["n_transcripts"] < 5).mean())
        if few > 0.25:
            found.append(f"{few:.0%} of the cells have fewer than 5 transcripts (above 25 %): their types are uncertain.")
    if "cell_type_confidence" in table.obs:
        unsure = float((table.obs["cell_type_confidence"] < 0.5).mean())
        if unsure > 0.25:
            found.append(f"{unsure:.0%} of the cells have a type with confidence below 0.5 (above 25 %): is the reference of this tissue?")
    if "area_um2" in table.obs:
        area = float(table.obs["area_um2"].median())
        if not 15 <= area <= 1500:
            found.append(f"The median cell measures {area:.0f} µm² (outside 15 to 1,500): is the pixel size right?")
    largest = table.obs["cell_type"].astype(str).value_counts(normalize=True)
    if len(largest) > 2 and largest.iloc[0] > 0.8:
        found.append(f"{largest.iloc[0]:.0%} of the cells have the type {largest.index[0]!r} (above 80 %).")
    # some cells end straight by chance, at any line
    seams, elsewhere = metrics.get("fraction_cut_at_seams", 0.0), metrics.get("fraction_cut_elsewhere", 0.0)
    if seams > elsewhere + 0.05:
        found.append(
            f"{seams:.1%} of the cells at borders of tiles are cut there, {elsewhere:.1%} at other lines (5 % apart or more): a seam."
        )
    return found


def _was_left_out(name: str, value: Any) -> bool:
    """Whether this stands for an argument that was None (stores keep no None)."""
    if not name.startswith("request."):
        return False
    if np.size(value) != 1:
        return np.size(value) == 0
    value = np.asarray(value).item()
    return bool(value == "" or (name.endswith("_um") and value == 0) or value == -np.inf)


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray):
        flat = [_text(item) for item in value.ravel()[:_LONGEST].tolist()]
        more = f", … ({value.size} in all)" if value.size > _LONGEST else ""
        return ", ".join(flat) + more
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
