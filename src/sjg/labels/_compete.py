"""Competition for pixels by shortest paths.

A pixel belongs to one label and a path may only run through pixels of its own label, so a territory is always connected: the order
of seeded region growing, that is, Dijkstra's algorithm on the joint frontier of all labels. No step is cheaper than `step_cost`, so
every pixel on the frontier that can be reached for less than the cheapest one plus `step_cost` is final already and all of them are
settled in one vectorised sweep. The result is that of a heap, pixel by pixel, at the speed of a few dozen to a few hundred sweeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_OFFSETS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
_STEPS_PX = (1.0,) * 4 + (math.sqrt(2.0),) * 4
#: sums of steps in float32 may exceed a whole number by rounding
_LENGTH_TOLERANCE_PX = 1e-3


def pick(values: Tensor, index: Tensor) -> Tensor:
    """``values[index]`` for 1-D values and an index of any shape, in half the time on a CPU."""
    return values.index_select(0, index.reshape(-1)).view(index.shape)


@dataclass(frozen=True)
class Prices:
    """What a step costs.

    Parameters
    ----------
    log_posterior
        (K + 1, H, W) log probability of every class at every pixel.
    instance_type
        (n + 1,) int64 class of each label.
    type_weight
        Weight of -log p in the price of a step.
    step_cost
        Price of one pixel of path.
    max_distance_px
        Longest path, None for no limit.
    """

    log_posterior: Tensor
    instance_type: Tensor
    type_weight: float
    step_cost: float
    max_distance_px: float | None

    def of(self, instance: Tensor, pixel: Tensor, step_px: Tensor) -> tuple[Tensor, Tensor]:
        """Price of entering `pixel` (flat index, unpadded) as `instance` over `step_px`, and -log p there."""
        n_pixels = self.log_posterior.shape[1] * self.log_posterior.shape[2]
        place = pick(self.instance_type, instance) * n_pixels + pixel
        nll = pick(self.log_posterior.view(-1), place).to(torch.float32).clamp(max=0.0).neg()
        # each operation is rounded on its own, so that every device and a scalar loop give the same bits;
        # 0 * inf is not a number, hence the case
        factor = torch.ones_like(nll) if self.type_weight == 0 else nll * self.type_weight + 1.0
        return factor * (step_px * self.step_cost), nll


@dataclass(frozen=True)
class Precedence:
    """What settles a tie between two labels; the ids play no part.

    Parameters
    ----------
    centre_sum_px
        (n + 1, 2) int64 sums of the rows and columns of each nucleus.
    area_px2
        (n + 1,) int64 pixels of each nucleus.
    rank
        (n + 1,) int64 order of the nuclei by their first pixel in the raster.
    """

    centre_sum_px: Tensor
    area_px2: Tensor
    rank: Tensor

    @classmethod
    def of(cls, nuclei: Tensor, n: int) -> Precedence:
        """Of the nuclei 1..n in an (H, W) int64 raster."""
        width = nuclei.shape[1]
        flat = nuclei.reshape(-1)
        pixel = torch.arange(flat.numel(), device=flat.device)
        sums = torch.zeros((n + 1, 2), dtype=torch.int64, device=flat.device)
        sums.index_add_(0, flat, torch.stack([pixel // width, pixel % width], 1))
        first = torch.full((n + 1,), flat.numel(), device=flat.device).scatter_reduce_(0, flat, pixel, "amin")
        rank = torch.empty_like(first)
        rank[torch.argsort(first)] = torch.arange(n + 1, device=flat.device)
        return cls(sums, torch.bincount(flat, minlength=n + 1), rank)

    def keys(self, label: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distance to the centre of the nucleus, and its rank."""
        area, sums = self.area_px2[label], self.centre_sum_px[label]
        # differences of whole numbers come first: their magnitudes stay exactly the same when the raster is turned
        dy = (row * area - sums[..., 0]).to(torch.float32)
        dx = (column * area - sums[..., 1]).to(torch.float32)
        return (dy * dy + dx * dx) / area.clamp(min=1).to(torch.float32).square(), self.rank[label].to(torch.float32)


