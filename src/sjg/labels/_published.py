"""The label update of the paper: one round, from the parts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from sjg.core import InputError
from sjg.labels._anchors import anchors, at_types, drop_isolated, passes_dominant, passes_top
from sjg.labels._bridge import bridge_gaps
from sjg.labels._clean import fill_holes, keep_connected
from sjg.labels._territory import class_of, territory

Labels = NDArray[np.integer]


@dataclass(frozen=True)
class PublishedRule:
    """Knobs of the published update.

    The paper fixes the steps and not all of the numbers; those not in METHOD.md section 1 are ours.

    Parameters
    ----------
    territory_px
        Reach of an instance in one round.
    confidence_threshold
        An anchor needs a smoothed confidence above this.
    confidence_window_px
        Odd side of the window over which confidence is averaged.
    attribution_gate
        ``"dominant"``: the type with the largest summed attribution must be the territory's (first code base);
        ``"top_fraction"``: the pixel must be among the highest for the territory's type (second code base).
    attribution_fraction
        That fraction.
    min_votes
        Anchors with fewer of their eight neighbours in the same instance are dropped.
    max_gap_px
        Longest gap that is bridged.

    Examples
    --------
    >>> from sjg.labels import PublishedRule
    >>> PublishedRule(territory_px=2).confidence_threshold
    0.5
    """

    territory_px: float = 3.0
    confidence_threshold: float = 0.5
    confidence_window_px: int = 3
    attribution_gate: Literal["dominant", "top_fraction"] = "dominant"
    attribution_fraction: float = 0.1
    min_votes: int = 2
    max_gap_px: int = 2

    def __post_init__(self) -> None:
        if not (math.isfinite(self.territory_px) and self.territory_px >= 0):
            raise InputError(f"territory_px is {self.territory_px}; give a finite number >= 0.")
        if not 0 <= self.confidence_threshold <= 1:
            raise InputError(f"confidence_threshold is {self.confidence_threshold}; give a probability.")
        if self.confidence_window_px < 1 or self.confidence_window_px % 2 == 0:
            raise InputError(f"confidence_window_px is {self.confidence_window_px}; give an odd number >= 1.")
        if self.attribution_gate not in ("dominant", "top_fraction"):
            raise InputError(f"attribution_gate is {self.attribution_gate!r}; choose 'dominant' or 'top_fraction'.")
        if not 0 < self.attribution_fraction <= 1:
            raise InputError(f"attribution_fraction is {self.attribution_fraction}; give a number in (0, 1].")
        if not 0 <= self.min_votes <= 8:
            raise InputError(f"min_votes is {self.min_votes}; a pixel has 0..8 neighbours.")
        if self.max_gap_px < 0:
            raise InputError(f"max_gap_px is {self.max_gap_px}; give a whole number >= 0.")


def published_update(
    fixed: Labels,
    dynamic: Labels,
    class_probability: NDArray[np.floating],
    *,
    instance_type: Labels,
    attribution: NDArray[np.floating] | None = None,
    passing: NDArray[np.bool_] | None = None,
    rule: PublishedRule | None = None,
) -> Labels:
    """Update the dynamic labels once, by the rule of the paper :cite:p:`ma2026segjointgene`.

    The dynamic instances are dilated to territories; anchors are found in them; isolated anchors are dropped, gaps bridged, pieces that
    do not touch the core given up, holes filled and the core restored. An instance can shrink as well as grow: what is neither core nor
    anchor in this round goes back to the background.

    Parameters
    ----------
    fixed
        (H, W) instance ids of the nuclei, 0 = none: the core, which never changes.
    dynamic
        (H, W) instance ids before the update, 0 = background.
    class_probability
        (K + 1, H, W) probabilities of the network, class 0 = background.
    instance_type
        (n + 1,) type 1..K of each instance; entry 0 is not read.
    attribution
        (K, H, W) attribution of types 1..K summed over genes, NaN in types without; None before attribution starts.
    passing
        (K, H, W) result of :func:`attribution_gate` where it was computed before, in place of `attribution`.
    rule
        The knobs, by default :class:`PublishedRule` as it stands.

    Returns
    -------
    (H, W) instance ids after the update, dtype of `fixed`. Classes follow by :func:`class_of`, so that ids and classes agree.

    Raises
    ------
    InputError
        The shapes do not fit, an id has no type, or the probabilities are none.

    Notes
    -----
    Differences from the authors' code, each a plain bug there: territories go to the nearest instance and not to the higher id; ids and
    classes are dilated together; labels are those of the tissue, not of a patch, so cells are not cut at seams.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import PublishedRule, published_update
    >>> fixed = np.zeros((1, 7), int)
    >>> fixed[0, 2] = 1
    >>> p = np.array([[[0.9, 0.1, 0.1, 0.1, 0.1, 0.9, 0.9]], [[0.1, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1]]])
    >>> rule = PublishedRule(territory_px=2, confidence_window_px=1, min_votes=1)
    >>> published_update(fixed, fixed, p, instance_type=np.array([0, 1]), rule=rule)
    array([[0, 1, 1, 1, 1, 0, 0]])
    """
    rule = PublishedRule() if rule is None else rule
    if attribution is not None and passing is not None:
        raise InputError("attribution and passing are both given; give one of them.")
    if attribution is not None:
        passing = attribution_gate(attribution, rule)
    if fixed.ndim != 2 or dynamic.shape != fixed.shape or class_probability.shape[1:] != fixed.shape:
        raise InputError(
            f"fixed {fixed.shape}, dynamic {dynamic.shape} and class_probability {class_probability.shape} do not fit; "
            "give (H, W), (H, W) and (K + 1, H, W)."
        )
    # NaN fails both comparisons
    if not (class_probability.min(initial=0.0) >= 0 and class_probability.max(initial=0.0) <= 1 + 1e-4):
        raise InputError("class_probability has values outside [0, 1]; give probabilities (softmax of the logits over the first axis).")
    core = fixed > 0
    territories = territory(np.where(core, fixed, dynamic), rule.territory_px)
    type_map = class_of(territories, instance_type)
    candidates = anchors(
        territories,
        type_map,
        class_probability,
        core=core,
        confidence_threshold=rule.confidence_threshold,
        window_px=rule.confidence_window_px,
        attribution_passes=None if passing is None else at_types(passing, type_map),
    )
    labels = restore_core(candidates, fixed)
    labels = drop_isolated(labels, core, min_votes=rule.min_votes)
    labels = bridge_gaps(labels, territories, max_gap_px=rule.max_gap_px)
    labels = remove_islands(labels, fixed)
    labels = fill_holes(labels)
    return restore_core(labels, fixed)


def attribution_gate(attribution: NDArray[np.floating], rule: PublishedRule) -> NDArray[np.bool_]:
    """Where the attribution lets each type pass, whatever the territories: it can be kept while they change.

    Parameters
    ----------
    attribution
        (K, H, W) attribution of types 1..K summed over genes, NaN in types without, which pass everywhere.
    rule
        The gate and its fraction.

    Returns
    -------
    (K, H, W) bool.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import PublishedRule, attribution_gate
    >>> attribution_gate(np.array([[[3.0, 1.0]], [[2.0, 2.0]], [[np.nan, np.nan]]]), PublishedRule())
    array([[[ True, False]],
           [[False,  True]],
           [[ True,  True]]])
    """
    return passes_dominant(attribution) if rule.attribution_gate == "dominant" else passes_top(attribution, rule.attribution_fraction)


def remove_islands(labels: Labels, fixed: Labels) -> Labels:
    """Give up every piece of an instance (8 neighbours) that does not contain a pixel of its core.

    Parameters
    ----------
    labels
        (H, W) ids, 0 = background.
    fixed
        (H, W) ids of the core, 0 = none.

    Returns
    -------
    (H, W) labels; an instance without a core is given up.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import remove_islands
    >>> remove_islands(np.array([[1, 1, 0, 1, 2]]), np.array([[1, 0, 0, 0, 0]]))
    array([[1, 1, 0, 0, 0]])
    """
    with_core = np.isin(labels, labels[(labels == fixed) & (labels > 0)])
    return keep_connected(np.where(with_core, labels, 0).astype(labels.dtype, copy=False), fixed)


def restore_core(labels: Labels, fixed: Labels) -> Labels:
    """Put the fixed labels back.

    Parameters
    ----------
    labels
        (H, W) ids.
    fixed
        (H, W) ids of the core, 0 = none.

    Returns
    -------
    (H, W) ids: those of the core where there is one, else `labels`; dtype of `fixed`.

    Examples
    --------
    >>> import numpy as np
    >>> from sjg.labels import restore_core
    >>> restore_core(np.array([[0, 2, 2]]), np.array([[1, 1, 0]]))
    array([[1, 1, 2]])
    """
    return np.where(fixed > 0, fixed, labels).astype(fixed.dtype, copy=False)
