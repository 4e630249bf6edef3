"""Cells whose nucleus the stain has missed: places that hold their own in the competition for transcripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy import sparse

from sjg.core import CellTypes, Molecules, Spread
from sjg.training._judges import ClaimJudge
from sjg.training._missed_places import Places, propose_places
from sjg.training._nuclei import measure_nuclei
from sjg.training._parameters import Parameters
from sjg.training._plan import plan_together
from sjg.training._predict import Prediction, predict
from sjg.training._state import initial_state
from sjg.training._tissue import Tissue

#: claims alone decide here: no network is trained, and one view of each crop will do
_SETTINGS = Parameters(use_network=False, n_orientations=1, revise_profiles=False)
#: share of noise in what a cell shows
_NOISE = 0.05
#: a found nucleus has this radius, in those of the others: it may not claim what belongs to a neighbour
_RADIUS = 0.8
#: log odds that a place is a cell, by what it wins: log of its transcripts as a share of the usual (plus `_FEW`), their mean confidence, log of
#: the evidence for its type, their mean distance from its centre in radii; fitted by benchmarks/quality/missed_fit.py
_WEIGHTS = np.array([0.70, 7.50, 0.61, 4.05])
_BIAS = -10.5
_FEW = 0.05
#: least log odds of what is added
MIN_SCORE = 0.5

OnTile = Callable[[int, int], None]


@dataclass(frozen=True)
class FoundNuclei:
    """Nuclei with the ones that were missed.

    Parameters
    ----------
    labels
        (H, W) int32: the given nuclei 1..n as they were, then the found ones.
    types
        Start types of all of them.
    yx_px
        (m, 2) centres of the found ones, best first.
    score
        (m,) log odds that they are cells.
    """

    labels: NDArray[np.int32]
    types: CellTypes
    yx_px: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)


def add_missed_nuclei(
    molecules: Molecules,
    nuclei_labels: NDArray[np.int32],
    types: CellTypes,
    *,
    fabric: Fabric,
    min_score: float = MIN_SCORE,
    spread: Spread | None = None,
    on_tile: OnTile | None = None,
) -> FoundNuclei:
    """Add a disc where a nucleus was missed.

    A first competition of the given cells tells which transcripts none of them claims. Where these are dense and far from nuclei, a disc is put
    (:func:`sjg.training._missed_places.propose_places`), and the competition is held once more. A place is a cell if it then wins about as many
    transcripts as the other cells do, with as much confidence, from about as far, and of genes that one type shows.

    Parameters
    ----------
    molecules
        N transcripts.
    nuclei_labels
        (H, W) int32, ids 1..n.
    types
        Start types of the n nuclei; without profiles, those of the transcripts in the nuclei are taken.
    fabric
        Device and processes, launched.
    min_score
        Least log odds; lower finds more cells and invents more.
    spread
        Has tiles judged by the workers of a cluster; None = by threads.
    on_tile
        Called with the tiles done and those to do, first of one competition, then of the other.
    """
    nuclei = measure_nuclei(nuclei_labels)
    log_profiles, log_ambient = _log_profiles(molecules, nuclei_labels, types)
    cell, confidence = _compete(molecules, nuclei_labels, types, fabric, spread, on_tile)
    free = np.where(cell == 0, confidence, np.float32(0))
    places = propose_places(molecules, free, nuclei_labels, nuclei, types, log_profiles, log_ambient)
    yx = places.yx_px
    if not len(places):
        return FoundNuclei(nuclei_labels, types, yx, np.zeros(0))
    cell, confidence = _compete(
        molecules, paint_nuclei(nuclei_labels, yx), _extended(types, places.code, places.share), fabric, spread, on_tile
    )
    features, code, share = _won(molecules, cell, confidence, places, len(nuclei), nuclei.median_radius_px, log_profiles, log_ambient)
    score = features @ _WEIGHTS + _BIAS
    kept = np.argsort(-score, kind="stable")
    kept = kept[score[kept] >= min_score]
    return FoundNuclei(paint_nuclei(nuclei_labels, yx[kept]), _extended(types, code[kept], share[kept]), yx[kept], score[kept])


def paint_nuclei(nuclei_labels: NDArray[np.int32], yx_px: NDArray[np.int64]) -> NDArray[np.int32]:
    """Nuclei 1..n with a disc, n + 1, n + 2, ..., on the free pixels around each of the (m, 2) centres, which are free."""
    if not len(yx_px):
        return nuclei_labels
    radius = _RADIUS * measure_nuclei(nuclei_labels).median_radius_px
    labels, reach = nuclei_labels.astype(np.int32, copy=True), int(np.ceil(radius))
    n = int(labels.max())
    for new_id, (y, x) in enumerate(yx_px, n + 1):
        rows = np.arange(max(y - reach, 0), min(y + reach + 1, labels.shape[0]))
        columns = np.arange(max(x - reach, 0), min(x + reach + 1, labels.shape[1]))
        part = labels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part[(np.hypot(rows[:, None] - y, columns[None] - x) <= radius) & (part == 0)] = new_id
    return labels


def _compete(
    molecules: Molecules,
    labels: NDArray[np.int32],
    types: CellTypes,
    fabric: Fabric,
    spread: Spread | None,
    on_tile: OnTile | None,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """(N,) cell of each molecule by the claims of the cells as they start, and its posterior."""
    tissue = Tissue(molecules, labels, _SETTINGS)
    plan = plan_together(_SETTINGS, n_types=len(types.names), crowd=tissue.crowd(), fabric=fabric)
    settings = _SETTINGS.replace(precision=plan.precision)
    state = initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, types, settings, device=fabric.device)
    prediction = predict(
        ClaimJudge(tissue, state, settings),
        tissue,
        settings,
        into=Prediction.empty(tissue, state, pixels=False),
        tile_px=plan.tile_px,
        seed=0,
        fabric=fabric,
        n_workers=plan.n_workers,
        spread=spread if fabric.device.type == "cpu" else None,
        on_tile=on_tile,
    )
    return tissue.as_given(prediction.cell), tissue.as_given(prediction.cell_confidence)


def _won(
    molecules: Molecules,
    cell: NDArray[np.int32],
    confidence: NDArray[np.float32],
    places: Places,
    n_given: int,
    radius: float,
    log_profiles: NDArray[np.float64],
    log_ambient: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """(m, 4) what the places have won, see `_WEIGHTS`, (m,) their types by it, and (m,) the shares of these."""
    yx = places.yx_px
    weight = np.bincount(cell, confidence, minlength=n_given + len(yx) + 1)
    won = np.flatnonzero(cell > n_given)
    place, gene = cell[won] - n_given - 1, molecules.gene[won]
    n = np.bincount(place, minlength=len(yx))
    counts = sparse.coo_array((np.ones(len(won)), (place, gene)), shape=(len(yx), len(log_ambient))).tocsr()
    likelihood = counts @ log_profiles.T
    best = likelihood.max(1)
    distance = np.hypot(*(molecules.yx_px[won] - yx[place]).T)
    usual = max(float(np.median(weight[1 : n_given + 1])), 1e-6)
    features = np.stack(
        [
            np.log(weight[n_given + 1 :] / usual + _FEW),
            weight[n_given + 1 :] / np.maximum(n, 1),
            np.log1p(np.maximum(best - counts @ log_ambient, 0)),
            np.bincount(place, distance, minlength=len(yx)) / np.maximum(n, 1) / radius,
        ],
        axis=1,
    )
    return features, likelihood.argmax(1), 1 / np.exp(likelihood - best[:, None]).sum(1)


def _extended(types: CellTypes, code: NDArray[np.int64], share: NDArray[np.float64]) -> CellTypes:
    return replace(
        types,
        initial=np.concatenate([types.initial, code]).astype(np.int32),
        confidence=np.concatenate([types.confidence, share]).astype(np.float32),
    )


def _log_profiles(
    molecules: Molecules, nuclei_labels: NDArray[np.int32], types: CellTypes
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K, G) log probability of each gene in each type, noise included, and (G,) in all transcripts."""
    n_genes = len(molecules.gene_names)
    ambient = np.bincount(molecules.gene, minlength=n_genes) + 1.0
    ambient /= ambient.sum()
    if types.profiles is None:
        pixel = np.floor(molecules.yx_px).astype(np.int64)
        nucleus = nuclei_labels[pixel[:, 0], pixel[:, 1]]
        code = np.concatenate([[-1], types.initial])[nucleus]
        profiles = np.zeros((len(types.names), n_genes))
        np.add.at(profiles, (code[code >= 0], molecules.gene[code >= 0]), 1)
        profiles += 20 * ambient
    else:
        profiles = np.asarray(types.profiles, float) + 1e-12
    profiles = profiles / profiles.sum(axis=1, keepdims=True)
    return np.log((1 - _NOISE) * profiles + _NOISE * ambient), np.log(ambient)
