"""Which elements of a SpatialData object a run uses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from spatialdata.models import get_axes_names, get_channel_names

from sjg.core import AmbiguousElementError, InputError, MissingElementError

if TYPE_CHECKING:
    from spatialdata import SpatialData

#: a channel that stains nuclei, by its name
_NUCLEAR_CHANNEL = re.compile(r"dapi|hoechst|draq5|nuc", re.IGNORECASE)
#: columns that platforms use for the gene, in order of preference
_FEATURE_COLUMNS = ("gene", "feature_name", "target", "gene_name", "geneID", "feature")


def _listed(names: Iterable[object]) -> str:
    text = ", ".join(repr(name) for name in names)
    return text or "none"


def _choose(kind: str, valid: Iterable[str], key: str | None, argument: str, mend: str) -> str:
    names = sorted(valid)
    if key is not None:
        if key not in names:
            raise MissingElementError(f"{argument}={key!r} names no {kind} of the SpatialData object; there are: {_listed(names)}.")
        return key
    if not names:
        raise MissingElementError(f"The SpatialData object has no {kind}; {mend}.")
    if len(names) > 1:
        raise AmbiguousElementError(
            f"The SpatialData object has several {kind}: {_listed(names)}; say which one to use, e.g. {argument}={names[0]!r}."
        )
    return names[0]


def choose_image(sdata: SpatialData, image_key: str | None = None, *, allow_stack: bool = False) -> str:
    """Key of the image to read: `image_key`, or the only image of `sdata`; 3-D stacks are refused unless `allow_stack`.

    Raises
    ------
    MissingElementError
        No image, or no image of that name.
    AmbiguousElementError
        Several images and none chosen.
    InputError
        The image is a 3-D stack.
    """
    key = _choose("images", sdata.images, image_key, "image_key", "add the nuclear stain with Image2DModel.parse(...)")
    if "z" in get_axes_names(sdata.images[key]) and not allow_stack:
        raise InputError(
            f"images[{key!r}] is a 3-D stack; sjg segments one plane: add a 2-D image, e.g. its maximum over z "
            f"(Image2DModel.parse(sdata.images[{key!r}].max('z'), transformations=...))."
        )
    return key


def choose_points(sdata: SpatialData, points_key: str | None = None) -> str:
    """Key of the transcripts: `points_key`, or the only points of `sdata`.

    Raises
    ------
    MissingElementError
        No points, or no points of that name.
    AmbiguousElementError
        Several points and none chosen.
    """
    return _choose("points", sdata.points, points_key, "points_key", "add the transcripts with PointsModel.parse(...)")


def choose_nuclei(sdata: SpatialData, nuclei_key: str | None = None) -> str | None:
    """Key of the nuclei, labels or shapes: `nuclei_key`, or ``labels["nuclei"]`` where there is one, or None.

    Raises
    ------
    MissingElementError
        No labels or shapes of that name.
    InputError
        The labels are 3-D.
    """
    if nuclei_key is None and "nuclei" not in sdata.labels:
        return None
    valid = [*sdata.labels, *sdata.shapes]
    key = _choose("labels or shapes", valid, nuclei_key or "nuclei", "nuclei_key", "add nuclei")
    if key in sdata.labels and "z" in get_axes_names(sdata.labels[key]):
        raise InputError(f"labels[{key!r}] are 3-D; sjg grows nuclei in a plane: add 2-D labels, e.g. their maximum over z.")
    return key


def choose_labels(sdata: SpatialData, labels_key: str | None = None, *, argument: str = "labels_key") -> str:
    """Key of 2-D labels: `labels_key`, or the only labels of `sdata`; `argument` is what the caller names it.

    Raises
    ------
    MissingElementError
        No labels, or no labels of that name.
    AmbiguousElementError
        Several labels and none chosen.
    InputError
        The labels are 3-D.
    """
    key = _choose("labels", sdata.labels, labels_key, argument, "add labels with Labels2DModel.parse(...)")
    if "z" in get_axes_names(sdata.labels[key]):
        raise InputError(f"{argument}={key!r} names 3-D labels; sjg reads 2-D labels: add e.g. their maximum over z.")
    return key


def choose_channel(sdata: SpatialData, image_key: str, channel: str | int | None = None) -> int:
    """Index of the channel to read from ``images[image_key]``.

    Parameters
    ----------
    sdata
        The object.
    image_key
        Key of the image.
    channel
        A channel name, or an index where no channel has that name. With None the only channel, or the one that is named
        like a nuclear stain (``dapi``, ``hoechst``, ``draq5``, ``nuc...``).

    Raises
    ------
    InputError
        No such channel, or several channels and none (or several) named like a nuclear stain.
    """
    names = [str(name) for name in get_channel_names(sdata.images[image_key])]
    if channel is not None:
        if str(channel) in names:
            return names.index(str(channel))
        if isinstance(channel, int) and 0 <= channel < len(names):
            return channel
        raise InputError(f"channel={channel!r} is no channel of images[{image_key!r}]; there are: {_listed(names)}.")
    if len(names) == 1:
        return 0
    nuclear = [index for index, name in enumerate(names) if _NUCLEAR_CHANNEL.search(name)]
    exact = [index for index in nuclear if names[index].lower() == "dapi"]
    for found in (exact, nuclear):
        if len(found) == 1:
            return found[0]
    raise InputError(
        f"images[{image_key!r}] has {len(names)} channels and {'several are' if nuclear else 'none is'} named like a nuclear stain; "
        f"pass channel=, one of: {_listed(names)}."
    )


def choose_feature_key(sdata: SpatialData, points_key: str, feature_key: str | None = None) -> str:
    """Column of ``points[points_key]`` that holds the gene.

    `feature_key`, else the element's own ``feature_key`` attribute, else a column with a usual name (``gene``,
    ``feature_name``, ``target``, ...).

    Raises
    ------
    InputError
        No such column; the message lists the columns.
    """
    points = sdata.points[points_key]
    columns = [str(column) for column in points.columns]
    attrs = points.attrs.get("spatialdata_attrs", {})
    chosen = feature_key if feature_key is not None else (attrs.get("feature_key") if isinstance(attrs, dict) else None)
    if chosen is not None:
        if chosen not in columns:
            source = "feature_key" if feature_key is not None else "the element's feature_key attribute"
            raise InputError(f"points[{points_key!r}] has no column {chosen!r} ({source}); pass feature_key=, one of: {_listed(columns)}.")
        return str(chosen)
    for name in _FEATURE_COLUMNS:
        if name in columns:
            return name
    raise InputError(f"points[{points_key!r}] does not say which column holds the gene; pass feature_key=, one of: {_listed(columns)}.")
