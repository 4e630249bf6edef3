"""Joint segmentation and gene prioritisation: the main function of the package."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sjg import access
from sjg._keys import DEFAULT_KEY
from sjg._logging import logger
from sjg.core import InputError
from sjg.tl._inputs import Request, RunInputs, choose_features, read_inputs
from sjg.tl._missed import find_missed_nuclei
from sjg.tl._progress import RunProgress
from sjg.tl._run_quality import run_quality

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from anndata import AnnData
    from pandas import DataFrame
    from spatialdata import SpatialData

    from sjg.core import Segmentation
    from sjg.training import Parameters, PublishedParameters


def segment(
    sdata: SpatialData,
    image_key: str | None = None,
    points_key: str | None = None,
    *,
    nuclei_key: str | None = None,
    cell_type_key: str | None = None,
    reference: AnnData | DataFrame | str | None = None,
    preset: str = "default",
    resolution_um: float | None = None,
    pixel_size_um: float | None = None,
    coordinate_system: str = "global",
    feature_key: str | None = None,
    channel: str | int | None = None,
    min_qv: float | None = 20.0,
    control_pattern: str | None = access.CONTROL_PATTERN,
    features: Literal["auto", "transcripts", "channels"] = "auto",
    channels: Sequence[str] | None = None,
    channel_values: Literal["auto", "density", "intensity"] = "auto",
    assignment: Literal["posterior", "mask"] = "posterior",
    find_missed: bool = False,
    key_added: str = DEFAULT_KEY,
    device: str = "auto",
    random_state: int = 0,
    max_epochs: int | None = None,
    parameters: Mapping[str, Any] | None = None,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_interval: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> None:
    """Segment cells and score genes jointly, from nuclei and transcripts.

    Every nucleus becomes a cell. Neighbouring cells and the background compete for pixels and transcripts by the claims of a network that was
    trained on simulated tissue with known cells and looks at distances, densities and how well transcripts agree with each cell's type. A
    second network learns the types of this tissue's pixels, and with it the importance of its genes. Nothing needs to be chosen where the object has one image, one set of points
    and, if any, nuclei called ``nuclei``.

    An object without points is segmented by the channels of its image in place of genes: stained proteins, or gene densities. Then
    ``tl.segment(sdata, image_key="codex")`` is enough, and genes below are channels.

    Parameters
    ----------
    sdata
        Object with a nuclear image and transcripts. It is changed only when the run has succeeded; where it is backed by a store,
        the new elements are written there too.
    image_key
        Image with the nuclear stain; None = the only one.
    points_key
        Transcripts; None = the only points. Where the object has no points, or with ``features="channels"``, the channels of the image
        stand in place of genes.
    nuclei_key
        Labels or shapes of the nuclei; None takes the labels ``nuclei`` if there are any, else finds nuclei in the image (:func:`sjg.pp.segment_nuclei`).
    cell_type_key
        Column of the table that annotates the nuclei with their cell types.
    reference
        Reference for the cell types where no column is given: cells with ``obs["cell_type"]``, class means (``obs_names`` = types), a genes x
        classes frame, or the key of a table in `sdata`. None clusters the nuclei; types are then named ``0``, ``1``, ...
    preset
        ``"default"``, ``"fast"`` (two cores, minutes) or ``"published"`` (the paper's update rule).
    resolution_um
        Side of a working pixel in micrometres; None = 0.5 where the pixel size is known. Where it is not known, the image's pixels are
        used, merged by a whole factor that keeps nuclei at least 10 pixels across.
    pixel_size_um
        Side of a pixel of the image in micrometres, where the transformations do not tell.
    coordinate_system
        Where image, nuclei and transcripts meet.
    feature_key
        Column of the points with the gene; None = the one that the points declare.
    channel
        Nuclear channel of the image, where it has several.
    features
        ``"transcripts"``, ``"channels"``, or ``"auto"``: channels where the object has no points.
    channels
        Channels in place of genes; None = all but the nuclear stain (`channel`, or the one named like a stain).
    channel_values
        What the channels hold: ``"intensity"``, stains, whose background is subtracted and which are brought to one scale; ``"density"``,
        molecules per pixel, taken as they are; ``"auto"`` = densities where the object comes from :func:`sjg.io.read_patches` or a
        reference is given, else intensities. The presets ``default`` and ``fast`` draw molecules from them, ``published`` takes them as they
        are. The image's own pixels are the working pixels.
    min_qv
        Transcripts with a ``qv`` below are left out; None keeps all.
    control_pattern
        Regular expression of control probes to leave out; None keeps all.
    assignment
        ``"posterior"`` gives each transcript to its most probable cell, which may lie just outside the cell's mask; ``"mask"``
        allows only the cell whose mask holds it.
    find_missed
        Also make cells where no nucleus shows but transcripts form a cell of their own, far from all nuclei; their ``nucleus_id`` is 0. On
        simulated tissue with 10 % missed nuclei it finds 6 of 10 such cells in crowded tissue (4 where cells show 12 transcripts) and 9 of
        10 in sparse tissue, and 83 to 98 % of those that it makes are real; where none is missed, up to 11 cells in a thousand are made up.
    key_added
        Prefix of everything written.
    device
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"mps"``.
    random_state
        Seed; the same seed gives the same result on the same machine.
    max_epochs
        Rounds of self-training instead of the preset's.
    parameters
        Single settings of the preset to change, see :class:`sjg.training.Parameters`.
    checkpoint_dir
        Folder for checkpoints (``published``: with ``labels.npz``, its labels so far). An interrupted run, also one that was killed, goes
        on from there and gives the same result; SIGTERM leads to a checkpoint before the process ends.
    checkpoint_interval
        Training steps, or tiles of the prediction, between two checkpoints: what an interruption costs at most. None = 50 (``published``:
        10, in epochs).
    resume
        Continue from the checkpoint in `checkpoint_dir`.
    overwrite
        Replace earlier outputs of the same `key_added`.
    progress
        Show a progress bar (in a terminal or notebook).

    Returns
    -------
    None, and writes (with ``key_added="sjg"``; under ``torchrun`` the first process does):

    ``labels["sjg_cells"]``
        (y, x) integer, 0 = background, ids 1..n.
    ``shapes["sjg_boundaries"]``
        One polygon per cell, index = id.
    ``tables["sjg_table"]``
        Annotates ``sjg_cells`` by ``cell_id``. ``X`` and ``layers["counts"]`` transcripts per cell and gene; ``obs`` ``cell_type``, ``cell_type_confidence``,
        ``area_um2`` (``area_px2`` where no pixel size is known), ``n_transcripts``, ``nucleus_id``; ``varm["gene_importance"]`` genes x types;
        ``obsm["spatial"]`` centroids in `coordinate_system`; ``uns["sjg"]`` parameters, versions, history, quality, network.
    ``points[points_key]``
        Columns ``sjg_cell_id`` (0 = none) and ``sjg_confidence``.

    Of channels the table holds intensities: ``X`` the mean of each channel over the cell, ``layers["total"]`` its sum,
    ``varm["gene_importance"]`` channels x types; there are no counts and no transcripts to assign.

    Raises
    ------
    InputError
        An element or argument cannot be used; the message names it and says how to mend it. Raised before any long work.
    ExistingElementError
        Outputs exist and `overwrite` is False.
    DeviceError
        The device is not available.
    CheckpointError
        `resume` without a checkpoint of this run, a damaged one, or no room to write one; the last good one is kept.
    ScratchError
        No room for working files (:attr:`sjg.settings.scratch_dir`).

    References
    ----------
    :cite:p:`ma2026segjointgene` for joint segmentation and gene prioritisation with computational information discarding.

    Examples
    --------
    >>> import sjg
    >>> sdata = sjg.datasets.simulated_tissue(size_um=(64, 64))
    >>> sjg.tl.segment(sdata, reference="reference", preset="fast", max_epochs=1, parameters={"steps_per_round": 5}, progress=False)
    >>> sorted(sdata.labels)
    ['cells', 'nuclei', 'sjg_cells']
    """
    started = time.perf_counter()
    settings = _settings(preset, max_epochs, parameters)
    if assignment not in ("posterior", "mask"):
        raise InputError(f"assignment={assignment!r}; choose 'posterior' or 'mask'.")
    if resume and checkpoint_dir is None:
        raise InputError("resume=True needs checkpoint_dir, the folder of the interrupted run.")
    if checkpoint_interval is not None and (
        isinstance(checkpoint_interval, bool) or not isinstance(checkpoint_interval, int) or checkpoint_interval < 1
    ):
        raise InputError(f"checkpoint_interval={checkpoint_interval!r}; give a whole number >= 1, or None for the preset's.")
    if isinstance(random_state, bool) or not isinstance(random_state, int) or random_state < 0:
        raise InputError(f"random_state={random_state!r}; give a whole number >= 0.")
    chosen = choose_features(sdata, features, points_key)
    if channel_values not in ("auto", "density", "intensity"):
        raise InputError(f"channel_values={channel_values!r}; choose 'auto', 'density' or 'intensity'.")
    if chosen == "transcripts" and (channels is not None or channel_values != "auto"):
        raise InputError("channels= and channel_values= are for channels in place of genes; pass features='channels', or leave them out.")
    if chosen == "channels" and find_missed:
        raise InputError("find_missed=True looks for transcripts far from nuclei; it is not for channels in place of genes.")
    chosen_points = access.choose_points(sdata, points_key) if chosen == "transcripts" else None
    access.check_output_keys(sdata, key_added, chosen_points, overwrite=overwrite)
    from sjg.training import check_resumable, make_fabric

    if resume and checkpoint_dir is not None:
        check_resumable(Path(checkpoint_dir))
    fabric = make_fabric(device)
    if preset == "published" and fabric.world_size > 1:
        raise InputError("preset='published' runs in one process; start it without torchrun.")
    request = Request(
        image_key=image_key,
        points_key=chosen_points,
        nuclei_key=nuclei_key,
        cell_type_key=cell_type_key,
        reference=reference,
        resolution_um=resolution_um,
        pixel_size_um=pixel_size_um,
        coordinate_system=coordinate_system,
        feature_key=feature_key,
        channel=channel,
        min_qv=min_qv,
        control_pattern=control_pattern,
        random_state=random_state,
        features=chosen,
        channels=None if channels is None else tuple(map(str, [channels] if isinstance(channels, str) else channels)),
        channel_values=channel_values,
        calibrate_reference=getattr(settings, "calibrate_reference", False),
    )
    with RunProgress(enabled=progress) as bar:
        inputs = read_inputs(sdata, request)
        seconds = {"reading": time.perf_counter() - started}
        if find_missed:
            inputs = find_missed_nuclei(inputs, settings, fabric, on_progress=bar)
            seconds["finding"] = time.perf_counter() - started - seconds["reading"]
        result = _run(
            inputs,
            settings,
            fabric=fabric,
            random_state=random_state,
            checkpoint_dir=None if checkpoint_dir is None else Path(checkpoint_dir),
            checkpoint_interval=checkpoint_interval,
            resume=resume,
            restrict_to_mask=assignment == "mask",
            on_progress=bar,
        )
        if not fabric.is_global_zero:
            return
        seconds["segmenting"] = time.perf_counter() - started - sum(seconds.values())
        bar({"phase": "writing", "done": 0, "total": 1})
        details = _details(inputs, result, request, preset=preset, device=str(fabric.device), seconds=seconds, assignment=assignment)
        _write(sdata, result, inputs, key_added=key_added, uns=details, overwrite=overwrite)
    logger.info("segmented %s cells in %.0f s", int(result.labels.max()), time.perf_counter() - started)


def _settings(preset: str, max_epochs: int | None, changes: Mapping[str, Any] | None) -> Parameters | PublishedParameters:
    from sjg.training import PRESETS

    if preset not in PRESETS:
        raise InputError(f"preset={preset!r}; choose one of {', '.join(sorted(PRESETS))}.")
    settings = PRESETS[preset].replace(**(changes or {}))
    if max_epochs is not None:
        if isinstance(max_epochs, bool) or not isinstance(max_epochs, int) or max_epochs < 1:
            raise InputError(f"max_epochs={max_epochs!r}; give a whole number >= 1, or None for the preset's.")
        settings = settings.replace(n_rounds=max_epochs)
    return settings


def _run(inputs: RunInputs, settings: Parameters | PublishedParameters, *, checkpoint_interval: int | None, **options: Any) -> Segmentation:
    from sjg import training

    if isinstance(settings, training.PublishedParameters):
        if checkpoint_interval is not None:
            settings = settings.replace(checkpoint_interval=checkpoint_interval)
        data = inputs.molecules if inputs.channels is None else inputs.channels.densities()
        return training.segment_published(data, inputs.nuclei, inputs.types, settings, trained=inputs.trained, **options)
    if checkpoint_interval is not None:
        options["checkpoint_interval"] = checkpoint_interval
    spread = None if access.current_client() is None else access.starmap_in_order
    return training.segment_tissue(inputs.molecules, inputs.nuclei, inputs.types, settings, spread=spread, **options)


def _write(sdata: SpatialData, result: Segmentation, inputs: RunInputs, *, key_added: str, uns: Mapping[str, Any], overwrite: bool) -> None:
    if inputs.channels is not None:
        access.write_channel_segmentation(
            sdata,
            result,
            inputs.grid,
            channels=inputs.channels,
            image_key=inputs.image_key,
            key_added=key_added,
            coordinate_system=inputs.coordinate_system,
            source_ids=inputs.source_ids,
            uns=uns,
            overwrite=overwrite,
        )
    elif inputs.report is not None and inputs.points_key is not None:
        access.write_segmentation(
            sdata,
            result,
            inputs.grid,
            molecules=inputs.molecules,
            report=inputs.report,
            image_key=inputs.image_key,
            points_key=inputs.points_key,
            key_added=key_added,
            coordinate_system=inputs.coordinate_system,
            source_ids=inputs.source_ids,
            uns=uns,
            overwrite=overwrite,
        )


def _details(
    inputs: RunInputs, result: Segmentation, request: Request, *, preset: str, device: str, seconds: dict[str, float], assignment: str
) -> dict[str, Any]:
    from sjg._versions import package_versions

    return {
        "preset": preset,
        "assignment": assignment,
        "device": device,
        "nuclei_key": inputs.nuclei_key or "",
        "seconds": {k: round(v, 2) for k, v in seconds.items()},
        "versions": package_versions(),
        "quality": run_quality(inputs, result),
        # None does not survive every store: an empty text, 0 and -inf stand for it.
        "request": {
            "resolution_um": request.resolution_um or 0.0,
            "pixel_size_um": request.pixel_size_um or 0.0,
            "feature_key": request.feature_key or "",
            "channel": "" if request.channel is None else str(request.channel),
            "min_qv": float("-inf") if request.min_qv is None else float(request.min_qv),
            "control_pattern": request.control_pattern or "",
            "features": request.features,
            "channels": [] if inputs.channels is None else list(inputs.channels.names),
            "channel_values": inputs.channel_values or "auto",
            **({} if inputs.found_yx_px is None else {"found_yx_px": inputs.found_yx_px.ravel()}),
        },
    }
