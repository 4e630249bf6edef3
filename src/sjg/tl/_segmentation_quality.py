"""Judge segmentations of a multiplexed image without truth."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from sjg import access
from sjg._logging import logger
from sjg._settings import settings
from sjg.core import InputError
from sjg.imaging import QUALITY_METRICS, quality_metrics, quality_scores, tissue_foreground
from sjg.tl._patch_progress import patch_progress

if TYPE_CHECKING:
    from spatialdata import SpatialData


def segmentation_quality(
    sdata: SpatialData,
    cells_keys: str | Sequence[str],
    image_key: str | None = None,
    *,
    nuclei_key: str | Sequence[str],
    channels: Sequence[str | int] | None = None,
    segmented_channels: Sequence[str | int] | None = None,
    patches_key: str | None = None,
    pixel_size_um: float | None = None,
    coordinate_system: str = "global",
    random_state: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """The 14 truth-free metrics of CellSegmentationEvaluator, and a score that ranks segmentations.

    Each metric is higher for a better segmentation: density and coverage of cells, evenness of their size, agreement of cells with
    nuclei, uniformity of the tissue that no cell covers, and likeness of cells of one cluster in nucleus and cytoplasm.

    Image and labels are read block by block; the outline of the tissue in images of more than 67 million pixels goes to a scratch file.

    Parameters
    ----------
    sdata
        The object; nothing is written.
    cells_keys
        Labels of whole cells, one or several segmentations. Labels in other frames are brought to the pixels of the image.
    image_key
        The image; None takes the only one.
    nuclei_key
        Labels of nuclei for all segmentations, or one for each.
    channels
        Channels whose intensities in the cells are compared; None takes all.
    segmented_channels
        Channels that tell tissue from background, usually those that were segmented; None takes all, and asks for signal in more
        than a tenth of them.
    patches_key
        Patches from :func:`sjg.pp.patches`: only those that :func:`sjg.pp.patch_quality` found informative count as image, the others
        are not read. None takes the whole image.
    pixel_size_um
        Side of a pixel of the image; None deduces it from the frame of the transcripts.
    coordinate_system
        Where the elements meet.
    random_state
        Seed of the clusterings.
    progress
        Whether to show bars.

    Returns
    -------
    DataFrame with a row for each of `cells_keys`, a column for each metric (``sjg.imaging.QUALITY_METRICS``), and

    ``quality_score``
        The first two principal components of the metrics, weighted by the variance that they explain. The published score projects on
        components fitted to another collection of images; here they are those of the segmentations compared, so scores rank the rows
        of one call, of which there must be three.

    ``attrs["n_patches"]`` and ``attrs["n_patches_skipped"]`` tell, with `patches_key`, how many there are and were left out.

    Raises
    ------
    MissingElementError, AmbiguousElementError
        No such element, or several images and none chosen.
    InputError
        No pixel size, or not one set of nuclei for each segmentation.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64))
    >>> table = sjg.tl.segmentation_quality(sdata, "cells", "dapi", nuclei_key="nuclei", pixel_size_um=0.5)
    >>> table.shape
    (1, 15)
    """
    image_key = access.choose_image(sdata, image_key)
    keys = [cells_keys] if isinstance(cells_keys, str) else list(cells_keys)
    nuclei_keys = [nuclei_key] * len(keys) if isinstance(nuclei_key, str) else list(nuclei_key)
    if len(nuclei_keys) != len(keys):
        raise InputError(f"nuclei_key names {len(nuclei_keys)} labels for {len(keys)} segmentations; give one, or one for each.")
    for key in {*keys, *nuclei_keys}:
        access.choose_labels(sdata, key)
    pixel_size_um = access.known_pixel_size_um(
        sdata, image_key, pixel_size_um, coordinate_system=coordinate_system, purpose="The density of cells"
    )
    grid = access.image_grid(sdata, image_key, coordinate_system=coordinate_system)

    def planes(wanted: Sequence[str | int] | None) -> list[Any]:
        return access.channel_planes(sdata, image_key, access.choose_planes(sdata, image_key, wanted))

    intensities, segmented = planes(channels), planes(segmented_channels)
    min_channels = round(0.1 * len(segmented)) + 1 if segmented_channels is None and len(segmented) > 1 else 1
    rows, region, attributes = [], None, {}
    if patches_key is not None:
        _, layout, informative = access.read_patches(sdata, patches_key, image_key)
        region = partial(layout.covered, informative)
        attributes = {"n_patches": len(layout), "n_patches_skipped": int((~informative).sum())}
        logger.info("%d of %d patches left out as not informative", attributes["n_patches_skipped"], len(layout))
    with tempfile.TemporaryDirectory(prefix="sjg-quality-", dir=settings.scratch_dir) as scratch:
        folder = Path(scratch) if grid.shape[0] * grid.shape[1] > access.MAX_IN_MEMORY_PX2 else None
        with patch_progress(progress, "tissue") as report:
            foreground = tissue_foreground(
                segmented,
                min_channels=min_channels,
                region=region,
                blank=lambda name: access.blank_rasters([name], grid.shape, folder, dtype="bool")[name],
                report=report,
            )
        for key, of_nuclei in zip(keys, nuclei_keys, strict=True):
            labels, nuclei = (access.labels_on_grid(sdata, name, grid, coordinate_system=coordinate_system)[0] for name in (key, of_nuclei))
            with patch_progress(progress, key) as report:
                rows.append(
                    quality_metrics(
                        labels,
                        nuclei,
                        intensities,
                        foreground,
                        pixel_size_um=pixel_size_um,
                        random_state=random_state,
                        region=region,
                        report=report,
                    )
                )
    table = pd.DataFrame(rows, index=pd.Index(keys, name="segmentation"), columns=list(QUALITY_METRICS))
    table["quality_score"] = quality_scores(table.to_numpy())
    table.attrs.update(attributes)
    return table
