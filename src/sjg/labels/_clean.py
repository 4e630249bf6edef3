"""Cleaning of label images: pieces, holes, ids. All labels at once, in time that follows the number of pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sjg.core import InputError

Labels = NDArray[np.integer]


def label_pieces(labels: Labels) -> tuple[NDArray[np.intp], int]:
    """Number the connected pieces (8 neighbours) of every label; 0 where `labels` is 0.

    Runs of equal labels within a row are the nodes of a graph, touching runs of one label its edges: far fewer than pixels.

    Parameters
    ----------
    labels
        (H, W) integers, 0 = background.

    Returns
    -------
    pieces
        (H, W) ids 1..n of the pieces.
    n
        Their number.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import label_pieces
    >>> pieces, n = label_pieces(np.array([[5, 5, 0, 5], [0, 7, 7, 0]]))
    >>> n, bool(pieces[0, 0] != pieces[0, 3])
    (3, True)
    """
    _check_labels(labels, "labels")
    if labels.size == 0:
        return np.zeros(labels.shape, dtype=np.intp), 0
    start = np.ones(labels.shape, dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=start[:, 1:])
    run = np.cumsum(start.ravel()).reshape(labels.shape) - 1
    edges = [_touching_runs(labels, start, run, shift) for shift in (-1, 0, 1)]
    upper, lower = (np.concatenate(side) for side in zip(*edges, strict=True))
    n_runs = int(run[-1, -1]) + 1
    graph = coo_array((np.ones(len(upper), dtype=np.int8), (upper, lower)), shape=(n_runs, n_runs))
    _, piece_of_run = connected_components(graph.tocsr(), directed=False)
    # background runs are numbered 0 and the other pieces counted on without gaps
    value_of_run = labels[start]
    kept = np.unique(piece_of_run[value_of_run != 0])
    number = np.zeros(n_runs, dtype=np.intp)
    number[kept] = np.arange(1, len(kept) + 1)
    return number[np.where(value_of_run != 0, piece_of_run, 0)][run] * (labels != 0), len(kept)


def _touching_runs(
    labels: Labels, start: NDArray[np.bool_], run: NDArray[np.intp], shift: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Pairs of runs of one label where a pixel touches the one below it, `shift` columns to the right."""
    width = labels.shape[1]
    above = (slice(None, -1), slice(max(0, -shift), width - max(0, shift)))
    below = (slice(1, None), slice(max(0, shift), width - max(0, -shift)))
    same = (labels[above] == labels[below]) & (labels[above] != 0)
    # one pair for each contact is enough: the first one, where one of the two runs begins
    same &= start[above] | start[below]
    return run[above][same], run[below][same]


def keep_connected(labels: Labels, nuclei: Labels) -> Labels:
    """Give up the pieces of a cell that are not connected with its nucleus.

    Parameters
    ----------
    labels
        (H, W) cell ids, 0 = background.
    nuclei
        (H, W) nucleus ids; cell i grew from nucleus i.

    Returns
    -------
    (H, W) labels with 0 in the pieces given up. A cell without a pixel of its nucleus keeps its largest piece, the first one in the
    raster where two are equally large.

    Raises
    ------
    InputError
        The inputs are no integer rasters of one shape.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import keep_connected
    >>> keep_connected(np.array([[1, 1, 0, 1, 2, 2, 0, 2]]), np.array([[1, 0, 0, 0, 0, 0, 0, 0]]))
    array([[1, 1, 0, 0, 2, 2, 0, 0]])
    """
    _check_labels(nuclei, "nuclei")
    if labels.shape != nuclei.shape:
        raise InputError(f"labels {labels.shape} and nuclei {nuclei.shape} differ in shape; give rasters of one frame.")
    pieces, n = label_pieces(labels)
    inside = (labels == nuclei) & (labels != 0)
    keep = np.zeros(n + 1, dtype=bool)
    keep[pieces[inside]] = True
    orphan = ~np.isin(_value_of_piece(labels, pieces, n), labels[inside])
    orphan[0] = False
    keep |= orphan & _largest(labels, pieces, n)
    return np.where(keep[pieces], labels, 0).astype(labels.dtype, copy=False)


