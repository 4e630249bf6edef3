"""The one palette: colours of cell types that stay apart, in tables, exports and plots alike."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

#: cells without a type, or of a type that is not shown by itself
OTHER_COLOR = "#8c8c8c"
NUCLEI_COLOR = "#ffffff"
TRUTH_COLOR = "#ffff00"
#: colours that carry a meaning in a segmentation plot, so that no cell type gets one near them
_RESERVED = (NUCLEI_COLOR, "#000000", OTHER_COLOR, TRUTH_COLOR)
#: first colours, by hand: told apart by readers with colour-vision deficiency (Okabe and Ito 2008, lightened for dark images)
_FIRST = ("#56b4e9", "#e69f00", "#00b383", "#e8554d", "#c77cd9", "#3d7de0")


def distinct_colors(n: int, avoid: Sequence[str] = ()) -> list[str]:
    """`n` colours as ``#rrggbb``, each as far as possible from those before it and from the colours to `avoid`.

    Greedy farthest points in the OKLab space (Ottosson 2020) over a fixed lattice of sRGB colours that show on black and on white.
    The first m of n colours do not depend on n, so a palette grows without changing.

    Parameters
    ----------
    n
        How many.
    avoid
        ``#rrggbb`` colours to keep away from.

    Examples
    --------
    >>> distinct_colors(2)
    ['#56b4e9', '#e69f00']
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
    taken = _oklab(np.array([_rgb(color) for color in (*_RESERVED, *avoid, *colors)]))
    nearest = np.min(np.linalg.norm(lab[:, None, :] - taken[None, :, :], axis=2), axis=1)
    while len(colors) < n:
        best = int(np.argmax(nearest))
        red, green, blue = (round(255 * float(part)) for part in lattice[best])
        colors.append(f"#{red:02x}{green:02x}{blue:02x}")
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(colors)


def _rgb(color: str) -> tuple[float, ...]:
    return tuple(int(color[i : i + 2], 16) / 255.0 for i in (1, 3, 5))


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
