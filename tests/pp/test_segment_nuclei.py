from __future__ import annotations

import numpy as np
import pytest
from spatialdata import SpatialData, get_centroids, read_zarr
from spatialdata.models import Image2DModel, PointsModel
from spatialdata.transformations import Identity, Scale, get_transformation

import sjg
from sjg.core import AmbiguousElementError, ExistingElementError, InputError, MissingElementError
from sjg.metrics import f1_at_iou


@pytest.fixture(scope="module")
def scene(planted_nuclei):
    return planted_nuclei((220, 240), 16)


def _object(image, *, channels=("dapi",), transformation=None, **kwargs):
    planes = np.stack([image if name == "dapi" else np.zeros_like(image) + index for index, name in enumerate(channels)])
    parsed = Image2DModel.parse(
        planes, dims=("c", "y", "x"), c_coords=list(channels), transformations={"global": transformation or Identity()}, **kwargs
    )
    return SpatialData(images={"stain": parsed})


def test_writes_labels_of_the_image(scene, tmp_path):
    image, truth = scene
    sdata = _object(image, channels=("membrane", "dapi"), transformation=Scale([0.5, 0.5], axes=("x", "y")))
    assert sjg.pp.segment_nuclei(sdata) is None
    labels = sdata.labels["nuclei"]
    values = np.asarray(labels)
    assert values.dtype == np.int32
    assert labels.chunks is not None
    assert np.unique(values).tolist() == list(range(values.max() + 1))
    assert f1_at_iou(values, truth, iou=0.6) >= 0.97
    assert get_transformation(labels) == get_transformation(sdata.images["stain"])
    sdata.write(tmp_path / "out.zarr")
    np.testing.assert_array_equal(np.asarray(read_zarr(tmp_path / "out.zarr").labels["nuclei"]), values)


def test_a_coarser_level_lands_on_the_same_place(scene):
    image, truth = scene
    sdata = _object(image, scale_factors=[2], transformation=Scale([0.5, 0.5], axes=("x", "y")))
    sjg.pp.segment_nuclei(sdata, key_added="fine")
    sjg.pp.segment_nuclei(sdata, key_added="coarse", scale="scale1")
    assert sdata.labels["fine"].shape == image.shape
    assert sdata.labels["coarse"].shape == (110, 120)
    assert abs(np.asarray(sdata.labels["coarse"]).max() - truth.max()) <= 0.05 * truth.max()
    fine, coarse = (get_centroids(sdata.labels[key]).compute().to_numpy() for key in ("fine", "coarse"))
    distance = np.linalg.norm(fine[:, None] - coarse[None], axis=2).min(axis=1)
    assert np.median(distance) < 0.5
    with pytest.raises(InputError, match="'scale0', 'scale1'"):
        sjg.pp.segment_nuclei(sdata, key_added="no", scale="scale7")


def test_takes_any_function(scene):
    image, truth = scene
    sdata = _object(image)
    sjg.pp.segment_nuclei(sdata, method=lambda plane: truth.astype(float) * 3)
    assert np.asarray(sdata.labels["nuclei"]).max() == truth.max()
    np.testing.assert_array_equal(np.asarray(sdata.labels["nuclei"]), truth)


@pytest.mark.parametrize(
    ("result", "match"),
    [
        (lambda plane: plane[:5].astype(int), "of shape"),
        (lambda plane: plane, "whole numbers"),
        (lambda plane: plane > 0.5, "booleans"),
        (lambda plane: -np.ones(plane.shape, int), "negative labels"),
        (lambda plane: np.full(plane.shape, np.nan), "whole numbers"),
        (lambda plane: np.full(plane.shape, "a"), "integer labels"),
        (lambda plane: np.zeros(plane.shape, int), "No nucleus"),
    ],
)
def test_checks_what_a_function_returns(scene, result, match):
    sdata = _object(scene[0])
    with pytest.raises(InputError, match=match):
        sjg.pp.segment_nuclei(sdata, method=result)
    assert not sdata.labels


