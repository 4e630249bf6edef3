"""Anchors: pixels of a territory that the network, its confidence and the attribution agree on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from sjg.core import InputError

Labels = NDArray[np.integer]
Mask = NDArray[np.bool_]
Floats = NDArray[np.floating]

_NEIGHBOURS = tuple((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if dy or dx)


def smooth_confidence(class_probability: Floats, window_px: int) -> Floats:
    """Probability of the likeliest class, averaged over a square window.

    Parameters
    ----------
    class_probability
        (K + 1, H, W) probabilities.
    window_px
        Odd side of the window; 1 = no averaging. At the edge of the raster the pixels inside it are averaged.

    Returns
    -------
    (H, W) in [0, 1].

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import smooth_confidence
    >>> smooth_confidence(np.array([[[0.4, 0.1, 1.0]], [[0.6, 0.9, 0.0]]]), 3).round(2)
    array([[0.75, 0.83, 0.95]])
    """
    if window_px < 1 or window_px % 2 == 0:
        raise InputError(f"window_px is {window_px}; give an odd number of pixels >= 1.")
    confidence = class_probability.max(axis=0).astype(np.float64, copy=False)
    inside = np.ones_like(confidence)
    total, area = (ndimage.uniform_filter(plane, window_px, mode="constant") for plane in (confidence, inside))
    return total / area


def attribution_agrees(attribution: Floats, type_map: Labels) -> Mask:
    """Tell whether the type with the largest attribution at a pixel is the type that the pixel is to get.

    Types whose attribution was not computed (NaN) do not compete, and pixels of such a type are not held back.

    Parameters
    ----------
    attribution
        (K, H, W) attribution of types 1..K, summed over genes; higher = more informative.
    type_map
        (H, W) type 1..K of each pixel, 0 = none.

    Returns
    -------
    (H, W) bool, False where `type_map` is 0; a draw counts as agreement.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import attribution_agrees
    >>> attribution_agrees(np.array([[[3.0, 1.0, 3.0]], [[2.0, 2.0, 2.0]]]), np.array([[1, 1, 0]]))
    array([[ True, False, False]])
    """
    _check_fit(attribution, type_map)
    return at_types(passes_dominant(attribution), type_map)


def attribution_in_top(attribution: Floats, type_map: Labels, fraction: float) -> Mask:
    """Tell whether the attribution of a pixel's type is among the largest `fraction` of that type's over the raster.

    Types whose attribution was not computed (NaN) do not hold their pixels back.

    Parameters
    ----------
    attribution
        (K, H, W) attribution of types 1..K, summed over genes; higher = more informative.
    type_map
        (H, W) type 1..K of each pixel, 0 = none.
    fraction
        In (0, 1]; 1 lets every pixel pass.

    Returns
    -------
    (H, W) bool, False where `type_map` is 0.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import attribution_in_top
    >>> attribution_in_top(np.arange(10.0).reshape(1, 1, 10), np.ones((1, 10), int), 0.2)
    array([[False, False, False, False, False, False, False, False,  True,  True]])
    """
    if not 0 < fraction <= 1:
        raise InputError(f"fraction is {fraction}; give a number in (0, 1].")
    _check_fit(attribution, type_map)
    return at_types(passes_top(attribution, fraction), type_map)


def passes_dominant(attribution: Floats) -> Mask:
    """(K, H, W) bool: where each type has the largest attribution of all, or has none (NaN)."""
    best = np.where(np.isnan(attribution), -np.inf, attribution).max(axis=0)
    return np.isnan(attribution) | (attribution >= best)


def passes_top(attribution: Floats, fraction: float) -> Mask:
    """(K, H, W) bool: where the attribution of each type is among the largest `fraction` of that type's, or the type has none (NaN)."""
    if not 0 < fraction <= 1:
        raise InputError(f"fraction is {fraction}; give a number in (0, 1].")
    n_pixels = attribution[0].size
    # the m-th largest value of each type, m rounded up: never below the fraction asked for
    place = n_pixels - min(n_pixels, int(np.ceil(round(fraction * n_pixels, 6))))
    limit = np.partition(attribution.reshape(len(attribution), -1), place, axis=1)[:, place]
    return np.isnan(attribution) | (attribution >= limit[:, None, None])


