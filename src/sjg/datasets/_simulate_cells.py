"""Shapes of simulated cells and nuclei: irregular cells in contact, with extracellular gaps and off-centre nuclei."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from sjg.datasets._smooth_noise import smooth_noise

#: decisions are taken on integers so that a difference in the last bit of a float cannot move a boundary
_LEVELS = 4096
#: standard deviation of the 2nd, 3rd and 4th harmonic of a cell's outline, relative to its radius
_HARMONICS = (0.14, 0.07, 0.04)


def scatter_centres(rng: np.random.Generator, shape: tuple[int, int], n_cells: int, *, n_rounds: int = 3) -> NDArray[np.float64]:
    """Cell centres as (n_cells, 2) (y, x) in pixels: uniform points pushed apart by `n_rounds` of Lloyd's algorithm."""
    centres = np.column_stack([rng.integers(0, size * 64, n_cells) for size in shape]) / 64
    stride = max(1, int((shape[0] * shape[1] / n_cells) ** 0.5 / 6))
    sites = np.stack(np.meshgrid(*(np.arange(stride // 2, size, stride) for size in shape), indexing="ij"), axis=-1).reshape(-1, 2)
    for _ in range(n_rounds):
        _, owner = cKDTree(centres).query(sites)
        n_sites = np.bincount(owner, minlength=n_cells)
        # sums of integers are exact in any order; sums of floats are not
        means = np.column_stack([np.bincount(owner, weights=axis, minlength=n_cells) for axis in sites.T]) / np.maximum(n_sites, 1)[:, None]
        centres = np.where(n_sites[:, None] > 0, np.round((means + 0.5) * 64) / 64, centres)
    return centres


def draw_cells(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centres: NDArray[np.float64],
    radius_px: NDArray[np.float64],
    *,
    coverage: float,
    pixel_size_um: float,
    irregularity: float = 1.0,
    warping: float = 1.0,
    gap_roughness: float = 1.0,
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Cells as labels.

    Each pixel goes to the cell with the smallest distance in units of that cell's own radius, measured in a warped plane to an outline
    with random harmonics. The pixels farthest from any centre, up to a smooth random field, become the gaps.

    Parameters
    ----------
    rng
        Source of warps, outlines and gaps.
    shape
        (height, width) in pixels.
    centres
        (n, 2) positions as (y, x) in pixels.
    radius_px
        (n,) relative size of the cells.
    coverage
        Fraction of the pixels that belong to a cell.
    pixel_size_um
        Side of a pixel in micrometres; scales the irregularity.
    irregularity, warping, gap_roughness
        Factors on the harmonics of the outlines, on the warp of the plane and on the random field of the gaps.

    Returns
    -------
    (height, width) int32 labels, contiguous ids, each one 4-connected region, and the row of `centres` of each id.
    """
    px_per_um = 1 / pixel_size_um
    warp = [np.zeros(shape), np.zeros(shape)]
    for scale_um, amplitude_um in ((10.0, 1.1), (3.5, 0.45)):
        for axis in (0, 1):
            warp[axis] += smooth_noise(rng, shape, max(scale_um * px_per_um, 1)) * (warping * amplitude_um * px_per_um)
    gap = 0.17 * smooth_noise(rng, shape, max(14 * px_per_um, 1)) + 0.08 * smooth_noise(rng, shape, max(4 * px_per_um, 1))
    gap *= gap_roughness
    outline = rng.standard_normal((len(centres), len(_HARMONICS), 2)) * (irregularity * np.asarray(_HARMONICS))[None, :, None]

    unreached = np.iinfo(np.int32).max
    best = np.full(shape, unreached, np.int32)
    labels = np.zeros(shape, np.int32)
    for i, ((y, x), radius) in enumerate(zip(centres, radius_px, strict=True)):
        reach = int(2.6 * radius + 4 * px_per_um) + 2
        window = (
            slice(max(int(y) - reach, 0), min(int(y) + reach + 1, shape[0])),
            slice(max(int(x) - reach, 0), min(int(x) + reach + 1, shape[1])),
        )
        dy = np.arange(window[0].start, window[0].stop)[:, None] + 0.5 - y + warp[0][window]
        dx = np.arange(window[1].start, window[1].stop)[None, :] + 0.5 - x + warp[1][window]
        score = np.rint(_outline_distance(dy, dx, outline[i]) * (_LEVELS / radius)).astype(np.int32)
        closer = score < best[window]
        best[window][closer] = score[closer]
        labels[window][closer] = i + 1

    height = best.astype(np.float64) + np.rint(gap * _LEVELS)
    n_inside = int(round(coverage * height.size))
    if n_inside < height.size:
        labels[height > np.partition(height, n_inside, axis=None)[n_inside]] = 0
    labels[best == unreached] = 0
    return _settle(labels, min_area_px2=0.12 * coverage * labels.size / max(len(centres), 1))


def _outline_distance(dy: NDArray[np.float64], dx: NDArray[np.float64], outline: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance divided by the relative radius of the outline in that direction."""
    distance = np.sqrt(dy * dy + dx * dx)
    safe = np.maximum(distance, 1e-9)
    cosine, sine = dx / safe, dy / safe
    # cos(k t) and sin(k t) by the angle-sum rule: no trigonometric call, same bits everywhere
    ck, sk = cosine, sine
    relative = np.ones_like(distance)
    for a, b in outline:
        ck, sk = ck * cosine - sk * sine, sk * cosine + ck * sine
        relative = relative + a * ck + b * sk
    return distance / np.clip(relative, 0.55, 1.6)


def _settle(labels: NDArray[np.int32], *, min_area_px2: float) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """One hole-free 4-connected region per cell, small cells dropped, ids made contiguous; and the old index (from 0) of each id."""
    settled = np.zeros_like(labels)
    new_id = 0
    kept = []
    for i, window in enumerate(ndimage.find_objects(labels)):
        if window is None:
            continue
        pieces, n_pieces = ndimage.label(labels[window] == i + 1)
        sizes = np.bincount(pieces.ravel(), minlength=n_pieces + 1)[1:]
        piece = pieces == int(np.argmax(sizes)) + 1
        if sizes.max() < min_area_px2:
            continue
        new_id += 1
        kept.append(i)
        settled[window][piece] = new_id
    # only now are the islands of other cells gone from the holes
    for i, window in enumerate(ndimage.find_objects(settled)):
        settled[window][ndimage.binary_fill_holes(settled[window] == i + 1) & (settled[window] == 0)] = i + 1
    return settled, np.asarray(kept, np.int64)


def draw_nuclei(
    rng: np.random.Generator,
    cells: NDArray[np.int32],
    *,
    area_fraction: float,
    size_spread: float,
    pixel_size_um: float,
    centrality: float = 0.65,
) -> NDArray[np.int32]:
    """One nucleus in each cell: off centre, elliptic with an irregular outline, its size only partly that of its cell.

    Parameters
    ----------
    rng
        Source of positions, sizes and shapes.
    cells
        (height, width) int32 labels, contiguous ids.
    area_fraction
        Area of the nucleus over that of its cell, for a cell of mean area.
    size_spread
        Standard deviation of the logarithm of the nuclear area among cells of one size.
    pixel_size_um
        Side of a pixel in micrometres.
    centrality
        A nucleus is centred where the distance to the border of its cell is at least this part of the largest.

    Returns
    -------
    (height, width) int32 labels: nucleus i is one 4-connected region inside cell i.
    """
    n_cells = int(cells.max(initial=0))
    nuclei = np.zeros_like(cells)
    if n_cells == 0:
        return nuclei
    area = np.bincount(cells.ravel(), minlength=n_cells + 1)[1:]
    relative = area / area.mean()
    target = area_fraction * area.mean() * np.sqrt(relative) * np.exp(size_spread * rng.standard_normal(n_cells))
    target = np.clip(target, 6, 0.7 * area).astype(np.int64)
    ratio = 1 + 0.6 * rng.random(n_cells)
    axis = rng.standard_normal((n_cells, 2))
    pick = rng.random(n_cells)
    ripple = smooth_noise(rng, cells.shape, max(2.5 / pixel_size_um, 1))
    margin_px = max(1.0, 0.6 / pixel_size_um)
    for i, window in enumerate(ndimage.find_objects(cells)):
        inside = np.pad(cells[window] == i + 1, 1)
        depth = ndimage.distance_transform_edt(inside)[1:-1, 1:-1]
        rows, columns = np.nonzero(depth >= centrality * depth.max())
        k = int(pick[i] * len(rows))
        unit = axis[i] / np.sqrt((axis[i] * axis[i]).sum() + 1e-12)
        dy = np.arange(depth.shape[0])[:, None] - float(rows[k])
        dx = np.arange(depth.shape[1])[None, :] - float(columns[k])
        along, across = dy * unit[0] + dx * unit[1], dx * unit[0] - dy * unit[1]
        score = np.sqrt(along * along / ratio[i] + across * across * ratio[i]) * (1 + 0.09 * np.clip(ripple[window], -3, 3))
        allowed = depth > min(margin_px, 0.5 * depth.max())
        allowed[rows[k], columns[k]] = True
        order = np.flatnonzero(allowed)
        nearest = order[np.argsort(np.rint(score.ravel()[order] * _LEVELS), kind="stable")[: target[i]]]
        chosen = np.zeros(depth.shape, bool)
        chosen.ravel()[nearest] = True
        pieces, _ = ndimage.label(chosen)
        piece = pieces == pieces[rows[k], columns[k]] if chosen[rows[k], columns[k]] else pieces == 1
        nuclei[window][ndimage.binary_fill_holes(piece) & (cells[window] == i + 1)] = i + 1
    return nuclei
