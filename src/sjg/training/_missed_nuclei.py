"""Cells whose nucleus the stain has missed: places far from every nucleus where transcripts form a cell of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from sjg.core import CellTypes, Molecules
from sjg.training._nuclei import Nuclei, measure_nuclei
from sjg.training._windows import Window, tiles

_TILE_PX = 1024
#: radii of the blur of the density and of the room
_BLUR_RADII, _SMOOTHING_RADII = 0.7, 0.3
#: a place this far from a nucleus and at least this dense (1 = around nuclei) is looked at
_MIN_DISTANCE_RADII, _MIN_DENSITY = 1.2, 0.4
#: farther than any cell reaches; beyond it all distances are equal, so that tiles need no more margin
_REACH_RADII = 8.0
#: a cell in contact with others is centred about this far from their nuclei; farther out only the density says where it is
_ROOM_RADII = 2.6
#: weights beside the distance in radii: a logistic regression on simulated tissue (five kinds, of two simulators) gave 2.5 for the
#: distance, 1.1 for the room and 1.0 for the evidence; much the same with one kind left out
_ROOM_WEIGHT, _EVIDENCE_WEIGHT = 0.45, 0.4
#: nuclei whose types the place is compared with
_N_NEIGHBOURS = 5
#: share of noise in what a cell shows
_NOISE = 0.05
#: a found nucleus has this radius, in those of the others: it may not claim what belongs to a neighbour
_RADIUS = 0.8
#: in median distances from a nucleus to the next
_SPACING = 0.8


#: at 10 % missed nuclei 78 to 94 % of the found ones are real; where none is missed, 0.1 to 2.3 cells in a hundred are made up (most in sparse tissue)
MIN_SCORE = 3.4


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
        (m,) their scores.
    """

    labels: NDArray[np.int32]
    types: CellTypes
    yx_px: NDArray[np.int64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True)
class _Places:
    """Candidate places: (m, 2) pixels, (m,) distance to a nucleus in radii, room, gain by a type of its own, best type, its share."""

    yx: NDArray[np.int64]
    distance: NDArray[np.float64]
    room: NDArray[np.float64]
    gain: NDArray[np.float64]
    best: NDArray[np.int64]
    confidence: NDArray[np.float64]

    @property
    def score(self) -> NDArray[np.float64]:
        return self.distance + _ROOM_WEIGHT * self.room + _EVIDENCE_WEIGHT * np.log1p(np.maximum(self.gain, 0))


def add_missed_nuclei(
    molecules: Molecules, nuclei_labels: NDArray[np.int32], types: CellTypes, *, min_score: float = MIN_SCORE
) -> FoundNuclei:
    """Add a disc where a nucleus was missed.

    A place has *room* for a cell: its distance to the nearest nucleus (in median nuclear radii, up to that at which cells in contact are
    centred) times the density of transcripts (1 = next to nuclei, at most). Peaks of the room are candidates. Their score adds
    up the distance, the room and the logarithm of the evidence that the transcripts there come from another type than those of the five
    nearest nuclei. The best one gets a disc and counts as a nucleus for the rest, until no score reaches `min_score`.

    Parameters
    ----------
    molecules
        N transcripts.
    nuclei_labels
        (H, W) int32, ids 1..n.
    types
        Start types of the n nuclei; without profiles, those of the transcripts in the nuclei are taken.
    min_score
        Least score; lower finds more cells and invents more.
    """
    nuclei = measure_nuclei(nuclei_labels)
    log_profiles, log_ambient = _log_profiles(molecules, nuclei_labels, types)
    places = _weigh(_candidates(molecules, nuclei_labels, nuclei), molecules, nuclei, types, log_profiles, log_ambient)
    chosen, score = _choose(places, nuclei.median_radius_px, _spacing(nuclei), min_score)
    labels = paint_nuclei(nuclei_labels, places.yx[chosen])
    extended = replace(
        types,
        initial=np.concatenate([types.initial, places.best[chosen]]).astype(np.int32),
        confidence=np.concatenate([types.confidence, places.confidence[chosen]]).astype(np.float32),
    )
    return FoundNuclei(labels, extended, places.yx[chosen], score[chosen])


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


