"""What is measured of a result, and how rows are kept."""

from __future__ import annotations

import fcntl
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from conditions import Case
from methods import Result
from scipy.optimize import linear_sum_assignment

from sjg.metrics import calibration_error, f1_at_iou, instance_iou, panoptic_quality, transcript_assignment

RESULTS = Path(__file__).parent / "results"


def score(case: Case, result: Result) -> dict[str, float]:
    """Numbers of one result; cells are matched by id, as all methods start from the same nuclei, see :func:`name_found_cells`."""
    result = name_found_cells(case, result)
    right = result.cell == case.true_cell
    shares = transcript_assignment(case.true_cell, result.cell, matching="id")
    scores = {
        "transcripts_right": float(right.mean()),
        "precision": shares.precision,
        "recall": shares.recall,
        "transcripts_right_any_id": transcript_assignment(case.true_cell, result.cell).accuracy,
    }
    if result.labels is not None:
        scores |= {
            "mean_iou": float(instance_iou(case.truth, result.labels, matching="id")),
            "f1_75": f1_at_iou(case.truth, result.labels, iou=0.75),
            "f1_50": f1_at_iou(case.truth, result.labels, iou=0.5),
            "panoptic_quality": panoptic_quality(case.truth, result.labels),
            "transcripts_right_by_mask": float((result.labels[case.pixel] == case.true_cell).mean()),
        }
    if result.confidence is not None:
        confidence = np.clip(result.confidence, 0, 1)
        scores["calibration_error"] = calibration_error(confidence, right)
        # a transcript of a cell that nobody has seen is rightly in none of the others
        there = np.union1d(case.nuclei, [] if result.labels is None else result.labels)
        scores["calibration_error_given_nuclei"] = calibration_error(
            confidence, result.cell == np.where(np.isin(case.true_cell, there), case.true_cell, 0)
        )
    if result.type_name is not None and case.condition.reference:
        of_cell = [result.type_name.get(i) for i in range(1, len(case.cell_type) + 1)]
        # a cell without a nucleus has no answer
        known = np.array([name is not None for name in of_cell])
        same = np.array([name == case.type_names[code] for name, code in zip(of_cell, case.cell_type, strict=True)])
        scores["cell_type_accuracy"] = float(same[known].mean())
    return scores


def name_found_cells(case: Case, result: Result) -> Result:
    """Cells without a nucleus (ids above those of the true cells) get the ids of the missed cells that they cover, one each, by the largest sum of overlaps."""
    n = len(case.cell_type)
    missed = np.setdiff1d(np.arange(1, n + 1), case.nuclei)
    if result.labels is None or result.labels.max() <= n or not len(missed):
        return result
    found = np.unique(result.labels[result.labels > n])
    both = np.isin(result.labels, found) & np.isin(case.truth, missed)
    overlap = np.zeros((len(found), len(missed)))
    np.add.at(overlap, (np.searchsorted(found, result.labels[both]), np.searchsorted(missed, case.truth[both])), 1)
    name = np.arange(max(int(result.labels.max()), int(result.cell.max())) + 1)
    for row, column in zip(*linear_sum_assignment(overlap, maximize=True), strict=True):
        if overlap[row, column]:
            name[found[row]] = missed[column]
    types = None if result.type_name is None else {int(name[cell]): type_name for cell, type_name in result.type_name.items()}
    return replace(result, labels=name[result.labels], cell=name[result.cell], type_name=types)


class Rows:
    """Rows of a JSON file, each with a key of its own; several processes may add to it.

    Parameters
    ----------
    path
        The file.
    key
        Names of the entries that identify a row.
    """

    def __init__(self, path: Path, key: tuple[str, ...]) -> None:
        self.path, self.key = path, key

    def read(self) -> list[dict[str, Any]]:
        return json.loads(self.path.read_text()) if self.path.exists() else []

    def has(self, **key: Any) -> bool:
        return any(all(row[name] == key[name] for name in self.key) for row in self.read())

    def add(self, row: dict[str, Any]) -> None:
        """Add a row, or put it in the place of the one with its key."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = [old for old in self.read() if any(old[name] != row[name] for name in self.key)]
            rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in row.items()}
            rows = sorted([*rows, rounded], key=lambda r: [str(r[name]) for name in self.key])
            text = "[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n"
            draft = self.path.with_suffix(".draft")
            draft.write_text(text)
            draft.replace(self.path)
