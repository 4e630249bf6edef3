"""Plain containers that cross the layers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: does the calls of a function with each of some arguments, in their order, as :func:`itertools.starmap`: here, by threads or by a cluster
Spread = Callable[[Callable[..., Any], Iterable[tuple[Any, ...]]], Iterable[Any]]


@dataclass(frozen=True)
class Grid:
    """The working raster.

    Parameters
    ----------
    shape
        (height, width) in pixels.
    matrix
        (3, 3) affine that maps homogeneous grid coordinates ``(x, y, 1)`` to the coordinate system; pixel (row r, column c)
        covers ``[c, c + 1) x [r, r + 1)``.
    pixel_size_um
        Side of a pixel in micrometres, None where no physical size is known.
    """

    shape: tuple[int, int]
    matrix: NDArray[np.float64]
    pixel_size_um: float | None = None


@dataclass(frozen=True)
class Molecules:
    """Transcripts inside the grid.

    Parameters
    ----------
    yx_px
        (N, 2) float32 positions as (y, x) in grid pixels, ``0 <= y < height`` and ``0 <= x < width``.
    gene
        (N,) int32 index into `gene_names`.
    gene_names
        The G genes.
    """

    yx_px: NDArray[np.float32]
    gene: NDArray[np.int32]
    gene_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.gene)


@dataclass(frozen=True)
class Channels:
    """Densities on the grid in place of transcripts: gene densities, or the channels of a stained image.

    Parameters
    ----------
    names
        The C channels.
    shape
        (height, width) of the grid.
    read
        Gives the (C, h, w) float32 densities of a window (rows, columns) inside the grid: how many molecules, or units that count as
        molecules, lie in each pixel; non-negative.
    """

    names: tuple[str, ...]
    shape: tuple[int, int]
    read: Callable[[slice, slice], NDArray[np.float32]]


@dataclass(frozen=True)
class CellTypes:
    """Types of the nuclei at the start of a run.

    Parameters
    ----------
    names
        The K types.
    initial
        (n,) int32 index into `names` for nucleus ids 1..n; -1 where the type is not known.
    confidence
        (n,) float32 in [0, 1].
    profiles
        (K, G) float64 mean counts of each gene in a cell of each type (non-negative; only the shape of a row matters),
        genes in the order of ``Molecules.gene_names``; None when there is no reference.
    in_nuclei
        (K, G) float64 molecules of each gene in the given nuclei of each type, by the probabilities of the types; found nuclei are not
        counted. None where only the types themselves are known.
    """

    names: tuple[str, ...]
    initial: NDArray[np.int32]
    confidence: NDArray[np.float32]
    profiles: NDArray[np.float64] | None = None
    in_nuclei: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class Segmentation:
    """The result of a run in grid pixels.

    Parameters
    ----------
    labels
        (height, width) int32, 0 = background; cell i contains the nucleus i it started from.
    molecule_cell
        (N,) int32 cell of each molecule by posterior, 0 = none.
    molecule_confidence
        (N,) float32 posterior of that choice (of "none" where the cell is 0).
    cell_type
        (n,) int32 index into `type_names` for cells 1..n.
    cell_type_confidence
        (n,) float32 in [0, 1].
    type_names
        The K types.
    gene_importance
        (G, K) float32, higher = more informative.
    history
        One record of plain numbers and strings per epoch.
    network
        Plain nested dict of numbers, strings and NumPy arrays from which ``training.load_network`` rebuilds the trained network.
    parameters
        The settings of the run, plain types.
    pixel_confidence
        (height, width) float16 probability of the winner at each pixel, or None.
    """

    labels: NDArray[np.int32]
    molecule_cell: NDArray[np.int32]
    molecule_confidence: NDArray[np.float32]
    cell_type: NDArray[np.int32]
    cell_type_confidence: NDArray[np.float32]
    type_names: tuple[str, ...]
    gene_importance: NDArray[np.float32]
    history: list[dict[str, Any]] = field(default_factory=list)
    network: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    pixel_confidence: NDArray[np.float16] | None = None
