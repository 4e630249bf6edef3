from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import Identity, Scale

from sjg.access import image_pixel_size_um, labels_pixel_size_um, working_grid
from sjg.core import InputError

#: side of a pixel of the image
IMAGE_UM = 0.325


def _scale(factor: float) -> Scale:
    return Scale([factor, factor], axes=("x", "y"))


def _labels(factor: float) -> Labels2DModel:
    return Labels2DModel.parse(np.ones((20, 30), dtype=int), dims=("y", "x"), transformations={"global": _scale(factor)})


def _sdata(image: float = 1.0, points: float = 1.0, grid: float = IMAGE_UM) -> SpatialData:
    """An image, nuclei on its pixels, and cells on pixels of half a micrometre, scaled by `grid` per pixel of the image."""
    frame = pd.DataFrame({"x": [1.0, 2.0], "y": [1.0, 2.0], "gene": ["a", "b"]})
    pixels = np.zeros((1, 40, 60), dtype=np.uint8)
    return SpatialData(
        images={"dapi": Image2DModel.parse(pixels, dims=("c", "y", "x"), transformations={"global": _scale(image)})},
        labels={"nuclei": _labels(image), "sjg_cells": _labels(image * 0.5 / grid)},
        points={"t": PointsModel.parse(frame, feature_key="gene", transformations={"global": _scale(points)})},
    )


def _record(sdata: SpatialData, pixel_size_um: float | str, shape: tuple[int, int] = (20, 30)) -> None:
    obs = pd.DataFrame({"region": pd.Categorical(["sjg_cells"]), "cell_id": [1]}, index=["1"])
    table = TableModel.parse(
        AnnData(np.zeros((1, 1), np.float32), obs=obs), region="sjg_cells", region_key="region", instance_key="cell_id"
    )
    table.uns["sjg"] = {"image_key": "dapi", "grid": {"shape": np.array(shape), "pixel_size_um": pixel_size_um}}
    sdata.tables["sjg_table"] = table


def test_a_coarser_grid_is_no_length_in_micrometres():
    sdata = _sdata()
    # 1.54 pixels of the image would be a plausible size of a pixel in micrometres
    assert image_pixel_size_um(sdata, "sjg_cells", "t") is None
    assert labels_pixel_size_um(sdata, "sjg_cells", "t") is None
    # the other way round, with transcripts in micrometres, both sizes are known
    known = _sdata(image=IMAGE_UM)
    assert labels_pixel_size_um(known, "nuclei", "t") == pytest.approx(IMAGE_UM)
    assert labels_pixel_size_um(known, "sjg_cells", "t") == pytest.approx(0.5)


def test_the_run_knows_its_pixels():
    sdata = _sdata()
    _record(sdata, 0.5)
    assert labels_pixel_size_um(sdata, "sjg_cells", "t") == 0.5
    assert labels_pixel_size_um(sdata, "sjg_cells") == 0.5
    assert labels_pixel_size_um(sdata, "nuclei", "t") is None
    # a run without a physical size stays without, whatever the frames look like
    del sdata.tables["sjg_table"]
    _record(sdata, "none")
    assert labels_pixel_size_um(sdata, "sjg_cells", "t") is None
    # labels that were replaced since are not on its grid
    del sdata.tables["sjg_table"]
    _record(sdata, 0.7, shape=(10, 15))
    assert labels_pixel_size_um(sdata, "sjg_cells", "t") is None


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("unit", [1.0, 2.5])
def test_a_given_size_is_that_of_the_image(recorded, unit):
    sdata = _sdata(image=unit, points=unit)
    if recorded:
        _record(sdata, 0.7)
    assert labels_pixel_size_um(sdata, "nuclei", "t", pixel_size_um=IMAGE_UM) == pytest.approx(IMAGE_UM)
    assert labels_pixel_size_um(sdata, "sjg_cells", "t", pixel_size_um=IMAGE_UM) == pytest.approx(0.5)
    # as a run takes it
    assert working_grid(sdata, "dapi", "t", pixel_size_um=IMAGE_UM).pixel_size_um == pytest.approx(0.5)


def test_the_finest_image_counts_and_without_one_the_labels_themselves():
    sdata = _sdata()
    overview = np.zeros((1, 10, 15), dtype=np.uint8)
    sdata.images["overview"] = Image2DModel.parse(overview, dims=("c", "y", "x"), transformations={"global": _scale(4.0)})
    sdata.images["elsewhere"] = Image2DModel.parse(overview, dims=("c", "y", "x"), transformations={"other": Identity()})
    assert labels_pixel_size_um(sdata, "nuclei", pixel_size_um=IMAGE_UM) == pytest.approx(IMAGE_UM)
    for key in tuple(sdata.images):
        del sdata.images[key]
    assert labels_pixel_size_um(sdata, "sjg_cells", pixel_size_um=IMAGE_UM) == pytest.approx(IMAGE_UM)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
def test_a_given_size_must_be_a_length(value):
    with pytest.raises(InputError, match="pixel_size_um="):
        labels_pixel_size_um(_sdata(), "nuclei", pixel_size_um=value)