class Frontier:
    """State of a competition on a flat raster with a border of one pixel.

    Parameters
    ----------
    sources
        (H, W) int64 labels that compete, 0 = none.
    source_cost
        (H, W) float32 cost at which each source pixel starts.
    free
        (H, W) bool, pixels that may be taken.
    only
        (H, W) int64: the one label that may take a free pixel; None = any.
    """

    def __init__(self, sources: Tensor, source_cost: Tensor, free: Tensor, only: Tensor | None = None) -> None:
        self.shape = (int(sources.shape[0]), int(sources.shape[1]))
        self.stride = self.shape[1] + 2
        device = sources.device
        self.label = self._padded(sources, 0)
        self.cost = self._padded(torch.where(sources > 0, source_cost, torch.inf), torch.inf)
        self.length_px = torch.zeros_like(self.cost)
        self.offset = torch.tensor([dy * self.stride + dx for dy, dx in _OFFSETS], device=device)
        self.step_px = torch.tensor(_STEPS_PX, dtype=torch.float32, device=device)
        #: pixels that may be taken and are not yet
        self.open = self._padded(free & (sources == 0), False)
        #: the cheapest offer so far for each open pixel
        self.tentative = torch.full_like(self.cost, torch.inf)
        self.signature = torch.zeros_like(self.cost, dtype=torch.int32)
        self.only = None if only is None else self._padded(only, 0)

    def labels(self) -> Tensor:
        """(H, W) int64 labels."""
        return self._inside(self.label)

    def costs(self) -> Tensor:
        """(H, W) float32 costs, inf where no label arrived."""
        return self._inside(self.cost)

    def settle_all(self, prices: Prices, precedence: Precedence) -> int:
        """Settle pixels in order of cost until no offer is left; returns the number of sweeps."""
        waiting = self._offer(torch.nonzero(self.label).squeeze(1), prices)
        sweeps = 0
        while len(waiting):
            sweeps += 1
            tentative = pick(self.tentative, waiting)
            cheapest = tentative.min()
            # the equality keeps going where a step is lost in the rounding of a huge cost
            now = (tentative < cheapest + prices.step_cost) | (tentative == cheapest)
            settled = waiting[now]
            self._settle(settled, prices, precedence)
            waiting = torch.cat([waiting[~now], self._offer(settled, prices)])
        return sweeps

    def _offer(self, pixels: Tensor, prices: Prices) -> Tensor:
        """Offer the neighbours of settled pixels to their labels; returns the open pixels that had no offer before."""
        target = pixels[:, None] + self.offset
        which, direction = torch.nonzero(pick(self.open, target), as_tuple=True)
        origin, step_px = pick(pixels, which), pick(self.step_px, direction)
        target = origin + pick(self.offset, direction)
        label = pick(self.label, origin)
        price, _ = prices.of(label, self._unpadded(target), step_px)
        cost = pick(self.cost, origin) + price
        valid = torch.isfinite(cost)
        if prices.max_distance_px is not None:
            valid &= pick(self.length_px, origin) + step_px <= prices.max_distance_px + _LENGTH_TOLERANCE_PX
        if self.only is not None:
            valid &= self.only[target] == label
        target, cost = target[valid], cost[valid]
        fresh = target[torch.isinf(pick(self.tentative, target))]
        self.tentative.scatter_reduce_(0, target, cost, "amin")
        # each once: the last to sign stays, whichever it is (faster than sorting)
        turn = torch.arange(len(fresh), dtype=torch.int32, device=fresh.device)
        self.signature[fresh] = turn
        return fresh[self.signature[fresh] == turn]

    def _settle(self, pixels: Tensor, prices: Prices, precedence: Precedence) -> None:
        """Give each pixel to the neighbour whose offer stands; all the neighbours that could win are settled."""
        neighbour = pixels[:, None] + self.offset
        label = pick(self.label, neighbour)
        plain = self._unpadded(pixels)[:, None]
        price, nll = prices.of(label, plain, self.step_px)
        cost = pick(self.cost, neighbour) + price
        length = pick(self.length_px, neighbour) + self.step_px
        if prices.max_distance_px is not None:
            cost = cost.masked_fill(length > prices.max_distance_px + _LENGTH_TOLERANCE_PX, torch.inf)
        if self.only is not None:
            cost = cost.masked_fill(self.only[pixels][:, None] != label, torch.inf)
        best = pick(self.tentative, pixels)
        stands = cost == best[:, None]
        tied = torch.nonzero(stands.sum(1) > 1).squeeze(1)
        if len(tied):
            near, rank = precedence.keys(label[tied], plain[tied] // self.shape[1], plain[tied] % self.shape[1])
            left = stands[tied]
            for key in (nll[tied], near, rank, length[tied]):
                masked = key.masked_fill(~left, torch.inf)
                left = left & (masked == masked.amin(1, keepdim=True))
            stands[tied] = left
        choice = stands.to(torch.uint8).argmax(1, keepdim=True)
        self.label[pixels] = label.gather(1, choice).squeeze(1)
        self.length_px[pixels] = length.gather(1, choice).squeeze(1)
        self.cost[pixels] = best
        self.open[pixels] = False

    def _unpadded(self, index: Tensor) -> Tensor:
        """Flat index without the border; clamped on the border, where it is never used."""
        height, width = self.shape
        row = (index // self.stride - 1).clamp(0, height - 1)
        return row * width + (index % self.stride - 1).clamp(0, width - 1)

    def _padded(self, inner: Tensor, value: float) -> Tensor:
        return torch.nn.functional.pad(inner, (1, 1, 1, 1), value=value).view(-1)

    def _inside(self, flat: Tensor) -> Tensor:
        return flat.view(self.shape[0] + 2, self.stride)[1:-1, 1:-1].contiguous()
