"""Fit the two scores of cells whose nucleus was missed: of a place, and of what it wins in the competition.

    python benchmarks/quality/missed_fit.py

Logistic regressions on tissue of five kinds, of two simulators, with seeds that no other benchmark uses; prints what the constants of
sjg.training._missed_places and _missed_nuclei hold, and what they give where each kind is left out of the fit in turn.
"""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pandas as pd
import torch
from conditions import make_case
from missed import hide_nuclei
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sjg.training import make_fabric, paint_nuclei
from sjg.training._missed_nuclei import SETTINGS, compete, extended, free_of, log_probabilities, won_by
from sjg.training._missed_places import find_peaks, propose_places

KINDS = ("base", "12 transcripts", "sparse tissue", "second simulator, 120", "second simulator, 12")
#: seeds, and the share of nuclei that is taken away
TISSUES = ((11, 0.1), (12, 0.1), (13, 0.2), (14, 0.0), (15, 0.1), (16, 0.05))
SIZE_UM = 200.0
PLACE = ("distance", "room", "gain")
WON = ("size", "confidence", "evidence", "spread")
THRESHOLDS = (-0.5, 0.0, 0.5, 1.0)


def collect(kind: str, seed: int, fraction: float) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Places, those of them that were put to the competition, and how many nuclei were taken away."""
    case = make_case(kind, seed, size_um=SIZE_UM)
    molecules, labels, types, missed = hide_nuclei(case, fraction, seed)
    fabric = make_fabric("cpu")
    tissue, types, first = compete(molecules, labels, types, fabric=fabric)
    profiles, free = log_probabilities(tissue, types), free_of(first)
    peaks = find_peaks(tissue, free, types, *profiles)
    place = pd.DataFrame(
        {"distance": peaks.distance, "room": peaks.room, "gain": np.log1p(np.maximum(peaks.gain, 0)), **_owner(case, missed, peaks.yx)}
    )
    found = propose_places(tissue, free, types, *profiles)
    radius_px = tissue.radius_px
    painted, settings = paint_nuclei(labels, found.yx_px), SETTINGS.replace(calibrate_reference=False)
    tissue, _, second = compete(molecules, painted, extended(types, found.code, found.share), settings, fabric=fabric)
    won, _, _ = won_by(found, tissue, second, *profiles, radius_px=radius_px)
    return (
        place.assign(kind=kind, seed=seed),
        pd.DataFrame(won, columns=WON).assign(kind=kind, seed=seed, **_owner(case, missed, found.yx_px)),
        len(missed),
    )


def _owner(case: Any, missed: NDArray[np.int64], yx: NDArray[np.int64]) -> dict[str, NDArray[np.int64]]:
    owner = case.truth[tuple(yx.T)]
    return {"cell": np.where(np.isin(owner, missed), owner, 0)}


def _fitted(rows: pd.DataFrame, names: tuple[str, ...]) -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(rows[list(names)], rows["cell"] > 0)


def report(title: str, rows: pd.DataFrame, names: tuple[str, ...], n_missed: dict[str, int]) -> None:
    scale, model = (step for _, step in _fitted(rows, names).steps)
    weights = model.coef_[0] / scale.scale_
    print(
        f"{title}: {dict(zip(names, weights.round(2).tolist(), strict=True))}, bias {float(model.intercept_[0] - weights @ scale.mean_):.2f}"
    )
    for kind in KINDS:
        mine = rows[rows["kind"] == kind]
        score = _fitted(rows[rows["kind"] != kind], names).decision_function(mine[list(names)])
        for threshold in THRESHOLDS:
            kept = mine[score >= threshold]
            none = kept["seed"] == 14
            real = len(kept[kept["cell"] > 0].drop_duplicates(["seed", "cell"]))
            print(
                f"  {kind:24s} {threshold:4.1f}: precision {real / max(int((~none).sum()), 1):.2f}, recall {real / n_missed[kind]:.2f}, "
                f"made up where none is missed {int(none.sum())}"
            )


def main() -> None:
    torch.set_num_threads(1)
    places, won, n_missed = [], [], dict.fromkeys(KINDS, 0)
    for kind, (seed, fraction) in product(KINDS, TISSUES):
        place, win, n = collect(kind, seed, fraction)
        places.append(place)
        won.append(win)
        n_missed[kind] += n
    report("a place", pd.concat(places), PLACE, n_missed)
    report("what it wins", pd.concat(won), WON, n_missed)


if __name__ == "__main__":
    main()