def test_diameter_in_micrometres(scene):
    image, _ = scene
    sdata = _object(image)
    with pytest.raises(InputError, match="pixel_size_um"):
        sjg.pp.segment_nuclei(sdata, diameter_um=8)
    sjg.pp.segment_nuclei(sdata, diameter_um=8, pixel_size_um=0.5)
    by_um = np.asarray(sdata.labels["nuclei"])
    sjg.pp.segment_nuclei(sdata, diameter_px=16, key_added="by_px")
    np.testing.assert_array_equal(by_um, np.asarray(sdata.labels["by_px"]))
    import pandas as pd

    sdata.images["stain"] = Image2DModel.parse(
        image[None], dims=("c", "y", "x"), transformations={"global": Scale([0.5, 0.5], axes=("x", "y"))}
    )
    sdata.points["spots"] = PointsModel.parse(pd.DataFrame({"x": [1.0], "y": [2.0], "gene": ["a"]}), feature_key="gene")
    sjg.pp.segment_nuclei(sdata, diameter_um=8, key_added="deduced")
    np.testing.assert_array_equal(by_um, np.asarray(sdata.labels["deduced"]))
    with pytest.raises(InputError, match="both given"):
        sjg.pp.segment_nuclei(sdata, diameter_um=8, diameter_px=16, key_added="no")


def test_bad_input_is_named_and_nothing_written(scene):
    image, _ = scene
    sdata = _object(image)
    for method in ("cellpose", "stardist", "otsu"):
        with pytest.raises(InputError, match="'watershed' and any function"):
            sjg.pp.segment_nuclei(sdata, method=method)
    with pytest.raises(MissingElementError, match="'stain'"):
        sjg.pp.segment_nuclei(sdata, "other")
    with pytest.raises(InputError, match="'dapi'"):
        sjg.pp.segment_nuclei(sdata, channel="blue")
    with pytest.raises(InputError, match="channel="):
        sjg.pp.segment_nuclei(_object(image, channels=("a", "b")))
    with pytest.raises(InputError, match="constant"):
        sjg.pp.segment_nuclei(_object(np.full((40, 40), 3.0)))
    with pytest.raises(InputError, match="No nucleus"):
        sjg.pp.segment_nuclei(_object(np.random.default_rng(0).normal(size=(64, 64))))
    with pytest.raises(InputError, match="positive"):
        sjg.pp.segment_nuclei(sdata, diameter_px=0)
    with pytest.raises(MissingElementError, match="no images"):
        sjg.pp.segment_nuclei(SpatialData())
    assert not sdata.labels
    sjg.pp.segment_nuclei(sdata)
    with pytest.raises(ExistingElementError, match="overwrite=True"):
        sjg.pp.segment_nuclei(sdata)
    sjg.pp.segment_nuclei(sdata, overwrite=True)
    sdata.images["second"] = sdata.images["stain"]
    with pytest.raises(AmbiguousElementError, match="'second', 'stain'"):
        sjg.pp.segment_nuclei(sdata, key_added="more")


def test_a_stack_gives_labels_of_voxels():
    from spatialdata.models import Image3DModel

    z, y, x = np.mgrid[:14, :70, :70]
    centres = [(7, i, j) for i in (18, 52) for j in (18, 52)]
    image = sum(np.exp(-((((2 * (z - a)) ** 2 + (y - b) ** 2 + (x - c) ** 2) / 8**2) ** 2)) for a, b, c in centres)
    parsed = Image3DModel.parse(image[None], dims=("c", "z", "y", "x"), c_coords=["dapi"])
    sdata = SpatialData(images={"stack": parsed})
    sjg.pp.segment_nuclei(sdata, diameter_px=16, z_step_px=2.0)
    labels = np.asarray(sdata.labels["nuclei"])
    assert labels.shape == (14, 70, 70)
    assert labels.max() == 4
    assert len({labels[centre] for centre in centres} - {0}) == 4
