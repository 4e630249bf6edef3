"""Random sign vectors whose products with a Jacobian estimate the norms of its columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from sjg.core import InputError

ProbeKind = Literal["signs", "interleaved"]


def probe_vectors(
    kind: ProbeKind, n_probes: int, *, like: Tensor, generator: torch.Generator, origin_px: tuple[int, int] | None = None
) -> Iterator[Tensor]:
    """Yield `n_probes` tensors v of the shape (B, H, W) of `like` with ``sum_v (J^T v)_p^2`` unbiased for ``||J_p||^2``.

    ``"signs"``: every entry is +-1 / sqrt(n), the variance falls as 1 / n (Hutchinson).
    ``"interleaved"``: the pixels are split into n interleaved lattices with one sign vector, supported on its lattice, for each
    (probing). Only pixels of one lattice interfere, and they are far apart, so a network whose influence decays with distance is estimated more sharply at
    the same cost; with one probe per output pixel the result is exact.

    With the `origin_px` (y, x) of the raster in a larger one, the vectors belong to places of the larger raster: where two windows
    overlap, they agree if their generators do.
    """
    if kind not in get_args(ProbeKind):
        raise InputError(f"probes is {kind!r}; valid are {', '.join(get_args(ProbeKind))}.")
    height, width = like.shape[-2:]
    y0, x0 = origin_px or (0, 0)
    rows, columns = torch.arange(y0, y0 + height, device=like.device), torch.arange(x0, x0 + width, device=like.device)

    def signs_now() -> Tensor:
        if origin_px is None:
            return random_signs(like.shape, like=like, generator=generator)
        return _signs_of_places(rows, columns, generator).to(like.dtype).expand_as(like)

    if kind == "signs":
        for _ in range(n_probes):
            yield signs_now() / n_probes**0.5
        return
    slope = width if n_probes >= height * width else _lattice_slope(n_probes)
    lattice = (columns[None, :] + slope * rows[:, None]) % n_probes
    signs = signs_now()
    for index in range(n_probes):
        yield signs * (lattice == index)


def random_signs(shape: torch.Size, *, like: Tensor, generator: torch.Generator) -> Tensor:
    """+-1 with equal chance; drawn on the generator's device, so a CPU generator gives the same signs on every device."""
    bits = torch.randint(0, 2, tuple(shape), generator=generator, device=generator.device, dtype=torch.int8)
    return (2 * bits - 1).to(device=like.device, dtype=like.dtype)


def _signs_of_places(rows: Tensor, columns: Tensor, generator: torch.Generator) -> Tensor:
    """(H, W) +-1 by a hash of the row, the column and a key from the generator."""
    key = int(torch.randint(0, 2**31, (1,), generator=generator, device=generator.device))
    mask = 2**32 - 1
    value = (rows[:, None] * 0x9E3779B1 + columns[None, :] * 0x85EBCA77 + key * 0xC2B2AE3D) & mask
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        value = ((value ^ (value >> shift)) * factor) & mask
    return 2 * (value & 1) - 1


def _lattice_slope(n: int) -> int:
    """Slope a for which the nearest points of the lattice ``x + a y = 0 (mod n)`` are as far apart as possible."""

    def nearest(a: int) -> int:
        reach = range(-n, n + 1)
        return min(dx * dx + dy * dy for dy in range(n + 1) for dx in reach if (dx + a * dy) % n == 0 and (dx, dy) != (0, 0))

    if n > 64:  # the golden section is near the optimum, and the search would cost n^3
        return max(1, round(n * 0.381966))
    return max(range(1, n + 1), key=nearest)
