"""The table of a multiplexed image: mean intensity of every channel in every label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sjg import access
from sjg.tl._patch_progress import patch_progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from spatialdata import SpatialData


def aggregate_channels(
    sdata: SpatialData,
    labels_key: str,
    image_key: str | None = None,
    *,
    key_added: str,
    channels: Sequence[str | int] | None = None,
    pixel_size_um: float | None = None,
    coordinate_system: str = "global",
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Average every channel of an image over every label and write the table.

    Labels and image are brought together through their transformations and read block by block, so that memory follows the number of labels
    and not the size of the image.

    Parameters
    ----------
    sdata
        The object, changed in place.
    labels_key
        2-D integer labels from any source, 0 = background; ids may have gaps.
    image_key
        The image; None takes the only one.
    key_added
        Key of the new table.
    channels
        Names or indices; None takes all.
    pixel_size_um
        Side of a pixel of the image; None deduces it from the frame of the transcripts.
    coordinate_system
        Where the elements meet; the frame of ``obsm["spatial"]``.
    overwrite
        Whether an existing table may be replaced.
    progress
        Whether to show a bar.

    Returns
    -------
    None, and writes ``tables[key_added]``, annotating `labels_key`, rows sorted by label id, with

    ``X``
        float32 (labels, channels) mean intensity in raw units; ``var_names`` the channels.
    ``obs``
        ``region`` (categorical), ``cell_id`` (the label id), ``area_um2`` (``area_px2`` where no pixel size is known).
    ``obsm["spatial"]``
        (labels, 2) centroids (x, y) in the coordinate system.

    Raises
    ------
    MissingElementError, AmbiguousElementError
        No such element, or several images and none chosen.
    ExistingElementError
        The table exists and `overwrite` is False.
    InputError
        No such channel, or no label on the image.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64))
    >>> sjg.tl.aggregate_channels(sdata, "cells", "dapi", key_added="intensity")
    >>> sdata["intensity"].var_names.tolist()
    ['dapi']
    """
    labels_key, image_key = access.choose_labels(sdata, labels_key), access.choose_image(sdata, image_key)
    access.check_new_keys(sdata, {"tables": [key_added]}, key_added=key_added, overwrite=overwrite)
    indices = access.choose_planes(sdata, image_key, channels)
    if pixel_size_um is None:
        pixel_size_um = access.only_pixel_size_um(sdata, image_key, coordinate_system=coordinate_system)
    with patch_progress(progress, "mean intensity") as report:
        ids, means, area, centroid = access.mean_intensity(
            sdata, labels_key, image_key, indices, coordinate_system=coordinate_system, report=report
        )
    unit, factor = ("px2", 1.0) if pixel_size_um is None else ("um2", pixel_size_um**2)
    table = access.instance_table(
        means,
        access.channel_names(sdata, image_key, indices),
        region=labels_key,
        instance_ids=ids,
        obs={f"area_{unit}": area * factor},
        spatial=centroid,
    )
    access.attach(sdata, access.Outputs(tables={key_added: table}))
