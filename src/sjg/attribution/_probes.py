"""Random sign vectors whose products with a Jacobian estimate the norms of its columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from sjg.core import InputError

ProbeKind = Literal["signs", "interleaved"]


def probe_vectors(kind: ProbeKind, n_probes: int, *, like: Tensor, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield `n_probes` tensors v of the shape (B, H, W) of `like` with ``sum_v (J^T v)_p^2`` unbiased for ``||J_p||^2``.

    ``"signs"``: every entry is +-1 / sqrt(n), the variance falls as 1 / n (Hutchinson).
    ``"interleaved"``: the pixels are split into n interleaved lattices with one sign vector, supported on its lattice, for each
    (probing). Only pixels of one lattice interfere, and they are far apart, so a network whose influence decays with distance is estimated more sharply at
    the same cost; with one probe per output pixel the result is exact.
    """
    if kind not in get_args(ProbeKind):
        raise InputError(f"probes is {kind!r}; valid are {', '.join(get_args(ProbeKind))}.")
    if kind == "signs":
        for _ in range(n_probes):
            yield random_signs(like.shape, like=like, generator=generator) / n_probes**0.5
        return
    height, width = like.shape[-2:]
    slope = width if n_probes >= height * width else _lattice_slope(n_probes)
    rows, columns = torch.arange(height, device=like.device), torch.arange(width, device=like.device)
    lattice = (columns[None, :] + slope * rows[:, None]) % n_probes
    signs = random_signs(like.shape, like=like, generator=generator)
    for index in range(n_probes):
        yield signs * (lattice == index)


def random_signs(shape: torch.Size, *, like: Tensor, generator: torch.Generator) -> Tensor:
    """+-1 with equal chance; drawn on the generator's device, so a CPU generator gives the same signs on every device."""
    bits = torch.randint(0, 2, tuple(shape), generator=generator, device=generator.device, dtype=torch.int8)
    return (2 * bits - 1).to(device=like.device, dtype=like.dtype)


def _lattice_slope(n: int) -> int:
    """Slope a for which the nearest points of the lattice ``x + a y = 0 (mod n)`` are as far apart as possible."""

    def nearest(a: int) -> int:
        reach = range(-n, n + 1)
        return min(dx * dx + dy * dy for dy in range(n + 1) for dx in reach if (dx + a * dy) % n == 0 and (dx, dy) != (0, 0))

    if n > 64:  # the golden section is near the optimum, and the search would cost n^3
        return max(1, round(n * 0.381966))
    return max(range(1, n + 1), key=nearest)
