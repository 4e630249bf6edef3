from __future__ import annotations

import numpy as np
import pytest
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Image3DModel, Labels2DModel, Labels3DModel, PointsModel

from sjg.access import choose_channel, choose_feature_key, choose_image, choose_labels, choose_nuclei, choose_points
from sjg.core import AmbiguousElementError, InputError, MissingElementError


def _image(names: list[str] | None = None, n_channels: int = 1) -> object:
    return Image2DModel.parse(np.zeros((n_channels, 4, 4), dtype=np.uint8), dims=("c", "y", "x"), c_coords=names)


def test_the_only_element_is_chosen(make_sdata):
    sdata = make_sdata()
    assert choose_image(sdata) == "dapi"
    assert choose_points(sdata) == "transcripts"
    assert choose_nuclei(sdata) == "nuclei"
    assert choose_labels(sdata) == "nuclei"


@pytest.mark.parametrize(("choose", "argument"), [(choose_image, "image_key"), (choose_points, "points_key")])
def test_none_several_and_unknown(make_sdata, choose, argument):
    with pytest.raises(MissingElementError, match=r"has no (images|points); add"):
        choose(SpatialData())
    sdata = make_sdata()
    with pytest.raises(MissingElementError, match=f"{argument}='nope' names no .*(dapi|transcripts)"):
        choose(sdata, "nope")
    sdata.images["second"] = _image()
    sdata.points["more"] = PointsModel.parse(sdata.points["transcripts"].compute(), feature_key="gene")
    with pytest.raises(AmbiguousElementError, match=f"several.*{argument}="):
        choose(sdata)


def test_nuclei_may_be_absent_labels_or_shapes(make_sdata):
    sdata = make_sdata()
    del sdata.labels["nuclei"]
    assert choose_nuclei(sdata) is None
    with pytest.raises(MissingElementError, match="nuclei_key='nuclei'"):
        choose_nuclei(sdata, "nuclei")


def test_stacks_are_refused():
    stack = np.zeros((1, 2, 4, 4), dtype=np.uint8)
    sdata = SpatialData(
        images={"stack": Image3DModel.parse(stack, dims=("c", "z", "y", "x"))},
        labels={"nuclei": Labels3DModel.parse(stack[0].astype(int), dims=("z", "y", "x"))},
    )
    with pytest.raises(InputError, match="3-D stack"):
        choose_image(sdata)
    with pytest.raises(InputError, match="3-D"):
        choose_nuclei(sdata)


def test_several_labels_need_a_choice(make_sdata):
    sdata = make_sdata()
    sdata.labels["cells"] = Labels2DModel.parse(np.ones((4, 4), dtype=int), dims=("y", "x"))
    with pytest.raises(AmbiguousElementError, match="truth_key='cells'"):
        choose_labels(sdata, argument="truth_key")


@pytest.mark.parametrize(
    ("names", "channel", "index"),
    [
        (["PolyT", "DAPI"], None, 1),
        (["nucleus", "membrane"], None, 0),
        (["DAPI", "DAPI_z2"], None, 0),
        (["a", "b"], "b", 1),
        (["a", "b"], 1, 1),
        (["1", "0"], 1, 0),
    ],
)
def test_channel(names, channel, index):
    sdata = SpatialData(images={"image": _image(names, len(names))})
    assert choose_channel(sdata, "image", channel) == index


@pytest.mark.parametrize(("names", "channel"), [(["a", "b"], None), (["nuc1", "nuc2"], None), (["a", "b"], "c"), (["a", "b"], 2)])
def test_channel_errors_list_the_channels(names, channel):
    sdata = SpatialData(images={"image": _image(names, 2)})
    with pytest.raises(InputError, match=f"'{names[0]}', '{names[1]}'"):
        choose_channel(sdata, "image", channel)


def test_feature_key(make_sdata):
    sdata = make_sdata()
    assert choose_feature_key(sdata, "transcripts") == "gene"
    assert choose_feature_key(sdata, "transcripts", "cell_id") == "cell_id"
    with pytest.raises(InputError, match="no column 'target'.*'gene'"):
        choose_feature_key(sdata, "transcripts", "target")
    del sdata.points["transcripts"].attrs["spatialdata_attrs"]
    assert choose_feature_key(sdata, "transcripts") == "gene"
    sdata.points["bare"] = PointsModel.parse(np.zeros((2, 2)))
    with pytest.raises(InputError, match=r"pass feature_key=.*'x', 'y'"):
        choose_feature_key(sdata, "bare")
