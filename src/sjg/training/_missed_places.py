"""Places where a nucleus may have been missed: far from every nucleus, amid transcripts that no cell claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from sjg.core import CellTypes, Molecules
from sjg.training._nuclei import Nuclei
from sjg.training._windows import Window, tiles

_TILE_PX = 1024
#: radii of the blur of the densities and of the room
_BLUR_RADII, _SMOOTHING_RADII = 0.7, 0.3
#: a place this far from a nucleus is looked at, where free transcripts are at least so dense (1 = as all are around nuclei)
_MIN_DISTANCE_RADII, _MIN_FREE_DENSITY = 1.2, 0.1
#: farther than any cell reaches; beyond it all distances are equal, so that tiles need no more margin
_REACH_RADII = 8.0
#: a cell in contact with others is centred about this far from their nuclei; farther out only the density says where it is
_ROOM_RADII = 2.6
#: log odds that a place is a missed cell: benchmarks/quality/missed_fit.py
_WEIGHTS = {"distance": 0.78, "room": 2.84, "gain": 0.48}
_BIAS = -5.8
#: the competition decides, so places that are rather not cells are put to it too
_MIN_LOG_ODDS = -2.5
#: nuclei whose types the place is compared with
_N_NEIGHBOURS = 5
#: two places closer than this, in median distances from a nucleus to the next and in radii, would share a cell
_SPACING, _SPACING_RADII = 0.8, 2.0


@dataclass(frozen=True)
class _Peaks:
    """(m, 2) pixels, (m,) distance to a nucleus in radii, (m,) room."""

    yx: NDArray[np.int64]
    distance: NDArray[np.float64]
    room: NDArray[np.float64]


@dataclass(frozen=True)
class Places:
    """Places that may be missed cells, likeliest first.

    Parameters
    ----------
    yx_px
        (m, 2) pixels outside nuclei.
    code, share
        (m,) type of the transcripts there and its posterior.
    """

    yx_px: NDArray[np.int64]
    code: NDArray[np.int64]
    share: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.code)


def propose_places(
    molecules: Molecules,
    free: NDArray[np.floating],
    nuclei_labels: NDArray[np.int32],
    nuclei: Nuclei,
    types: CellTypes,
    log_profiles: NDArray[np.float64],
    log_ambient: NDArray[np.float64],
) -> Places:
    """Places that may be missed cells.

    A place has *room* for a cell: its distance to the nearest nucleus (in median nuclear radii, up to that at which cells in contact are
    centred) times the density of transcripts (1 = next to nuclei, at most). Candidates are the peaks of the room weighted by the transcripts
    that no cell claims. Their log odds add up the distance, the room and the logarithm of the evidence that the transcripts there come from
    another type than those of the five nearest nuclei.

    Parameters
    ----------
    molecules
        N transcripts.
    free
        (N,) probability that no cell has them.
    nuclei_labels, nuclei
        (H, W) ids 1..n, and the n nuclei.
    types
        Start types of the nuclei.
    log_profiles, log_ambient
        (K, G) log probability of each gene in each type, (G,) in all transcripts.
    """
    peaks = _find_peaks(molecules, free, nuclei_labels, nuclei)
    gain, best, share = _type_of(peaks, molecules, nuclei, types, log_profiles, log_ambient)
    log_odds = _BIAS + (
        _WEIGHTS["distance"] * peaks.distance + _WEIGHTS["room"] * peaks.room + _WEIGHTS["gain"] * np.log1p(np.maximum(gain, 0))
    )
    chosen = _apart(peaks.yx, log_odds, max(_spacing_px(nuclei), _SPACING_RADII * nuclei.median_radius_px))
    return Places(peaks.yx[chosen], best[chosen], share[chosen])


def _find_peaks(molecules: Molecules, free: NDArray[np.floating], labels: NDArray[np.int32], nuclei: Nuclei) -> _Peaks:
    radius = nuclei.median_radius_px
    around = _density_around(molecules, labels, radius)
    margin = int(_REACH_RADII * radius) + 1
    found = [_peaks(pair, maps, part, radius, around) for pair, maps, part in _windows(molecules, free, labels, margin)]
    return _Peaks(
        np.concatenate([peaks.yx for peaks in found]),
        np.concatenate([peaks.distance for peaks in found]),
        np.concatenate([peaks.room for peaks in found]),
    )


def _density_around(molecules: Molecules, labels: NDArray[np.int32], radius: float) -> float:
    """Transcripts per pixel within a radius of the nuclei."""
    n_transcripts = n_pixels = 0.0
    for (tile, wide), (counts, _), part in _windows(molecules, None, labels, int(radius) + 1):
        margin = tile.y0 - wide.y0
        core = (slice(margin, margin + tile.height), slice(margin, margin + tile.width))
        near = ndimage.distance_transform_edt(part <= 0)[core] <= radius if (part > 0).any() else np.zeros((tile.height, tile.width), bool)
        near &= part[core] == 0
        n_transcripts += float(counts[core][near].sum())
        n_pixels += float(near.sum())
    return max(n_transcripts, 1.0) / max(n_pixels, 1.0)


def _windows(
    molecules: Molecules, free: NDArray[np.floating] | None, labels: NDArray[np.int32], margin: int
) -> Iterator[tuple[tuple[Window, Window], tuple[NDArray[np.float32], NDArray[np.float32]], NDArray[np.int32]]]:
    """Tiles with a margin: the two windows, transcripts and free ones per pixel, and labels; -1 beyond the tissue."""
    pixel = np.floor(molecules.yx_px).astype(np.int64)
    flat = pixel[:, 0] * labels.shape[1] + pixel[:, 1]
    order = np.argsort(flat, kind="stable")
    flat = flat[order]
    for tile in tiles((int(labels.shape[0]), int(labels.shape[1])), _TILE_PX):
        wide = tile.grown(margin)
        rows = np.arange(max(wide.y0, 0), min(wide.y0 + wide.height, labels.shape[0]))
        part = slice(*np.searchsorted(flat, [rows[0] * labels.shape[1], (rows[-1] + 1) * labels.shape[1]]))
        y, x = np.divmod(flat[part], labels.shape[1])
        inside = (x >= wide.x0) & (x < wide.x0 + wide.width)
        at = (y[inside] - wide.y0, x[inside] - wide.x0)
        counts, free_counts = np.zeros((2, wide.height, wide.width), np.float32)
        np.add.at(counts, at, 1)
        if free is not None:
            np.add.at(free_counts, at, free[order[part]][inside])
        yield (tile, wide), (counts, free_counts), wide.cut(labels, fill=-1)


def _peaks(
    windows: tuple[Window, Window],
    maps: tuple[NDArray[np.float32], NDArray[np.float32]],
    labels: NDArray[np.int32],
    radius: float,
    around: float,
) -> _Peaks:
    """Candidate places of one tile."""
    tile, wide = windows
    margin = tile.y0 - wide.y0
    core = (slice(margin, margin + tile.height), slice(margin, margin + tile.width))
    # beyond the border of the tissue lies what a nucleus would be: cells are cut there, and theirs may lie outside
    distance = np.full(labels.shape, _REACH_RADII)
    if (labels != 0).any():
        distance = np.minimum(ndimage.distance_transform_edt(labels == 0) / radius, _REACH_RADII)
    density, free = (ndimage.gaussian_filter(counts.astype(np.float64), _BLUR_RADII * radius) / around for counts in maps)
    room, free_room = (
        ndimage.gaussian_filter(np.minimum(distance, _ROOM_RADII) * part, _SMOOTHING_RADII * radius)
        for part in (np.minimum(density, 1), free)
    )
    peak = (free_room >= ndimage.maximum_filter(free_room, size=2 * int(1.2 * radius) + 1)) & (distance >= _MIN_DISTANCE_RADII)
    y, x = np.nonzero(peak[core] & (free[core] >= _MIN_FREE_DENSITY))
    at = (y + margin, x + margin)
    return _Peaks(np.stack([y + tile.y0, x + tile.x0], 1), distance[at], room[at])


def _type_of(
    peaks: _Peaks,
    molecules: Molecules,
    nuclei: Nuclei,
    types: CellTypes,
    log_profiles: NDArray[np.float64],
    log_ambient: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """What the transcripts of each place say: gain by a type of its own over the types of the nearest nuclei, that type, and its share."""
    n_neighbours = min(_N_NEIGHBOURS, len(nuclei))
    _, neighbour = nuclei.tree.query(peaks.yx, k=range(1, n_neighbours + 1))
    inside = cKDTree(molecules.yx_px).query_ball_point(peaks.yx + 0.5, np.minimum(peaks.distance, 3) * nuclei.median_radius_px)
    gain, best, share = np.zeros(len(peaks.yx)), np.zeros(len(peaks.yx), np.int64), np.zeros(len(peaks.yx))
    for k, members in enumerate(inside):
        gene = molecules.gene[members]
        likelihood = log_profiles[:, gene].sum(axis=1)
        best[k] = likelihood.argmax()
        share[k] = 1 / np.exp(likelihood - likelihood.max()).sum()
        codes = types.initial[neighbour[k]]
        known = codes[codes >= 0]
        rival = likelihood[known].max() if len(known) else log_ambient[gene].sum()
        gain[k] = likelihood[best[k]] - rival
    return gain, best, share


def _spacing_px(nuclei: Nuclei) -> float:
    if len(nuclei) < 2:
        return 0.0
    distance, _ = nuclei.tree.query(nuclei.centre_px, k=2)
    return _SPACING * float(np.median(distance[:, 1]))


def _apart(yx: NDArray[np.int64], log_odds: NDArray[np.float64], spacing_px: float) -> NDArray[np.int64]:
    """Likeliest places first, none closer than `spacing_px` to a likelier one."""
    order = np.argsort(-log_odds, kind="stable")
    order = order[log_odds[order] >= _MIN_LOG_ODDS]
    if not len(order):
        return order
    near = cKDTree(yx[order]).query_ball_point(yx[order], spacing_px)
    taken = np.zeros(len(order), bool)
    for k, others in enumerate(near):
        taken[k] = not any(taken[other] for other in others if other != k)
    return order[taken]
