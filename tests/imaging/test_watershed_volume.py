from __future__ import annotations

import numpy as np
import pytest
from skimage.io import imread

from sjg.imaging import watershed_volume
from sjg.metrics import f1_at_iou


def test_refuses_what_is_no_stack():
    with pytest.raises(ValueError, match="2 dimensions"):
        watershed_volume(np.zeros((4, 5)))
    with pytest.raises(ValueError, match="spacing"):
        watershed_volume(np.zeros((3, 4, 5)), spacing=(0.0, 1.0, 1.0))


def test_nothing_in_a_constant_stack():
    assert watershed_volume(np.ones((5, 20, 20))).max() == 0


def test_manual_mask_of_a_stack(data_dir):
    folder = data_dir / "nuclei_2d_3d"
    if not (folder / "img3d.tif").is_file():
        pytest.skip(f"no img3d.tif in {folder}")
    truth = imread(folder / "mask3d.tif").astype(np.int32)
    labels = watershed_volume(imread(folder / "img3d.tif"), spacing=(2.0, 1.0, 1.0))
    assert f1_at_iou(truth, labels, iou=0.5) >= 0.78
