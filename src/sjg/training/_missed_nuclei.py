"""Cells whose nucleus the stain has missed: places that hold their own in the competition for transcripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from lightning_fabric import Fabric
from numpy.typing import NDArray
from scipy import sparse

from sjg.core import CellTypes, Molecules, Spread, parts, release, scratch_zeros, strips
from sjg.training._calibration import calibrated
from sjg.training._judges import ClaimJudge
from sjg.training._missed_places import Places, propose_places
from sjg.training._nuclei import measure_nuclei
from sjg.training._parameters import Parameters, Precision
from sjg.training._plan import plan_together
from sjg.training._predict import Prediction, predict
from sjg.training._state import initial_state
from sjg.training._tissue import Tissue

#: claims alone decide here: no network is trained, and one view of each crop will do
SETTINGS = Parameters(use_network=False, n_orientations=1, revise_profiles=False)
#: share of noise in what a cell shows
_NOISE = 0.05
#: a found nucleus has this radius, in those of the others: it may not claim what belongs to a neighbour
_RADIUS = 0.8
#: log odds that a place is a cell, by what it wins: log of its transcripts as a share of the usual (plus `_FEW`), their mean confidence, log of
#: the evidence for its type, their mean distance from its centre in radii; fitted by benchmarks/quality/missed_fit.py
_WEIGHTS = np.array([0.53, 8.05, 0.46, 4.10])
_BIAS = -10.89
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
    precision: Precision = "auto",
    tile_size_px: int = SETTINGS.tile_size_px,
    calibrate_reference: bool = SETTINGS.calibrate_reference,
    spread: Spread | None = None,
    on_tile: OnTile | None = None,
) -> FoundNuclei:
    """Add a disc where a nucleus was missed.

    A first competition of the given cells tells which transcripts none of them claims. Where these are dense and far from nuclei, a disc is put
    (:func:`~sjg.training._missed_places.propose_places`), and the competition is held once more. A place is a cell if it then wins about as many
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
    precision, tile_size_px, calibrate_reference
        As in :class:`Parameters`.
    spread
        Has tiles judged by the workers of a cluster; None = by threads.
    on_tile
        Called with the tiles done and those to do, first of one competition, then of the other.
    """
    settings = SETTINGS.replace(precision=precision, tile_size_px=tile_size_px, calibrate_reference=calibrate_reference)
    tissue, fitted, first = compete(molecules, nuclei_labels, types, settings, fabric=fabric, spread=spread, on_tile=on_tile)
    log_profiles, log_ambient = log_probabilities(tissue, fitted)
    places = propose_places(tissue, free_of(first), fitted, log_profiles, log_ambient)
    if not len(places):
        return FoundNuclei(nuclei_labels, types, places.yx_px, np.zeros(0))
    radius_px, labels = tissue.radius_px, paint_nuclei(nuclei_labels, places.yx_px)
    # what is only proposed has no say in what types express
    settings, with_places = settings.replace(calibrate_reference=False), extended(fitted, places.code, places.share)
    tissue, _, second = compete(molecules, labels, with_places, settings, fabric=fabric, spread=spread, on_tile=on_tile)
    features, code, share = won_by(places, tissue, second, log_profiles, log_ambient, radius_px=radius_px)
    score = features @ _WEIGHTS + _BIAS
    kept = np.argsort(-score, kind="stable")
    kept = kept[score[kept] >= min_score]
    yx = places.yx_px[kept]
    return FoundNuclei(paint_nuclei(nuclei_labels, yx), extended(types, code[kept], share[kept]), yx, score[kept])


def paint_nuclei(nuclei_labels: NDArray[np.int32], yx_px: NDArray[np.int64]) -> NDArray[np.int32]:
    """Nuclei 1..n with a disc, n + 1, n + 2, ..., on the free pixels around each of the (m, 2) centres, which are free."""
    if not len(yx_px):
        return nuclei_labels
    radius = _RADIUS * measure_nuclei(nuclei_labels).median_radius_px
    labels, reach = scratch_zeros(nuclei_labels.shape, np.int32), int(np.ceil(radius))
    for strip in strips(labels.shape):
        labels[strip] = nuclei_labels[strip]
    release(nuclei_labels, labels)
    n = int(nuclei_labels.max())
    for new_id, (y, x) in enumerate(yx_px, n + 1):
        rows = np.arange(max(y - reach, 0), min(y + reach + 1, labels.shape[0]))
        columns = np.arange(max(x - reach, 0), min(x + reach + 1, labels.shape[1]))
        part = labels[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        part[(np.hypot(rows[:, None] - y, columns[None] - x) <= radius) & (part == 0)] = new_id
    return labels


def compete(
    molecules: Molecules,
    labels: NDArray[np.int32],
    types: CellTypes,
    settings: Parameters = SETTINGS,
    *,
    fabric: Fabric,
    spread: Spread | None = None,
    on_tile: OnTile | None = None,
) -> tuple[Tissue, CellTypes, Prediction]:
    """The tissue, the types as it shows them, and whose its molecules are by the claims of the cells as they start."""
    tissue = Tissue(molecules, labels, settings)
    plan = plan_together(settings, n_types=len(types.names), crowd=tissue.crowd(), fabric=fabric)
    settings = settings.replace(precision=plan.precision)
    if settings.calibrate_reference:
        types = calibrated(types, tissue)
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
    return tissue, types, prediction


def free_of(prediction: Prediction) -> NDArray[np.float32]:
    """(N,) probability that no cell has the molecules, 0 where one has."""
    free = scratch_zeros(len(prediction.cell), np.float32)
    for rows in parts(len(free)):
        free[rows] = np.where(prediction.cell[rows] == 0, prediction.cell_confidence[rows], 0)
    return free


def won_by(
    places: Places,
    tissue: Tissue,
    prediction: Prediction,
    log_profiles: NDArray[np.float64],
    log_ambient: NDArray[np.float64],
    *,
    radius_px: float,
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """(m, 4) what the places have won, see `_WEIGHTS`, (m,) their types by it, and (m,) the shares of these; `radius_px` of the given nuclei."""
    n_places = len(places)
    n_given = len(tissue.nuclei) - n_places
    n, weight = (np.zeros(len(tissue.nuclei) + 1) for _ in range(2))
    distance, counts = np.zeros(n_places), sparse.csr_array((n_places, len(log_ambient)))
    for rows in parts(len(prediction.cell)):
        cell = prediction.cell[rows]
        n += np.bincount(cell, minlength=len(n))
        weight += np.bincount(cell, prediction.cell_confidence[rows], minlength=len(n))
        won = np.flatnonzero(cell > n_given)
        place, gene = cell[won] - n_given - 1, tissue.molecules.gene[rows][won]
        away = np.hypot(*(tissue.molecules.yx_px[rows][won] - places.yx_px[place] - 0.5).T)
        distance += np.bincount(place, away, minlength=n_places)
        counts += sparse.coo_array((np.ones(len(won)), (place, gene)), shape=counts.shape).tocsr()
    likelihood = counts @ log_profiles.T
    best = likelihood.max(1)
    given = weight[1 : n_given + 1]
    # of those that win any: the image may be larger than what was measured of it
    usual = float(np.median(given[given > 0])) if (given > 0).any() else 1.0
    n, weight = np.maximum(n[n_given + 1 :], 1), weight[n_given + 1 :]
    evidence = np.maximum(best - counts @ log_ambient, 0)
    features = np.stack([np.log(weight / usual + _FEW), weight / n, np.log1p(evidence), distance / n / radius_px], axis=1)
    return features, likelihood.argmax(1), 1 / np.exp(likelihood - best[:, None]).sum(1)


def extended(types: CellTypes, code: NDArray[np.int64], share: NDArray[np.float64]) -> CellTypes:
    """The types with those of places after them."""
    return replace(
        types,
        initial=np.concatenate([types.initial, code]).astype(np.int32),
        confidence=np.concatenate([types.confidence, share]).astype(np.float32),
    )


def log_probabilities(tissue: Tissue, types: CellTypes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(K, G) log probability of each gene in each type, noise included, and (G,) in all transcripts."""
    gene, n_genes = tissue.molecules.gene, len(tissue.molecules.gene_names)
    code = np.concatenate([[-1], types.initial])
    ambient, profiles = np.ones(n_genes), np.zeros((len(types.names) + 1, n_genes))
    for rows in parts(len(gene)):
        ambient += np.bincount(gene[rows], minlength=n_genes)
        np.add.at(profiles, (code[tissue.nucleus_of[rows]], gene[rows]), 1)
    ambient /= ambient.sum()
    # the last row holds what lies in no typed nucleus
    known = profiles[:-1] + 20 * ambient if types.profiles is None else np.asarray(types.profiles, float) + 1e-12
    known = known / known.sum(axis=1, keepdims=True)
    return np.log((1 - _NOISE) * known + _NOISE * ambient), np.log(ambient)
