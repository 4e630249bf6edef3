from __future__ import annotations

import numpy as np
import pytest
from spatialdata import SpatialData, read_zarr
from spatialdata.models import Image2DModel
from spatialdata.transformations import Scale, get_transformation

import sjg
from sjg.core import ExistingElementError, InputError
from sjg.imaging import QualityThresholds


def _object(plane):
    scale = {"global": Scale([0.5, 0.5], axes=("x", "y"))}
    return SpatialData(images={"stain": Image2DModel.parse(plane[None], dims=("c", "y", "x"), c_coords=["dapi"], transformations=scale)})


@pytest.fixture(scope="module")
def three_fields(planted_nuclei):
    """Nuclei, camera noise without nuclei, and nothing, side by side, 200 px each."""
    image, _ = planted_nuclei((200, 200), 14)
    rng = np.random.default_rng(0)
    noise = 0.1 + 0.02 * rng.standard_normal((200, 200))
    return np.concatenate([image, noise, np.zeros((200, 200))], axis=1)


def test_one_row_for_each_patch_in_the_frame_of_the_image():
    sdata = _object(np.random.default_rng(0).random((100, 160)))
    sjg.pp.patches(sdata, patch_size_um=30, pixel_size_um=0.5, overlap=0.25)
    frame = sdata["patches"]
    assert (frame["bottom"] - frame["top"] == 60).all()
    assert len(frame) == 2 * 4
    assert frame.index.name == "patch_id"
    np.testing.assert_array_equal(frame.geometry.area, 3600)
    np.testing.assert_array_equal(frame.total_bounds, [0, 0, 160, 100])
    assert get_transformation(frame) == get_transformation(sdata.images["stain"])
    cores = (frame["core_bottom"] - frame["core_top"]) * (frame["core_right"] - frame["core_left"])
    assert cores.sum() == 100 * 160
    with pytest.raises(ExistingElementError):
        sjg.pp.patches(sdata)


@pytest.mark.parametrize(("mode", "count"), [("whole", 1), ("halves", 2), ("quarters", 4), ("patches", 1)])
def test_modes(mode, count):
    sdata = _object(np.zeros((50, 80)))
    sjg.pp.patches(sdata, mode=mode)
    assert len(sdata["patches"]) == count


def test_memory_and_disk_agree(three_fields, tmp_path):
    memory = _object(three_fields)
    memory.write(tmp_path / "a.zarr")
    memory.path = None
    stored = read_zarr(tmp_path / "a.zarr")
    for sdata in (memory, stored):
        sjg.pp.patches(sdata, patch_size_px=90)
        sjg.pp.patch_quality(sdata)
    again = read_zarr(tmp_path / "a.zarr")["patches"]
    for column in memory["patches"].columns.drop("geometry"):
        assert memory["patches"][column].tolist() == stored["patches"][column].tolist() == again[column].tolist()


def test_the_published_rule_counts_in_raw_units(three_fields):
    sdata = _object((three_fields * 100).clip(0).astype(np.uint16))
    sjg.pp.patches(sdata, patch_size_px=200, overlap=0)
    sjg.pp.patch_quality(sdata, rule="published")
    frame = sdata["patches"]
    assert frame["status_published"].tolist() == ["informative", "informative", "empty"]
    assert frame["status_robust"].tolist() == ["informative", "noisy", "empty"]
    assert frame["informative"].tolist() == [True, True, False]
    sjg.pp.patch_quality(sdata, rule="published", thresholds=QualityThresholds(noisy_mean=12.0, empty_nonzero=0.0))
    assert sdata["patches"]["status_published"].tolist() == ["informative", "noisy", "noisy"]


@pytest.mark.parametrize(("gain", "offset"), [(1.0, 0.0), (1e-3, 0.0), (4000.0, 900.0)])
def test_the_robust_rule_does_not_depend_on_units(three_fields, gain, offset):
    sdata = _object(three_fields * gain + offset)
    sjg.pp.patches(sdata, patch_size_px=200, overlap=0)
    sjg.pp.patch_quality(sdata)
    assert sdata["patches"]["status_robust"].tolist() == ["informative", "noisy", "empty"]


def test_noise_alone_is_noisy():
    sdata = _object(np.random.default_rng(0).poisson(50, (200, 200)).astype(np.uint16))
    sjg.pp.patches(sdata, mode="whole")
    sjg.pp.patch_quality(sdata)
    assert sdata["patches"]["status_robust"].tolist() == ["noisy"]
    assert sdata["patches"]["focus"].iloc[0] == pytest.approx(1, abs=0.3)


def test_statistics_are_those_of_the_pixels(three_fields):
    sdata = _object(three_fields)
    sjg.pp.patches(sdata, mode="halves", overlap=0)
    sjg.pp.patch_quality(sdata)
    left = three_fields[:, :300]
    row = sdata["patches"].iloc[0]
    assert row["mean"] == pytest.approx(left.mean())
    assert row["sd"] == pytest.approx(left.std())
    assert row["p99"] == pytest.approx(np.percentile(left, 99))
    assert row["nonzero_fraction"] == pytest.approx((left != 0).mean())


def test_sharp_is_more_in_focus_than_blurred(planted_nuclei):
    from scipy import ndimage

    rng = np.random.default_rng(0)
    image, _ = planted_nuclei((200, 200), 14, noise=0)
    noise = 0.02 * rng.standard_normal((200, 400))
    both = np.concatenate([image, ndimage.gaussian_filter(image, 8)], axis=1) + noise
    sdata = _object(both)
    sjg.pp.patches(sdata, mode="halves", overlap=0)
    sjg.pp.patch_quality(sdata)
    sharp, blurred = sdata["patches"]["focus"]
    assert sharp > 1.5 * blurred


def test_errors():
    sdata = _object(np.zeros((50, 80)))
    for options, message in (
        ({"patch_size_px": 0}, "positive"),
        ({"patch_size_px": 10, "patch_size_um": 5.0}, "give one"),
        ({"patch_size_um": 5.0}, "pixel_size_um"),
        ({"mode": "thirds"}, "unknown"),
        ({"mode": "halves", "patch_size_px": 20}, "sets the size"),
        ({"overlap": 1.0}, "overlap"),
    ):
        with pytest.raises(InputError, match=message):
            sjg.pp.patches(sdata, **options)
    with pytest.raises(InputError, match="pp.patches"):
        sjg.pp.patch_quality(sdata, "nothing")
