"""Nuclei that the stain has missed, in the arrays of a run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sjg._logging import logger

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sjg.core import CellTypes
    from sjg.tl._inputs import RunArrays


def find_missed_nuclei(arrays: RunArrays, types: CellTypes) -> tuple[RunArrays, CellTypes]:
    """The arrays and start types with the nuclei that transcripts tell of."""
    from sjg.training import add_missed_nuclei

    found = add_missed_nuclei(arrays.molecules, arrays.nuclei, types)
    logger.info("%s cells without a nucleus found", len(found))
    return _with(arrays, found.labels, found.yx_px), found.types


def with_found_nuclei(arrays: RunArrays, yx_px: NDArray[np.int64]) -> RunArrays:
    """The arrays with the nuclei that an earlier run has found."""
    from sjg.training import paint_nuclei

    return _with(arrays, paint_nuclei(arrays.nuclei, yx_px), yx_px)


def _with(arrays: RunArrays, nuclei: NDArray[np.int32], yx_px: NDArray[np.int64]) -> RunArrays:
    # the ids of the given nuclei, of which the found ones have none
    ids = np.arange(1, int(arrays.nuclei.max()) + 1) if arrays.source_ids is None else arrays.source_ids
    return replace(arrays, nuclei=nuclei, source_ids=ids, found_yx_px=yx_px)
