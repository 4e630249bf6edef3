"""Instance ids of patches: one numbering for the tissue."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.integer]


def ids_span_patches(ids: Ids, patch_shape: tuple[int, int]) -> bool:
    """Tell whether the patches share one numbering, from what happens at their seams.

    An id that occurs in several patches is one cell if the numbering is that of the tissue, and its pieces then touch across seams.
    Where every patch counts for itself the pieces are different cells and touch by chance only. The numbering is taken to be that of
    the tissue if at least half of the pieces of such ids touch a piece of the same id in another patch.

    Parameters
    ----------
    ids
        (H, W) raster of all patches, 0 = background.
    patch_shape
        (height, width) of a patch.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.io._patch_ids import ids_span_patches
    >>> ids_span_patches(np.array([[1, 2, 2, 3]]), (1, 2)), ids_span_patches(np.array([[1, 2, 3, 1]]), (1, 2))
    (True, False)
    """
    patch = _patch_numbers(ids.shape, patch_shape)
    pieces = _pairs(patch[ids > 0], ids[ids > 0])
    _, which, count = np.unique(pieces[:, 1], return_inverse=True, return_counts=True)
    n_repeated = int((count[which] > 1).sum())
    if n_repeated == 0:
        return True
    touching = [np.empty((0, 2), dtype=np.int64)]
    height, width = ids.shape
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = (slice(0, height - dy), slice(max(0, -dx), width - max(0, dx)))
        there = (slice(dy, height), slice(max(0, dx), width - max(0, -dx)))
        meets = (ids[here] > 0) & (ids[here] == ids[there]) & (patch[here] != patch[there])
        touching += [_pairs(patch[side][meets], ids[side][meets]) for side in (here, there)]
    return len(np.unique(np.concatenate(touching), axis=0)) >= n_repeated / 2


def number_instances(
    ids: Ids, patch_shape: tuple[int, int], numbering: Literal["tissue", "patch"]
) -> tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.int64]]:
    """Number the instances of all patches 1..n.

    Parameters
    ----------
    ids
        (H, W) raster of all patches, 0 = background.
    patch_shape
        (height, width) of a patch.
    numbering
        ``"tissue"``: an id is one instance in all patches; ``"patch"``: an id in each patch is an instance of its own.

    Returns
    -------
    labels
        (H, W) numbers 1..n, 0 = background.
    source
        (n,) former id of each.
    patch
        (n,) number of the patch, counted along rows, or -1 with the numbering of the tissue.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.io._patch_ids import number_instances
    >>> number_instances(np.array([[1, 2, 2, 3]]), (1, 2), "tissue")[0].tolist()
    [[1, 2, 2, 3]]
    >>> number_instances(np.array([[1, 2, 2, 3]]), (1, 2), "patch")[0].tolist()
    [[1, 2, 3, 4]]
    """
    inside = ids > 0
    patch = _patch_numbers(ids.shape, patch_shape) if numbering == "patch" else np.full(ids.shape, -1)
    # patches may be thousands and ids many: one number for a pair sorts faster than pairs do
    base = int(ids.max(initial=0)) + 1
    keys, number = np.unique((patch[inside].astype(np.int64) + 1) * base + ids[inside], return_inverse=True)
    labels = np.zeros(ids.shape, dtype=np.int32)
    labels[inside] = number + 1
    return labels, keys % base, keys // base - 1


def _patch_numbers(shape: tuple[int, ...], patch_shape: tuple[int, int]) -> NDArray[np.intp]:
    rows, columns = (np.arange(n) // size for n, size in zip(shape, patch_shape, strict=True))
    return rows[:, None] * (columns[-1] + 1) + columns[None, :]


def _pairs(patch: NDArray[np.integer], ids: Ids) -> NDArray[np.int64]:
    """Distinct (patch, id)."""
    base = int(ids.max(initial=0)) + 1
    return np.column_stack(np.divmod(np.unique(patch.astype(np.int64) * base + ids), base))
