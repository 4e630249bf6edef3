"""Nuclei that the stain has missed, in the arrays of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from sjg import access
from sjg._logging import logger

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from lightning_fabric import Fabric
    from numpy.typing import NDArray

    from sjg.tl._inputs import RunArrays, RunInputs
    from sjg.training import Parameters, PublishedParameters

_Arrays = TypeVar("_Arrays", bound="RunArrays")


def find_missed_nuclei(
    inputs: RunInputs, settings: Parameters | PublishedParameters, fabric: Fabric, *, on_progress: Callable[[dict[str, Any]], None]
) -> RunInputs:
    """The inputs with the nuclei that transcripts tell of."""
    from sjg.training import Parameters, add_missed_nuclei

    n_done = 0

    def on_tile(done: int, total: int) -> None:
        # two competitions over the same tiles
        nonlocal n_done
        n_done += 1
        on_progress({"phase": "nuclei", "done": n_done, "total": 2 * total})

    spread = None if access.current_client() is None else access.starmap_in_order
    given = settings if isinstance(settings, Parameters) else Parameters()
    found = add_missed_nuclei(
        inputs.molecules,
        inputs.nuclei,
        inputs.types,
        fabric=fabric,
        precision=given.precision,
        tile_size_px=given.tile_size_px,
        calibrate_reference=given.calibrate_reference,
        spread=spread,
        on_tile=on_tile,
    )
    logger.info("%s cells without a nucleus found", len(found))
    return replace(_with(inputs, found.labels, found.yx_px), types=found.types)


def with_found_nuclei(arrays: RunArrays, yx_px: NDArray[np.int64]) -> RunArrays:
    """The arrays with the nuclei that an earlier run has found."""
    from sjg.training import paint_nuclei

    return _with(arrays, paint_nuclei(arrays.nuclei, yx_px), yx_px)


def _with(arrays: _Arrays, nuclei: NDArray[np.int32], yx_px: NDArray[np.int64]) -> _Arrays:
    # the ids of the given nuclei, of which the found ones have none
    ids = np.arange(1, int(arrays.nuclei.max()) + 1) if arrays.source_ids is None else arrays.source_ids
    return replace(arrays, nuclei=nuclei, source_ids=ids, found_yx_px=yx_px)
