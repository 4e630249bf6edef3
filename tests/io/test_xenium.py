"""Reader of Xenium folders: a made-up cut-out with a known frame, and the real tile."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pandas as pd
import pytest
import spatialdata as sd
import tifffile
from spatialdata.transformations import get_transformation

import sjg
from sjg.core import DependencyError, InputError
from sjg.io._xenium import deduce_origin, deduce_pixel_size


def write_cut_out(folder, *, pixel_size, origin, physical=None):
    """100 x 80 pixels, one bright pixel under each of 300 molecules that fill the image."""
    rng = np.random.default_rng(1)
    px = rng.uniform(0, [100, 80], (300, 2))
    px[:2] = [[0.01, 0.01], [99.99, 79.99]]
    column, row = np.floor(px).astype(int).T
    image = np.zeros((80, 100), np.uint16)
    image[row, column] = 500
    metadata = {"axes": "YX"} | ({"PhysicalSizeX": physical, "PhysicalSizeY": physical} if physical else {})
    tifffile.imwrite(folder / "morphology_focus.ome.tif", image, ome=True, metadata=metadata)
    xy = px * pixel_size + origin
    pd.DataFrame(
        {
            "x_location": xy[:, 0],
            "y_location": xy[:, 1],
            "z_location": 1.0,
            "feature_name": [f"g{i % 4}".encode() for i in range(300)],
            "qv": 30.0,
            "cell_id": "a-1",
        }
    ).to_parquet(folder / "transcripts.parquet")
    corners = np.array([[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]) * pixel_size + origin
    pd.DataFrame(
        {
            "cell_id": [b"a-1"] * 5 + [b"b-1"] * 5 + [b"c-1"] * 2,
            "vertex_x": [*corners[:, 0], *(corners[:, 0] + 5), 0, 1],
            "vertex_y": [*corners[:, 1], *(corners[:, 1] + 5), 0, 1],
        }
    ).to_parquet(folder / "nucleus_boundaries.parquet")
    return folder


def on_pixels(sdata):
    molecules = sd.transform(sdata["transcripts"], to_coordinate_system="global").compute()
    image = np.asarray(sdata["morphology_focus"])[0]
    return (image[molecules["y"].astype(int), molecules["x"].astype(int)] == 500).mean()


@pytest.mark.parametrize(
    ("physical", "arguments", "n_warnings"),
    [
        (None, {"pixel_size_um": 0.425, "origin_um": (850, 425)}, 0),
        (0.425, {"origin_um": (850, 425)}, 0),
        (0.425, {}, 1),
        (None, {}, 2),
    ],
)
def test_cut_out_is_placed(tmp_path, physical, arguments, n_warnings):
    write_cut_out(tmp_path, pixel_size=0.425, origin=(850, 425), physical=physical)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sdata = sjg.io.xenium(tmp_path, **arguments)
    assert sum("is not in the files" in str(warning.message) for warning in caught) == n_warnings
    assert on_pixels(sdata) > 0.99
    assert sdata["transcripts"].attrs["spatialdata_attrs"]["feature_key"] == "feature_name"
    assert {"x", "y", "z", "feature_name", "qv", "cell_id"} == set(sdata["transcripts"].columns)
    assert sdata["transcripts"]["feature_name"].compute().cat.categories.tolist() == ["g0", "g1", "g2", "g3"]
    nuclei = sd.transform(sdata["nucleus_boundaries"], to_coordinate_system="global")
    assert nuclei.index.tolist() == ["a-1", "b-1"]
    np.testing.assert_allclose(nuclei.geometry.iloc[0].bounds, [0, 0, 10, 10], atol=1e-6)


def test_image_from_the_origin_carries_the_usual_scale(tmp_path):
    write_cut_out(tmp_path, pixel_size=0.2125, origin=(0, 0), physical=0.2125)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        sdata = sjg.io.xenium(tmp_path)
    transformation = get_transformation(sdata["transcripts"])
    assert type(transformation).__name__ == "Scale"
    np.testing.assert_allclose(transformation.to_scale_vector(("x", "y")), 1 / 0.2125)


def test_what_cannot_be_deduced_is_asked_for():
    with pytest.raises(InputError, match="give pixel_size_um"):
        deduce_pixel_size(np.array([100, 100]), np.array([30.0, 30.0]))
    with pytest.raises(InputError, match="give origin_um"):
        deduce_origin(np.array([50.0, 50.0]), np.array([500.0, 500.0]), np.array([900.0, 900.0]), 0.5)
    with pytest.warns(UserWarning, match="0.85 fits"):
        assert deduce_pixel_size(np.array([100, 50]), np.array([84.0, 43.0])) == 0.85


def test_nuclei_with_own_ids(tmp_path):
    write_cut_out(tmp_path, pixel_size=0.425, origin=(0, 0), physical=0.425)
    file = tmp_path / "nucleus_boundaries.parquet"
    vertices = pd.read_parquet(file)
    vertices["label_id"] = [1] * 5 + [2] * 5 + [3] * 2
    vertices["cell_id"] = "a-1"
    vertices.to_parquet(file)
    nuclei = sjg.io.xenium(tmp_path)["nucleus_boundaries"]
    assert nuclei.index.tolist() == [1, 2]
    assert nuclei["cell_id"].tolist() == ["a-1", "a-1"]


def test_bad_folders(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="experiment.xenium"):
        sjg.io.xenium(tmp_path)
    write_cut_out(tmp_path, pixel_size=0.425, origin=(0, 0), physical=0.425)
    with pytest.raises(InputError, match="positive"):
        sjg.io.xenium(tmp_path, pixel_size_um=-1)
    (tmp_path / "experiment.xenium").write_text("{}")
    with pytest.raises(InputError, match="leave pixel_size_um"):
        sjg.io.xenium(tmp_path, pixel_size_um=0.2)
    monkeypatch.setitem(sys.modules, "spatialdata_io", None)
    with pytest.raises(DependencyError, match="pip install"):
        sjg.io.xenium(tmp_path)


def test_real_tile(data_dir):
    folder = data_dir / "xenium_tile"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    with pytest.warns(UserWarning, match="is not in the files"):
        sdata = sjg.io.xenium(folder)
    assert sdata["morphology_focus"].shape == (1, 237, 237)
    molecules = sd.transform(sdata["transcripts"], to_coordinate_system="global").compute()
    assert len(molecules) == 5260
    assert molecules["qv"].min() >= 20
    assert ((molecules[["x", "y"]] >= 0) & (molecules[["x", "y"]] < 237)).all(axis=None)
    # where the platform says that a molecule is in a nucleus the image is bright: a shift by a nucleus or a flip loses that
    image = np.asarray(sdata["morphology_focus"])[0].astype(float)
    inside = molecules[molecules["overlaps_nucleus"] == 1]
    column, row = inside["x"].astype(int), inside["y"].astype(int)

    def brightness(rows, columns, picture=image):
        return picture[np.clip(rows, 0, 236), np.clip(columns, 0, 236)].mean()

    assert brightness(row, column) > 1.6 * image.mean()
    assert brightness(row, column) > 1.2 * max(brightness(row + 5, column), brightness(row, column + 5), brightness(row, column - 5))
    assert brightness(row, column) > 1.5 * brightness(row, column, image[::-1])
    assert len(sdata["nucleus_boundaries"]) == len(sdata["cell_boundaries"]) == 526
    table = sdata["table"]
    assert table.uns["spatialdata_attrs"]["region"] == "cell_boundaries"
    assert set(table.obs["cell_id"]) == set(sdata["cell_boundaries"].index)
    # the platform's own assignment gives nearly its own totals; cells at the border of the cut-out lost molecules
    assigned = molecules.groupby("cell_id").size().reindex(table.obs["cell_id"]).fillna(0)
    assert np.corrcoef(assigned, table.obs["transcript_counts"])[0, 1] > 0.85


def test_several_stains_keep_their_names(tmp_path):
    write_cut_out(tmp_path, pixel_size=0.425, origin=(0, 0))
    stack = np.stack([np.full((80, 100), k, np.uint16) for k in range(3)])
    file = tmp_path / "morphology_focus.ome.tif"
    for names, expected in ((["DAPI", "18S", "ATP1A1"], ["DAPI", "18S", "ATP1A1"]), (None, ["DAPI", "channel_1", "channel_2"])):
        metadata = {"axes": "CYX", "PhysicalSizeX": 0.425} | ({"Channel": {"Name": names}} if names else {})
        tifffile.imwrite(file, stack, ome=True, metadata=metadata)
        image = sjg.io.xenium(tmp_path)["morphology_focus"]
        assert list(image.coords["c"].values) == expected
        assert np.asarray(image).max(axis=(1, 2)).tolist() == [0, 1, 2]