def _candidates(
    molecules: Molecules, nuclei_labels: NDArray[np.int32], nuclei: Nuclei
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Peaks of the room for a cell: (m, 2) pixels, distance to a nucleus in radii, room."""
    radius = nuclei.median_radius_px
    around = _density_around(molecules, nuclei_labels, radius)
    margin = int(_REACH_RADII * radius) + 1
    found = [_peaks(pair, counts, labels, radius, around) for pair, counts, labels in _windows(molecules, nuclei_labels, margin)]
    yx, distance, room = (np.concatenate([part[i] for part in found]) for i in range(3))
    return yx, distance, room


def _density_around(molecules: Molecules, labels: NDArray[np.int32], radius: float) -> float:
    """Transcripts per pixel within a radius of the nuclei."""
    n_transcripts = n_pixels = 0.0
    for (tile, wide), counts, part in _windows(molecules, labels, int(radius) + 1):
        margin = tile.y0 - wide.y0
        core = (slice(margin, margin + tile.height), slice(margin, margin + tile.width))
        near = ndimage.distance_transform_edt(part <= 0)[core] <= radius if (part > 0).any() else np.zeros((tile.height, tile.width), bool)
        near &= part[core] == 0
        n_transcripts += float(counts[core][near].sum())
        n_pixels += float(near.sum())
    return max(n_transcripts, 1.0) / max(n_pixels, 1.0)


def _windows(
    molecules: Molecules, labels: NDArray[np.int32], margin: int
) -> Iterator[tuple[tuple[Window, Window], NDArray[np.float32], NDArray[np.int32]]]:
    """Tiles with a margin: the two windows, transcripts per pixel and labels; -1 beyond the tissue."""
    pixel = np.floor(molecules.yx_px).astype(np.int64)
    flat = np.sort(pixel[:, 0] * labels.shape[1] + pixel[:, 1])
    for tile in tiles((int(labels.shape[0]), int(labels.shape[1])), _TILE_PX):
        wide = tile.grown(margin)
        rows = np.arange(max(wide.y0, 0), min(wide.y0 + wide.height, labels.shape[0]))
        first = np.searchsorted(flat, [rows[0] * labels.shape[1], (rows[-1] + 1) * labels.shape[1]])
        y, x = np.divmod(flat[slice(*first)], labels.shape[1])
        inside = (x >= wide.x0) & (x < wide.x0 + wide.width)
        counts = np.zeros((wide.height, wide.width), np.float32)
        np.add.at(counts, (y[inside] - wide.y0, x[inside] - wide.x0), 1)
        yield (tile, wide), counts, wide.cut(labels, fill=-1)


def _peaks(
    windows: tuple[Window, Window], counts: NDArray[np.float32], labels: NDArray[np.int32], radius: float, around: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Candidate places of one tile: pixels, distance in radii, room."""
    tile, wide = windows
    margin = tile.y0 - wide.y0
    core = (slice(margin, margin + tile.height), slice(margin, margin + tile.width))
    # beyond the border of the tissue lies what a nucleus would be: cells are cut there, and theirs may lie outside
    distance = np.full(labels.shape, _REACH_RADII)
    if (labels != 0).any():
        distance = np.minimum(ndimage.distance_transform_edt(labels == 0) / radius, _REACH_RADII)
    density = ndimage.gaussian_filter(counts.astype(np.float64), _BLUR_RADII * radius) / around
    room = ndimage.gaussian_filter(np.minimum(distance, _ROOM_RADII) * np.minimum(density, 1), _SMOOTHING_RADII * radius)
    peak = (room >= ndimage.maximum_filter(room, size=2 * int(1.2 * radius) + 1)) & (distance >= _MIN_DISTANCE_RADII)
    y, x = np.nonzero(peak[core] & (density[core] >= _MIN_DENSITY))
    at = (y + margin, x + margin)
    return np.stack([y + tile.y0, x + tile.x0], 1), distance[at], room[at]


def _weigh(
    found: tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]],
    molecules: Molecules,
    nuclei: Nuclei,
    types: CellTypes,
    log_profiles: NDArray[np.float64],
    log_ambient: NDArray[np.float64],
) -> _Places:
    """What the transcripts of each place say: the gain by a type of its own over the types of the nearest nuclei."""
    yx, distance, room = found
    n_neighbours = min(_N_NEIGHBOURS, len(nuclei))
    _, neighbour = nuclei.tree.query(yx, k=range(1, n_neighbours + 1))
    inside = cKDTree(molecules.yx_px).query_ball_point(yx + 0.5, np.minimum(distance, 3) * nuclei.median_radius_px)
    gain, best, confidence = np.zeros(len(yx)), np.zeros(len(yx), np.int64), np.zeros(len(yx))
    for k, members in enumerate(inside):
        gene = molecules.gene[members]
        likelihood = log_profiles[:, gene].sum(axis=1)
        best[k] = likelihood.argmax()
        weight = np.exp(likelihood - likelihood.max())
        confidence[k] = 1 / weight.sum()
        codes = types.initial[neighbour[k]]
        known = codes[codes >= 0]
        rival = likelihood[known].max() if len(known) else log_ambient[gene].sum()
        gain[k] = likelihood[best[k]] - rival
    return _Places(yx, distance, room, gain, best, confidence)


def _spacing(nuclei: Nuclei) -> float:
    """Least distance in pixels between two found nuclei: two closer ones would share a cell."""
    if len(nuclei) < 2:
        return 0.0
    distance, _ = nuclei.tree.query(nuclei.centre_px, k=2)
    return _SPACING * float(np.median(distance[:, 1]))


def _choose(places: _Places, radius: float, spacing: float, min_score: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Best places first; a chosen one is a nucleus for the others."""
    chosen: list[int] = []
    if not len(places.yx):
        return np.zeros(0, np.int64), np.zeros(0)
    near = cKDTree(places.yx)
    distance, score = places.distance.copy(), places.score
    open_ = score >= min_score
    while open_.any():
        k = int(np.where(open_, score, -np.inf).argmax())
        chosen.append(k)
        open_[k] = False
        for j in near.query_ball_point(places.yx[k], (_REACH_RADII + _RADIUS) * radius):
            if open_[j]:
                apart = float(np.hypot(*(places.yx[k] - places.yx[j])))
                away = apart / radius - _RADIUS
                score[j] -= max(distance[j] - away, 0)
                distance[j] = min(distance[j], away)
                open_[j] = score[j] >= min_score and distance[j] >= _MIN_DISTANCE_RADII and apart >= spacing
    return np.array(chosen, np.int64), score
