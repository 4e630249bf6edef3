"""Patches of an image, and which of them are worth a look."""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from sjg import access
from sjg._logging import logger
from sjg.core import InputError
from sjg.imaging import (
    QualityThresholds,
    expose,
    lay_patches,
    measure_patch,
    published_status,
    robust_status,
    split_evenly,
)

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: patch of the published pipeline, (height, width) in pixels
_PUBLISHED_SIZE_PX = (1440, 1920)
_STATES = ["empty", "noisy", "informative"]


def patches(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    mode: Literal["patches", "whole", "halves", "quarters"] = "patches",
    patch_size_um: float | tuple[float, float] | None = None,
    patch_size_px: int | tuple[int, int] | None = None,
    overlap: float = 0.1,
    pixel_size_um: float | None = None,
    coordinate_system: str = "global",
    key_added: str = "patches",
    overwrite: bool = False,
) -> None:
    """Cut an image into patches.

    No pixel is copied: a patch is a window of the image, which may lie in memory or in a store, and is read when it is worked on.

    Parameters
    ----------
    sdata
        The object, changed in place.
    image_key
        The image; None takes the only one.
    mode
        ``"patches"`` of one size, spread evenly; the ``"whole"`` image; ``"halves"`` (across the longer side) or ``"quarters"``.
    patch_size_um
        Side, or (height, width), of the patches in micrometres.
    patch_size_px
        The same in pixels of the image; give at most one of the two. Default (1440, 1920) px.
    overlap
        Fraction of the side that neighbours share, 0 to 0.9: at least that for ``"patches"``, exactly for halves and quarters.
    pixel_size_um
        Side of a pixel of the image, for `patch_size_um`; None deduces it from the frame of the transcripts.
    coordinate_system
        Where image and transcripts meet, to deduce the pixel size.
    key_added
        Key of the shapes.
    overwrite
        Whether shapes of that name may be replaced.

    Returns
    -------
    None, and writes

    ``shapes[key_added]``
        A rectangle for each patch, row by row, in pixels of the image with its transformations; index ``patch_id`` from 0; columns
        ``top``, ``left``, ``bottom``, ``right`` (pixels, ends excluded), ``core_top`` ... ``core_right`` (the part for which the patch
        answers: cores cover the image once) and ``image_key``.

    Raises
    ------
    MissingElementError, AmbiguousElementError
        No such image, or several and none chosen.
    ExistingElementError
        The shapes exist and `overwrite` is False.
    InputError
        A size, overlap or mode that cannot be.

    See Also
    --------
    sjg.pp.patch_quality : which patches are worth a look.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(96, 96))
    >>> sjg.pp.patches(sdata, patch_size_px=80, overlap=0.2)
    >>> len(sdata["patches"])
    9
    """
    image_key = access.choose_image(sdata, image_key)
    if not 0 <= overlap <= 0.9:
        raise InputError(f"overlap={overlap!r} must be a fraction of the side, from 0 to 0.9.")
    access.check_new_keys(sdata, {"shapes": [key_added]}, key_added=key_added, overwrite=overwrite)
    shape = access.image_shape(sdata, image_key)
    size = _size_px(sdata, image_key, patch_size_um, patch_size_px, pixel_size_um, coordinate_system)
    if mode == "patches":
        layout = lay_patches(shape, size or _PUBLISHED_SIZE_PX, overlap=overlap)
    elif size is not None:
        raise InputError(f"mode={mode!r} sets the size of the patches; leave patch_size_um and patch_size_px out.")
    else:
        layout = split_evenly(shape, _parts(mode, shape), overlap=overlap)
    access.attach(sdata, access.Outputs(shapes={key_added: access.patches_element(sdata, image_key, layout)}))


