"""Places where a nucleus may have been missed: far from every nucleus, amid transcripts that no cell claims."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from sjg.core import CellTypes
from sjg.training._nuclei import Nuclei
from sjg.training._tissue import Tissue
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
_WEIGHTS = {"distance": 0.97, "room": 2.79, "gain": 0.55}
_BIAS = -6.13
#: the competition decides, so places that are rather not cells are put to it too
_MIN_LOG_ODDS = -2.5
#: nuclei whose types the place is compared with
_N_NEIGHBOURS = 5
#: its transcripts are those between it and the nearest nucleus, at most so many radii away
_TYPE_RADII = 3.0
#: two places closer than this, in median distances from a nucleus to the next and in radii, would share a cell
_SPACING, _SPACING_RADII = 0.8, 2.0


@dataclass(frozen=True)
class _Peaks:
    """(m, 2) pixels, (m,) distance to a nucleus in radii, room, gain by a type of its own, that type, and its share."""

    yx: NDArray[np.int64]
    distance: NDArray[np.float64]
    room: NDArray[np.float64]
    gain: NDArray[np.float64]
    code: NDArray[np.int64]
    share: NDArray[np.float64]


@dataclass(frozen=True)
class _Part:
    """A tile with a margin: itself, its place in the arrays, its molecules, transcripts and free ones per pixel, and labels; -1 beyond the tissue."""

    tile: Window
    inner: Window
    yx_px: NDArray[np.float32]
    gene: NDArray[np.int32]
    counts: NDArray[np.float32]
    free: NDArray[np.float32]
    labels: NDArray[np.integer]


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
    tissue: Tissue,
    free: NDArray[np.floating],
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
    tissue
        Transcripts and nuclei.
    free
        (N,) probability that no cell has the tissue's molecules.
    types
        Start types of the nuclei.
    log_profiles, log_ambient
        (K, G) log probability of each gene in each type, (G,) in all transcripts.
    """
    peaks = find_peaks(tissue, free, types, log_profiles, log_ambient)
    log_odds = _BIAS + (
        _WEIGHTS["distance"] * peaks.distance + _WEIGHTS["room"] * peaks.room + _WEIGHTS["gain"] * np.log1p(np.maximum(peaks.gain, 0))
    )
    chosen = _apart(peaks.yx, log_odds, max(_spacing_px(tissue.nuclei), _SPACING_RADII * tissue.radius_px))
    return Places(peaks.yx[chosen], peaks.code[chosen], peaks.share[chosen])


def find_peaks(
    tissue: Tissue,
    free: NDArray[np.floating],
    types: CellTypes,
    log_profiles: NDArray[np.float64],
    log_ambient: NDArray[np.float64],
) -> _Peaks:
    """All candidates, as :func:`propose_places` has them."""
    around = _density_around(tissue)
    found = []
    for part in _parts(tissue, free, int(_REACH_RADII * tissue.radius_px) + 1):
        yx, distance, room = _peaks(part, tissue.radius_px, around)
        found.append((yx, distance, room, *_type_of(yx, distance, part, tissue, types, log_profiles, log_ambient)))
    return _Peaks(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _density_around(tissue: Tissue) -> float:
    """Transcripts per pixel within a radius of the nuclei."""
    n_transcripts = n_pixels = 0.0
    for part in _parts(tissue, None, int(tissue.radius_px) + 1):
        labels = part.labels
        if (labels > 0).any():
            near = (part.inner.of(ndimage.distance_transform_edt(labels <= 0)) <= tissue.radius_px) & (part.inner.of(labels) == 0)
            n_transcripts += float(part.inner.of(part.counts)[near].sum())
            n_pixels += float(near.sum())
    return max(n_transcripts, 1.0) / max(n_pixels, 1.0)


def _parts(tissue: Tissue, free: NDArray[np.floating] | None, margin: int) -> Iterator[_Part]:
    for tile in tiles(tissue.shape, _TILE_PX):
        wide = tile.grown(margin)
        index = tissue.molecules_in(wide)
        yx = tissue.molecules.yx_px[index]
        at = tuple((np.floor(yx).astype(np.int64) - (wide.y0, wide.x0)).T)
        counts, free_counts = np.zeros((2, wide.height, wide.width), np.float32)
        np.add.at(counts, at, 1)
        if free is not None:
            np.add.at(free_counts, at, free[index])
        yield _Part(
            tile, tile.moved(-wide.y0, -wide.x0), yx, tissue.molecules.gene[index], counts, free_counts, wide.cut(tissue.labels, fill=-1)
        )
        tissue.release()


def _peaks(part: _Part, radius: float, around: float) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Candidate places of one tile: pixels, distance in radii, room."""
    # beyond the border of the tissue lies what a nucleus would be: cells are cut there, and theirs may lie outside
    distance = np.full(part.labels.shape, _REACH_RADII)
    if (part.labels != 0).any():
        distance = np.minimum(ndimage.distance_transform_edt(part.labels == 0) / radius, _REACH_RADII)
    density, free = (ndimage.gaussian_filter(c.astype(np.float64), _BLUR_RADII * radius) / around for c in (part.counts, part.free))
    room, free_room = (
        ndimage.gaussian_filter(np.minimum(distance, _ROOM_RADII) * d, _SMOOTHING_RADII * radius) for d in (np.minimum(density, 1), free)
    )
    peak = (free_room >= ndimage.maximum_filter(free_room, size=2 * int(1.2 * radius) + 1)) & (distance >= _MIN_DISTANCE_RADII)
    y, x = np.nonzero(part.inner.of(peak & (free >= _MIN_FREE_DENSITY)))
    return np.stack([y + part.tile.y0, x + part.tile.x0], 1), part.inner.of(distance)[y, x], part.inner.of(room)[y, x]


def _type_of(
    yx: NDArray[np.int64],
    distance: NDArray[np.float64],
    part: _Part,
    tissue: Tissue,
    types: CellTypes,
    log_profiles: NDArray[np.float64],
    log_ambient: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """What the transcripts of each place say: gain by a type of its own over the types of the nearest nuclei, that type, and its share."""
    gain, best, share = np.zeros(len(yx)), np.zeros(len(yx), np.int64), np.zeros(len(yx))
    if not len(yx):
        return gain, best, share
    _, neighbour = tissue.nuclei.tree.query(yx + 0.5, k=range(1, min(_N_NEIGHBOURS, len(tissue.nuclei)) + 1))
    inside = cKDTree(part.yx_px).query_ball_point(yx + 0.5, np.minimum(distance, _TYPE_RADII) * tissue.radius_px)
    for k, members in enumerate(inside):
        gene = part.gene[members]
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
