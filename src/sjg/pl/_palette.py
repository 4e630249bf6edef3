"""Colours that stay apart from one another and the same from plot to plot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import is_color_like, to_hex, to_rgb
from numpy.typing import NDArray

if TYPE_CHECKING:
    from anndata import AnnData

#: cells without a type, or of a type that is not shown by itself
OTHER_COLOR = "#8c8c8c"
NUCLEI_COLOR = "#ffffff"
TRUTH_COLOR = "#ffff00"
#: colours that carry a meaning in a segmentation plot, so that no cell type gets one near them
_RESERVED = (NUCLEI_COLOR, "#000000", OTHER_COLOR, TRUTH_COLOR)
#: first colours, by hand: told apart by readers with colour-vision deficiency (Okabe and Ito 2008, lightened for dark images)
_FIRST = ("#56b4e9", "#e69f00", "#00b383", "#e8554d", "#c77cd9", "#3d7de0")


def distinct_colors(n: int, avoid: Sequence[str] = ()) -> list[str]:
    """`n` colours as hex strings, each as far as possible from those before it and from the colours to `avoid`.

    Greedy farthest points in the OKLab space (Ottosson 2020) over a fixed lattice of sRGB colours that show on black and on white.
    The first m of n colours do not depend on n, so a palette grows without changing.
    """
    return list(_greedy(max(n, 0), tuple(avoid)))


@lru_cache(maxsize=16)
def _greedy(n: int, avoid: tuple[str, ...]) -> tuple[str, ...]:
    colors = [] if avoid else list(_FIRST[:n])
    if len(colors) == n:
        return tuple(colors)
    steps = np.linspace(0.0, 1.0, 18)
    lattice = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    lab = _oklab(lattice)
    chroma = np.hypot(lab[:, 1], lab[:, 2])
    keep = (lab[:, 0] > 0.57) & (lab[:, 0] < 0.88) & (chroma > 0.06)
    lattice, lab = lattice[keep], lab[keep]
    taken = _oklab(np.array([to_rgb(color) for color in (*_RESERVED, *avoid, *colors)]))
    nearest = np.min(np.linalg.norm(lab[:, None, :] - taken[None, :, :], axis=2), axis=1)
    while len(colors) < n:
        best = int(np.argmax(nearest))
        colors.append(to_hex(lattice[best]))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(colors)


def _oklab(rgb: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3) sRGB in [0, 1] to OKLab."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    cone = linear @ np.array(
        [[0.4122214708, 0.2119034982, 0.0883024619], [0.5363325363, 0.6806995451, 0.2817188376], [0.0514459929, 0.1073969566, 0.6299787005]]
    )
    return np.asarray(
        np.cbrt(cone)
        @ np.array(
            [
                [0.2104542553, 1.9779984951, 0.0259040371],
                [0.7936177850, -2.4285922050, 0.7827717662],
                [-0.0040720468, 0.4505937099, -0.8086757660],
            ]
        )
    )


def type_colors(categories: Sequence[str], tables: Sequence[AnnData] = (), *, column: str = "cell_type") -> dict[str, str]:
    """A colour per category.

    A colour stored in ``uns["<column>_colors"]`` of one of `tables` wins (scanpy's convention: one per category, in their order);
    the first table that has one for a name counts. The others get colours of the palette that are far from these. Nothing is written.
    """
    stored: dict[str, str] = {}
    for table in tables:
        for name, color in stored_colors(table, column).items():
            stored.setdefault(name, color)
    known = {name: stored[name] for name in categories if name in stored}
    free = iter(distinct_colors(len(categories) - len(known), avoid=tuple(known.values())))
    return {name: known[name] if name in known else next(free) for name in categories}


def stored_colors(table: AnnData, column: str) -> Mapping[str, str]:
    """The colours that a table carries for a categorical column; empty where there are none or they do not fit."""
    colors = table.uns.get(f"{column}_colors")
    if colors is None or column not in table.obs or not hasattr(table.obs[column], "cat"):
        return {}
    names = [str(name) for name in table.obs[column].cat.categories]
    if isinstance(colors, Mapping):
        return {str(name): to_hex(color) for name, color in colors.items() if is_color_like(color)}
    if len(colors) < len(names):
        return {}
    return {name: to_hex(str(color)) for name, color in zip(names, colors, strict=False) if is_color_like(str(color))}