def patch_quality(
    sdata: SpatialData,
    patches_key: str = "patches",
    *,
    channel: str | int | None = None,
    rule: Literal["robust", "published"] = "robust",
    thresholds: QualityThresholds | None = None,
) -> None:
    """Judge each patch by its nuclear channel: empty, noisy or informative.

    The *published* rule counts in raw units: empty where less than 5 % of the pixels are not zero, noisy where the mean is below 1. Cameras
    have offsets, so that hardly a pixel is zero; the *robust* rule does not depend on unit or offset: empty where almost nothing is
    foreground of the slide, noisy where there is no structure beyond that of noise. Later steps skip patches that are not
    informative.

    Parameters
    ----------
    sdata
        The object, changed in place.
    patches_key
        Patches from :func:`sjg.pp.patches`.
    channel
        The nuclear channel; None takes the only one, or the one named like a nuclear stain.
    rule
        Which of the two decides ``informative``.
    thresholds
        When a patch is empty or noisy; None for the defaults.

    Returns
    -------
    None, and writes the columns of ``shapes[patches_key]``

    ``mean``, ``sd``, ``median``, ``p01``, ``p99``
        Statistics of the intensity, in raw units.
    ``nonzero_fraction``, ``foreground_fraction``, ``focus``
        See :func:`sjg.imaging.measure_patch`.
    ``status_published``, ``status_robust``
        ``empty``, ``noisy`` or ``informative`` (categorical).
    ``informative``
        bool, by `rule`. You may edit it.

    Raises
    ------
    MissingElementError
        No such shapes or image.
    InputError
        The shapes are no patches, no such channel, or no such rule.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(96, 96))
    >>> sjg.pp.patches(sdata, mode="quarters")
    >>> sjg.pp.patch_quality(sdata)
    >>> sdata["patches"]["status_robust"].tolist()
    ['informative', 'informative', 'informative', 'informative']
    """
    if rule not in ("robust", "published"):
        raise InputError(f"rule={rule!r} is unknown; choose 'robust' or 'published'.")
    thresholds = thresholds or QualityThresholds()
    image_key, layout, _ = access.read_patches(sdata, patches_key)
    plane = access.channel_planes(sdata, image_key, [access.choose_channel(sdata, image_key, channel)])
    exposure = expose(plane[0])
    measured = [measure_patch(access.read_box(plane, layout.box(index))[0], exposure) for index in range(len(layout))]
    frame = sdata.shapes[patches_key].copy()
    for name in measured[0]:
        frame[name] = [values[name] for values in measured]
    states = {
        "published": [published_status(values, thresholds) for values in measured],
        "robust": [robust_status(values, thresholds) for values in measured],
    }
    for name, status in states.items():
        frame[f"status_{name}"] = pd.Categorical(status, categories=_STATES)
    frame[access.INFORMATIVE_COLUMN] = np.array(states[rule]) == "informative"
    frame.attrs = dict(sdata.shapes[patches_key].attrs)
    counts = {state: states[rule].count(state) for state in _STATES}
    logger.info("patches of images[%r]: %s", image_key, ", ".join(f"{count} {state}" for state, count in counts.items()))
    access.attach(sdata, access.Outputs(shapes={patches_key: frame}))


def _parts(mode: str, shape: tuple[int, int]) -> tuple[int, int]:
    halves = (2, 1) if shape[0] > shape[1] else (1, 2)
    parts = {"whole": (1, 1), "halves": halves, "quarters": (2, 2)}
    if mode not in parts:
        raise InputError(f"mode={mode!r} is unknown; choose 'patches', 'whole', 'halves' or 'quarters'.")
    return parts[mode]


def _size_px(
    sdata: SpatialData,
    image_key: str,
    size_um: float | tuple[float, float] | None,
    size_px: int | tuple[int, int] | None,
    pixel_size_um: float | None,
    coordinate_system: str,
) -> tuple[int, int] | None:
    if size_um is not None and size_px is not None:
        raise InputError("patch_size_um and patch_size_px are both given; give one of them.")
    size: Any = size_px if size_px is not None else size_um
    if size is None:
        return None
    name = "patch_size_px" if size_px is not None else "patch_size_um"
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2 or not all(isfinite(side) and side > 0 for side in sides):
        raise InputError(f"{name}={size!r} must be a positive length, or two of them (height, width).")
    if size_um is not None:
        known = access.known_pixel_size_um(
            sdata,
            image_key,
            pixel_size_um,
            coordinate_system=coordinate_system,
            purpose=f"patch_size_um={size!r}",
            instead="patch_size_px",
        )
        sides = tuple(side / known for side in sides)
    return max(16, round(sides[0])), max(16, round(sides[1]))
