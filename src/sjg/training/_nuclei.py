"""Shapes of nuclei and the candidates that compete for a point."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from sjg.core import InputError, release, strips

_N_ANGLES = 32
#: candidates are the nearest by boundary among this many times as many nearest by centre
_OVERSAMPLE = 2
#: against rounding
_SLACK_PX = 1e-3


@dataclass(frozen=True)
class Nuclei:
    """Star-shaped outlines of the nuclei 1..n of a label image.

    Parameters
    ----------
    centre_px
        (n, 2) centroids as (y, x).
    radius_px
        (n,) radius of the circle of equal area.
    outline_px
        (n, 32) distance of the outline from the centroid by direction.
    median_radius_px
        Unit of length of the competition: of these nuclei, or of all of which they are a part.
    """

    centre_px: NDArray[np.float64]
    radius_px: NDArray[np.float64]
    outline_px: NDArray[np.float64]
    median_radius_px: float

    def __len__(self) -> int:
        return len(self.radius_px)

    def of(self, index: NDArray[np.int64]) -> Nuclei:
        """Some of the nuclei."""
        return Nuclei(self.centre_px[index], self.radius_px[index], self.outline_px[index], self.median_radius_px)

    @cached_property
    def tree(self) -> cKDTree:
        """Of the centroids."""
        return cKDTree(self.centre_px)

    @cached_property
    def segments(self) -> torch.Tensor:
        """(n * 32, 2) float32: distance of the outline in each direction, and what it gains up to the next one."""
        gain = np.roll(self.outline_px, -1, axis=1) - self.outline_px
        return torch.from_numpy(np.stack([self.outline_px, gain], -1).reshape(-1, 2).astype(np.float32))


def measure_nuclei(labels: NDArray[np.integer]) -> Nuclei:
    """Outlines of the nuclei of a label image with ids 1..n, none of them empty.

    Parameters
    ----------
    labels
        (H, W) integer, 0 = no nucleus.
    """
    n = max((int(labels[rows].max(initial=0)) for rows in strips(labels.shape)), default=0)
    if n == 0:
        raise InputError("The nuclei labels hold no nucleus; segment nuclei first (sjg.pp.segment_nuclei).")
    area, moment = np.zeros(n), np.zeros((n, 2))
    for y, x, index in _pixels(labels):
        area += np.bincount(index, minlength=n)
        moment += np.stack([np.bincount(index, y, n), np.bincount(index, x, n)], 1)
    if (area == 0).any():
        raise InputError(f"Nucleus {int(np.flatnonzero(area == 0)[0]) + 1} has no pixel; renumber the labels from 1 without gaps.")
    centre = moment / area[:, None]
    radius = np.sqrt(area / np.pi)
    outline = np.zeros((n, _N_ANGLES))
    for y, x, index in _pixels(labels):
        dy, dx = y - centre[index, 0], x - centre[index, 1]
        np.maximum.at(outline, (index, _sector(dy, dx).astype(np.int64) % _N_ANGLES), np.hypot(dy, dx))
    release(labels)
    # Small nuclei leave directions without a pixel centre.
    outline = np.where(outline > 0, outline + 0.5, radius[:, None])
    outline = (np.roll(outline, 1, 1) + 2 * outline + np.roll(outline, -1, 1)) / 4
    return Nuclei(centre, radius, outline, float(np.median(radius)))


def _pixels(labels: NDArray[np.integer]) -> Iterator[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.int64]]]:
    """Centres (y, x) of the pixels in nuclei and their nuclei from 0, strip by strip."""
    for rows in strips(labels.shape):
        strip = labels[rows]
        y, x = np.nonzero(strip)
        yield y + (rows.start + 0.5), x + 0.5, strip[y, x].astype(np.int64) - 1
        release(labels)


def nearest_candidates(
    nuclei: Nuclei, yx_px: NDArray[np.floating], n_candidates: int
) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    """The nuclei nearest to each point by signed distance to their outline.

    Parameters
    ----------
    nuclei
        n nuclei.
    yx_px
        (P, 2) points.
    n_candidates
        M; where there are fewer nuclei, columns repeat with infinite distance.

    Returns
    -------
    Index from 0, signed distance to the outline (negative inside) and distance to the centre, each (P, M), nearest first.
    """
    n_asked = min(_OVERSAMPLE * n_candidates, len(nuclei))
    _, asked = nuclei.tree.query(yx_px, k=range(1, n_asked + 1), workers=torch.get_num_threads())
    # A tree orders what is equally near as it was built; by number, a part of the nuclei is asked in the order of the whole.
    asked.sort(axis=1)
    # In single precision and by PyTorch, whose arctangent is vectorised: this is where a pass over the tissue spends its time.
    # Places are taken from one corner, so that precision does not depend on where in the tissue they lie.
    corner = np.floor(np.min(yx_px, axis=0)) if len(yx_px) else np.zeros(2)
    place = torch.from_numpy((np.asarray(yx_px) - corner).astype(np.float32))
    cell = torch.from_numpy(np.asarray(asked, np.int64))
    centre = torch.from_numpy((nuclei.centre_px - corner).astype(np.float32).T.copy())
    dy, dx = place[:, :1] - centre[0][cell], place[:, 1:] - centre[1][cell]
    to_centre = torch.hypot(dy, dx)
    position = (torch.atan2(dy, dx) + math.pi) * (_N_ANGLES / (2 * math.pi)) - 0.5
    below = position.floor()
    edge = nuclei.segments[cell * _N_ANGLES + below.long() % _N_ANGLES]
    to_outline = to_centre - (edge[..., 0] + (position - below) * edge[..., 1])
    nearest, order = to_outline.topk(min(n_candidates, n_asked), dim=1, largest=False)
    index, signed, distance = cell.gather(1, order).numpy(), nearest.numpy(), to_centre.gather(1, order).numpy()
    missing = n_candidates - index.shape[1]
    if missing > 0:
        index = np.pad(index, ((0, 0), (0, missing)), mode="edge")
        signed = np.pad(signed, ((0, 0), (0, missing)), constant_values=np.inf)
        distance = np.pad(distance, ((0, 0), (0, missing)), constant_values=np.inf)
    return index, signed, distance


def asked_in(nuclei: Nuclei, low_px: NDArray[np.floating], high_px: NDArray[np.floating], n_candidates: int) -> NDArray[np.int64]:
    """All nuclei that :func:`nearest_candidates` may look at for points of a rectangle, and a few more.

    Parameters
    ----------
    nuclei
        n nuclei.
    low_px, high_px
        Corners (y, x) of the rectangle.
    n_candidates
        M.

    Returns
    -------
    Index from 0, ascending.
    """
    n_asked = min(_OVERSAMPLE * n_candidates, len(nuclei))
    sides = [np.linspace(a, b, 2 + int((b - a) / (2 * nuclei.median_radius_px))) for a, b in zip(low_px, high_px, strict=True)]
    knots = np.stack(np.meshgrid(*sides, indexing="ij"), -1).reshape(-1, 2)
    distance, _ = nuclei.tree.query(knots, k=[n_asked])
    # A point is at most half a diagonal from a knot, so its last one is at most a diagonal further from the knot than the knot's last one.
    diagonal = float(np.hypot(*(side[1] - side[0] for side in sides)))
    found = nuclei.tree.query_ball_point(knots, distance[:, 0] + diagonal + _SLACK_PX)
    return np.unique(np.concatenate([np.asarray(each, np.int64) for each in found]))


def outline_distance(nuclei: Nuclei, index: NDArray[np.int64], yx_px: NDArray[np.floating]) -> NDArray[np.float64]:
    """Signed distance of points to the outline of one nucleus each, negative inside.

    Parameters
    ----------
    nuclei
        n nuclei.
    index
        (C,) nuclei from 0.
    yx_px
        (C, P, 2) points of each of them.
    """
    offset = np.asarray(yx_px) - nuclei.centre_px[index][:, None]
    return np.hypot(offset[..., 0], offset[..., 1]) - _edge(nuclei, np.broadcast_to(index[:, None], offset.shape[:2]), offset)


def _edge(nuclei: Nuclei, index: NDArray[np.integer], offset: NDArray[np.floating]) -> NDArray[np.float64]:
    """Distance of the outline from the centre in the direction of `offset` (..., 2)."""
    position = _sector(offset[..., 0], offset[..., 1]) - 0.5
    below = np.floor(position)
    weight = position - below
    first = below.astype(np.int64)
    edge: NDArray[np.float64] = (
        nuclei.outline_px[index, first % _N_ANGLES] * (1 - weight) + nuclei.outline_px[index, (first + 1) % _N_ANGLES] * weight
    )
    return edge


def _sector(dy: NDArray[np.floating], dx: NDArray[np.floating]) -> NDArray[np.float64]:
    return (np.arctan2(dy, dx) + np.pi) / (2 * np.pi) * _N_ANGLES
