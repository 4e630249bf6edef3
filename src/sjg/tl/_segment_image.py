"""Nuclei and cells from a multiplexed image, patch by patch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from sjg import access
from sjg._logging import logger
from sjg._settings import settings
from sjg.core import InputError
from sjg.imaging import CellParameters, FolderResults, MemoryResults, PatchRun, WatershedParameters, lay_patches
from sjg.imaging._segmenters import OUTPUTS
from sjg.tl._image_methods import MethodRequest, choose_segmenter, describe_method
from sjg.tl._patch_progress import patch_progress

if TYPE_CHECKING:
    from spatialdata import SpatialData

    from sjg.imaging import PatchLayout

#: side of the patches where the user brings none
_PATCH_PX = 2048
#: channel of the image of boundaries for each output
_CHANNELS = {"nuclei": "nucleus", "cells": "cell"}


@dataclass(frozen=True)
class _Scope:
    """The pixels that a run looks at."""

    image_key: str
    channels: list[int]
    planes: list[Any]
    layout: PatchLayout
    informative: NDArray[np.bool_]


def segment_image(
    sdata: SpatialData,
    image_key: str | None = None,
    *,
    nucleus_channel: str | int | None = None,
    membrane_channels: str | int | Sequence[str | int] | None = None,
    method: Literal["watershed", "cellpose", "stardist", "mesmer"] | Callable[[NDArray[Any]], Any] | Any = "watershed",
    weights: str | Path | None = None,
    compartment: Literal["nucleus", "cell", "both"] = "nucleus",
    patches_key: str | None = None,
    diameter_um: float | None = None,
    diameter_px: float | None = None,
    halo_px: int | None = None,
    pixel_size_um: float | None = None,
    coordinate_system: str = "global",
    boundaries: bool = False,
    max_memory_gb: float = 2.0,
    checkpoint_dir: str | Path | None = None,
    resume: bool = False,
    nuclei_parameters: WatershedParameters | None = None,
    cell_parameters: CellParameters | None = None,
    key_added: str = "image",
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Segment nuclei, whole cells or both in an image of any size.

    The image is read lazily, patch by patch with a margin; each object is written whole by the patch that holds its centre, so that no
    cell is cut. Patches that :func:`sjg.pp.patch_quality` found empty or noisy are skipped and counted. Images of more than 67 million
    pixels are stitched on disk: memory then follows `max_memory_gb` and the size of a patch, not that of the image.

    Parameters
    ----------
    sdata
        The object, changed in place.
    image_key
        The image; None takes the only one.
    nucleus_channel
        Nuclear channel, by name or index; None takes the only one, or the one named like a nuclear stain.
    membrane_channels
        Channels that stain membranes or cytoplasm. The watershed lets each vote in proportion to how much brighter it is between nuclei
        than inside them; networks get their maximum.
    method
        ``"watershed"`` needs no weights. ``"cellpose"``, ``"stardist"`` and ``"mesmer"`` need their package and `weights`. An object with
        Mesmer's ``predict(batch (N, y, x, 2), image_mpp=, compartment=)`` is called with batches of patches. Any other function is
        called with the nuclear channel (y, x), or all channels (1 + k, y, x) where there are membrane channels, and returns
        labels; for both compartments a pair (nuclei, cells).
    weights
        Path of the trained weights of a named network. Nothing is downloaded.
    compartment
        What to segment. With the watershed, a nucleus and its cell share their id; other methods are paired by
        :func:`sjg.tl.match_nuclei`.
    patches_key
        Patches from :func:`sjg.pp.patches`; None uses 2,048-px patches.
    diameter_um
        Typical diameter of the nuclei in micrometres; None estimates it.
    diameter_px
        The same in pixels of the image; give at most one of the two.
    halo_px
        Margin around a patch for methods other than the watershed, at least the width of the largest cell; default four diameters (or
        128 px).
    pixel_size_um
        Side of a pixel of the image; None deduces it from the frame of the transcripts.
    coordinate_system
        Where image and transcripts meet, to deduce the pixel size.
    boundaries
        Whether to write an image of the boundaries too.
    max_memory_gb
        Memory for the patches that are worked on together; it sets the size of the batches.
    checkpoint_dir
        Folder where finished patches are kept.
    resume
        Go on with the patches that an interrupted run left in `checkpoint_dir`.
    nuclei_parameters, cell_parameters
        Knobs of the watershed; None for the defaults.
    key_added
        Prefix of the outputs.
    overwrite
        Whether outputs of these names may be replaced.
    progress
        Whether to show a bar.

    Returns
    -------
    None, and writes, by `compartment`,

    ``labels["{key_added}_nuclei"]``, ``labels["{key_added}_cells"]``
        int32 (y, x), 0 = background, ids 1..n without gaps, with the transformations of the image.
    ``images["{key_added}_boundaries"]``
        With `boundaries`: uint8 (c, y, x), 255 on the inner boundaries; channels ``nucleus``, ``cell``.

    Raises
    ------
    MissingElementError, AmbiguousElementError
        No such image or patches, or several and none chosen.
    ExistingElementError
        An output exists and `overwrite` is False.
    DependencyError
        The package of a network is not installed.
    CheckpointError
        `resume` with the checkpoints of other settings.
    InputError
        No such channel, weights or method; no nucleus in the image; a method that returns no labels.

    See Also
    --------
    sjg.tl.match_nuclei : pair cells with nuclei.
    sjg.tl.segmentation_quality : judge the result without truth.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(96, 96))
    >>> sjg.tl.segment_image(sdata, compartment="both", progress=False)
    >>> sorted(key for key in sdata.labels if key.startswith("image"))
    ['image_cells', 'image_nuclei']
    """
    if compartment not in OUTPUTS:
        raise InputError(f"compartment={compartment!r} is unknown; choose 'nucleus', 'cell' or 'both'.")
    if not max_memory_gb > 0:
        raise InputError(f"max_memory_gb={max_memory_gb!r} must be positive.")
    if resume and checkpoint_dir is None:
        raise InputError("resume=True needs checkpoint_dir, the folder of the interrupted run.")
    if patches_key is not None and image_key is None:
        image_key = access.read_patches(sdata, patches_key)[0]
    image_key = access.choose_image(sdata, image_key)
    names = OUTPUTS[compartment]
    keys = {name: f"{key_added}_{name}" for name in names}
    new_keys = {"labels": list(keys.values()), "images": [f"{key_added}_boundaries"] if boundaries else []}
    access.check_new_keys(sdata, new_keys, key_added=key_added, overwrite=overwrite)
    scope = _scope(sdata, image_key, nucleus_channel, membrane_channels, patches_key)
    request = MethodRequest(
        method=method,
        weights=weights,
        compartment=compartment,
        diameter_px=access.length_px(
            sdata, image_key, um=diameter_um, px=diameter_px, pixel_size_um=pixel_size_um, coordinate_system=coordinate_system
        ),
        halo_px=halo_px,
        pixel_size_um=pixel_size_um or access.only_pixel_size_um(sdata, image_key, coordinate_system=coordinate_system),
        nuclei=nuclei_parameters or WatershedParameters(),
        cells=cell_parameters or CellParameters(),
    )
    segmenter = choose_segmenter(request, scope.planes, f"images[{image_key!r}]")
    run = PatchRun(
        layout=scope.layout,
        informative=scope.informative,
        read=lambda box: access.read_box(scope.planes, box),
        segmenter=segmenter,
        n_channels=len(scope.channels),
        itemsize=scope.planes[0].dtype.itemsize,
        max_memory_gb=max_memory_gb,
    )
    n_pixels = scope.layout.shape[0] * scope.layout.shape[1]
    on_disk = n_pixels > access.MAX_IN_MEMORY_PX2
    with tempfile.TemporaryDirectory(prefix="sjg-segment-image-", dir=settings.scratch_dir) as scratch:
        results: MemoryResults | FolderResults
        if checkpoint_dir is not None or on_disk:
            folder = Path(scratch if checkpoint_dir is None else checkpoint_dir)
            facts = {
                "image_key": image_key,
                "shape": scope.layout.shape,
                "channels": scope.channels,
                "layout": asdict(scope.layout),
                **describe_method(request, segmenter),
            }
            results = FolderResults(folder, facts, resume=resume)
        else:
            folder, results = None, MemoryResults()
        n_skipped = int((~scope.informative).sum())
        with patch_progress(progress, "patches") as report:
            n_new = run.segment(results, report=report)
        rasters = access.blank_rasters(names, scope.layout.shape, folder if on_disk else None)
        largest, n_beyond = run.stitch(results, rasters)
        labels, counts = access.numbered_labels(rasters, largest, joint=segmenter.joint)
        if not all(counts.values()):
            raise InputError(
                f"No nucleus or cell was found in images[{image_key!r}] ({n_skipped} of {len(scope.layout)} patches were skipped as not "
                "informative); check nucleus_channel=, give the size of the nuclei (diameter_um= or diameter_px=), or pass another method."
            )
        if on_disk and sdata.path is None and checkpoint_dir is None:
            # the scratch files go: without a store the result has to live in memory
            labels = {name: access.in_memory(array) for name, array in labels.items()}
        outputs = access.Outputs(
            labels={keys[name]: access.labels_element(sdata, image_key, array) for name, array in labels.items()},
            images={
                key: access.boundaries_element(sdata, image_key, {_CHANNELS[name]: array for name, array in labels.items()})
                for key in new_keys["images"]
            },
        )
        access.attach(sdata, outputs)
        if on_disk:
            access.read_again(sdata, new_keys)
    if n_beyond:
        logger.warning("%d objects reach beyond the margin of their patch and may be cut; use larger patches or halo_px=", n_beyond)
    logger.info(
        "%s in images[%r]; %d of %d patches segmented now, %d skipped as not informative",
        ", ".join(f"{count} {name}" for name, count in counts.items()),
        image_key,
        n_new,
        len(scope.layout),
        n_skipped,
    )


def _scope(
    sdata: SpatialData,
    image_key: str,
    nucleus_channel: str | int | None,
    membrane_channels: str | int | Sequence[str | int] | None,
    patches_key: str | None,
) -> _Scope:
    nucleus = access.choose_channel(sdata, image_key, nucleus_channel)
    membranes = [] if membrane_channels is None else access.choose_planes(sdata, image_key, membrane_channels)
    if nucleus in membranes:
        raise InputError(f"The nuclear channel of images[{image_key!r}] is named among membrane_channels too; leave it out there.")
    channels = [nucleus, *membranes]
    planes = access.channel_planes(sdata, image_key, channels)
    if patches_key is None:
        layout = lay_patches(access.image_shape(sdata, image_key), (_PATCH_PX, _PATCH_PX), overlap=0.0)
        informative = np.ones(len(layout), dtype=bool)
    else:
        _, layout, informative = access.read_patches(sdata, patches_key, image_key)
    if not informative.any():
        raise InputError(
            f"None of the {len(layout)} patches of shapes[{patches_key!r}] is informative; check the thresholds of sjg.pp.patch_quality, or "
            "leave patches_key out."
        )
    return _Scope(image_key, channels, planes, layout, informative)
