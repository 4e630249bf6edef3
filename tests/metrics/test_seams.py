from __future__ import annotations

import numpy as np
import pytest
from skimage.draw import disk

from sjg.metrics import fraction_cut_at_lines


def disks(radius: int = 12, spacing: int = 30) -> np.ndarray:
    labels = np.zeros((240, 240), dtype=np.int32)
    for i, (y, x) in enumerate((y, x) for y in range(15, 240, spacing) for x in range(15, 240, spacing)):
        labels[disk((y, x), radius)] = i + 1
    return labels


def test_round_cells_on_a_line_are_whole():
    assert fraction_cut_at_lines(disks(), rows_px=[105, 165], columns_px=[100]) == 0.0


@pytest.mark.parametrize("axis", [0, 1])
def test_halves_are_cut(axis):
    labels = disks()
    line = 105  # the middle of a row of disks
    far = [slice(None), slice(None)]
    far[axis] = slice(line, line + 13)
    labels[tuple(far)] = 0
    lines = {"rows_px": [line]} if axis == 0 else {"columns_px": [line]}
    assert fraction_cut_at_lines(labels, **lines) == 1.0
    # the same cells in two pieces with two ids
    labels[tuple(far)] = np.where(disks()[tuple(far)] > 0, disks()[tuple(far)] + 1000, 0)
    assert fraction_cut_at_lines(labels, **lines) == 1.0
    other = {name: [line + 60] for name in lines}
    assert fraction_cut_at_lines(labels, **other) == 0.0


def test_counts_each_cell_once_and_only_those_at_the_lines():
    labels = disks()
    labels[105:118, 105:] = 0  # cuts the disks of that row right of 105, the one on the column in part
    cut = fraction_cut_at_lines(labels, rows_px=[105])
    assert cut == pytest.approx(5 / 8)
    assert fraction_cut_at_lines(labels, rows_px=[105, 165]) == pytest.approx(5 / 16)


def test_no_cell_there():
    assert np.isnan(fraction_cut_at_lines(disks(), rows_px=[120]))
    assert np.isnan(fraction_cut_at_lines(np.zeros((4, 4), int), rows_px=[2]))