def at_types(passing: Mask, type_map: Labels) -> Mask:
    """(H, W) bool: `passing` (K, H, W) of the type 1..K of each pixel; False where the type is 0."""
    return (type_map > 0) & np.take_along_axis(passing, np.maximum(type_map, 1)[None] - 1, axis=0)[0]


def _check_fit(attribution: NDArray, type_map: Labels) -> None:
    if attribution.ndim != 3 or attribution.shape[1:] != type_map.shape:
        raise InputError(f"attribution {attribution.shape} and type_map {type_map.shape} do not fit; give (K, H, W) and (H, W).")
    if type_map.max(initial=0) > len(attribution):
        raise InputError(f"type_map has type {type_map.max()} and attribution {len(attribution)} types; give one plane for each type.")


def anchors(
    territories: Labels,
    type_map: Labels,
    class_probability: Floats,
    *,
    core: Mask,
    confidence_threshold: float,
    window_px: int = 1,
    attribution_passes: Mask | None = None,
) -> Labels:
    """Pixels outside the core that join the instance of their territory.

    A pixel joins where the likeliest class is the type of its territory, the smoothed confidence is above the threshold
    and the attribution passes.

    Parameters
    ----------
    territories
        (H, W) ids, 0 = nobody's.
    type_map
        (H, W) type of the territories, 0 = nobody's.
    class_probability
        (K + 1, H, W) probabilities, class 0 = background.
    core
        (H, W) bool, pixels of the fixed labels.
    confidence_threshold
        In [0, 1].
    window_px
        Odd side of the window over which confidence is averaged.
    attribution_passes
        (H, W) bool; None = the attribution has no say.

    Returns
    -------
    (H, W) id at the anchors, 0 elsewhere.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import anchors
    >>> p = np.array([[[0.1, 0.9, 0.4, 0.1]], [[0.9, 0.1, 0.6, 0.9]]])
    >>> core = np.array([[True, False, False, False]])
    >>> anchors(np.array([[7, 7, 7, 7]]), np.array([[1, 1, 1, 1]]), p, core=core, confidence_threshold=0.7)
    array([[0, 0, 0, 7]])
    """
    join = (territories > 0) & ~core & (class_probability.argmax(axis=0) == type_map)
    join &= smooth_confidence(class_probability, window_px) > confidence_threshold
    if attribution_passes is not None:
        join &= attribution_passes
    return np.where(join, territories, 0).astype(territories.dtype, copy=False)


def drop_isolated(labels: Labels, core: Mask, *, min_votes: int) -> Labels:
    """Drop pixels outside the core that have too few neighbours of their own instance.

    All pixels vote at the same time, so the order of the pixels plays no part.

    Parameters
    ----------
    labels
        (H, W) ids of core and anchors, 0 = background.
    core
        (H, W) bool, pixels that stay whatever the votes.
    min_votes
        Fewest of the eight neighbours that must carry the same id, 0..8.

    Returns
    -------
    (H, W) labels.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import drop_isolated
    >>> core = np.array([[True, False, False, False, False]])
    >>> drop_isolated(np.array([[4, 4, 0, 0, 4]]), core, min_votes=1)
    array([[4, 4, 0, 0, 0]])
    """
    if not 0 <= min_votes <= 8:
        raise InputError(f"min_votes is {min_votes}; a pixel has 0..8 neighbours.")
    height, width = labels.shape
    padded = np.pad(labels, 1)
    votes = np.zeros(labels.shape, dtype=np.uint8)
    for dy, dx in _NEIGHBOURS:
        votes += padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width] == labels
    return np.where(core | (votes >= min_votes), labels, 0).astype(labels.dtype, copy=False)