def keep_largest(labels: Labels) -> Labels:
    """Keep the largest connected piece (8 neighbours) of each label, the first one in the raster where two are equally large.

    Parameters
    ----------
    labels
        (H, W) ids, 0 = background.

    Returns
    -------
    (H, W) labels with 0 in the other pieces.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import keep_largest
    >>> keep_largest(np.array([[3, 0, 3, 3, 0, 1]]))
    array([[0, 0, 3, 3, 0, 1]])
    """
    pieces, n = label_pieces(labels)
    return np.where(_largest(labels, pieces, n)[pieces], labels, 0).astype(labels.dtype, copy=False)


def _value_of_piece(labels: Labels, pieces: NDArray[np.intp], n: int) -> Labels:
    value = np.zeros(n + 1, dtype=labels.dtype)
    value[pieces.ravel()] = labels.ravel()
    return value


def _largest(labels: Labels, pieces: NDArray[np.intp], n: int) -> NDArray[np.bool_]:
    """(n + 1,) bool, True for the largest piece of each label."""
    value = _value_of_piece(labels, pieces, n)[1:]
    area = np.bincount(pieces.ravel(), minlength=n + 1)[1:]
    order = np.lexsort((np.arange(n), -area, value))
    best = np.ones(n, dtype=bool)
    best[1:] = value[order][1:] != value[order][:-1]
    largest = np.zeros(n + 1, dtype=bool)
    largest[1:][order] = best
    return largest


def fill_holes(labels: Labels) -> Labels:
    """Give background that one cell encloses to that cell.

    A hole is a connected piece of background (4 neighbours) that does not reach the edge of the raster and whose 4-neighbours all
    belong to one cell.

    Parameters
    ----------
    labels
        (H, W) ids, 0 = background.

    Returns
    -------
    (H, W) labels.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import fill_holes
    >>> fill_holes(np.array([[1, 1, 1, 2, 2], [1, 0, 1, 0, 2], [1, 1, 1, 2, 2]]))
    array([[1, 1, 1, 2, 2],
           [1, 1, 1, 0, 2],
           [1, 1, 1, 2, 2]])
    """
    _check_labels(labels, "labels")
    gap, n = ndimage.label(labels == 0)
    if n == 0:
        return labels.copy()
    lowest = np.full(n + 1, np.iinfo(labels.dtype).max, dtype=labels.dtype)
    highest = np.zeros(n + 1, dtype=labels.dtype)
    for here, there in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        contact = (gap[here] > 0) & (labels[there] > 0)
        np.minimum.at(lowest, gap[here][contact], labels[there][contact])
        np.maximum.at(highest, gap[here][contact], labels[there][contact])
    at_edge = np.zeros(n + 1, dtype=bool)
    for edge in (gap[0], gap[-1], gap[:, 0], gap[:, -1]):
        at_edge[edge] = True
    is_hole = (lowest == highest) & ~at_edge
    is_hole[0] = False
    return np.where(is_hole[gap], lowest[gap], labels)


def relabel_sequential(labels: Labels) -> tuple[Labels, Labels]:
    """Number the labels 1..n in the order of their ids.

    Parameters
    ----------
    labels
        (H, W) ids, 0 = background.

    Returns
    -------
    labels
        (H, W) ids 1..n, 0 = background.
    old_ids
        (n + 1,) the former id of each new one; ``old_ids[0]`` is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import relabel_sequential
    >>> labels, old_ids = relabel_sequential(np.array([[0, 9, 4, 9]]))
    >>> labels, old_ids
    (array([[0, 2, 1, 2]]), array([0, 4, 9]))
    """
    _check_labels(labels, "labels")
    top = int(labels.max(initial=0))
    present = np.zeros(top + 1, dtype=bool)
    present[labels.ravel()] = True
    present[0] = True
    new = (np.cumsum(present) - 1).astype(labels.dtype)
    return new[labels], np.flatnonzero(present).astype(labels.dtype)


def _check_labels(labels: Labels, name: str) -> None:
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise InputError(f"{name} has shape {labels.shape} and dtype {labels.dtype}; give an (H, W) array of integers.")
    if labels.dtype.kind == "i" and labels.size and int(labels.min()) < 0:
        raise InputError(f"{name} has negative ids (the lowest is {int(labels.min())}); 0 is the background, ids start at 1.")
