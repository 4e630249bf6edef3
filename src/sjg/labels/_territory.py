"""Territories: where an instance may grow under the published rule."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sjg.core import InputError

Labels = NDArray[np.integer]


def territory(labels: Labels, distance_px: float) -> Labels:
    """Dilate all instances at once; a pixel that several reach goes to the nearest.

    The authors' code takes the maximum of the ids in a window, so the higher id wins, overwrites its neighbours, and
    classes, dilated apart from ids, can disagree with them. Here distance decides, instances never change, and classes follow from ids.

    Parameters
    ----------
    labels
        (H, W) ids, 0 = background.
    distance_px
        Euclidean reach in pixels, >= 0.

    Returns
    -------
    (H, W) labels: within `distance_px` of an instance the id of the nearest, else 0. At equal distance the place in the raster
    decides, not the id.

    Raises
    ------
    InputError
        `distance_px` is negative or not a number.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import territory
    >>> territory(np.array([[0, 0, 2, 0, 0, 0, 9, 0]]), 1)
    array([[0, 2, 2, 2, 0, 9, 9, 9]])
    """
    if not (math.isfinite(distance_px) and distance_px >= 0):
        raise InputError(f"distance_px is {distance_px}; give a finite number >= 0.")
    if not (labels > 0).any():
        return labels.copy()
    distance, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    return np.where(distance <= distance_px, labels[tuple(nearest)], 0).astype(labels.dtype, copy=False)


def class_of(labels: Labels, instance_type: Labels) -> Labels:
    """Class of every pixel, from its instance: ids and classes cannot disagree.

    Parameters
    ----------
    labels
        (H, W) ids 0..n, 0 = background.
    instance_type
        (n + 1,) class of each id; entry 0 is not read.

    Returns
    -------
    (H, W) classes, 0 = background.

    Raises
    ------
    InputError
        An id has no entry in `instance_type`.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import class_of
    >>> class_of(np.array([[0, 2, 1]]), np.array([0, 5, 3]))
    array([[0, 3, 5]])
    """
    top = int(labels.max(initial=0))
    if top >= len(instance_type):
        raise InputError(f"labels has the id {top}, and instance_type has {len(instance_type)} entries; give one for each id 0..{top}.")
    return np.where(labels > 0, instance_type[labels], 0)
