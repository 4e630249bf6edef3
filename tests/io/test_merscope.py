"""Reader of MERSCOPE folders: a made-up run with a known transformation, and the real tile."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import shapely
import spatialdata as sd
import tifffile

import sjg
from sjg.core import InputError

#: pixels = micrometres * 2 - (200, 100)
MATRIX = np.array([[2.0, 0, -200], [0, 2.0, -100], [0, 0, 1]])


@pytest.fixture
def region(tmp_path):
    """Two stains, three planes, one bright pixel under each molecule, one cell with two outlines."""
    images = tmp_path / "images"
    images.mkdir()
    rng = np.random.default_rng(0)
    xy = np.column_stack([rng.uniform(100, 130, 50), rng.uniform(50, 70, 50)])
    column, row = np.floor(xy * 2 - [200, 100]).astype(int).T
    for stain in ("PolyT", "DAPI"):
        for z in (0, 1, 3):
            plane = np.zeros((40, 60), np.uint8)
            plane[row, column] = 10 * z + (stain == "DAPI")
            tifffile.imwrite(images / f"mosaic_{stain}_z{z}.tif", plane)
    np.savetxt(images / "micron_to_mosaic_pixel_transform.csv", MATRIX)
    pd.DataFrame(
        {"global_x": xy[:, 0], "global_y": xy[:, 1], "global_z": 1.0, "gene": [f"g{i % 3}" for i in range(50)], "fov": 0, "junk": 1}
    ).to_csv(tmp_path / "detected_transcripts.csv")
    geometry = [shapely.box(100, 50, 110, 60), shapely.box(100, 50, 112, 62), shapely.box(120, 60, 125, 65)]
    pd.DataFrame({"EntityID": [7, 7, 3], "ZIndex": [0, 3, 1], "Geometry": shapely.to_wkb(np.array(geometry, dtype=object))}).to_parquet(
        tmp_path / "cell_boundaries.parquet"
    )
    return tmp_path


def pixels(sdata, key):
    return sd.transform(sdata[key], to_coordinate_system="global")


def test_molecules_lie_on_their_pixels(region):
    sdata = sjg.io.merscope(region)
    assert list(sdata["mosaic"].coords["c"].values) == ["DAPI", "PolyT"]
    image = np.asarray(sdata["mosaic"])
    molecules = pixels(sdata, "transcripts").compute()
    assert (image[0, molecules["y"].astype(int), molecules["x"].astype(int)] == 31).all()
    assert (image[1, molecules["y"].astype(int), molecules["x"].astype(int)] == 30).all()
    assert sdata["transcripts"].attrs["spatialdata_attrs"]["feature_key"] == "gene"
    assert set(sdata["transcripts"].columns) == {"x", "y", "z", "gene", "fov"}
    # coordinates themselves stay in micrometres
    assert sdata["transcripts"]["x"].min().compute() >= 100


def test_planes(region):
    assert np.asarray(sjg.io.merscope(region, z_plane=1)["mosaic"]).max(axis=(1, 2)).tolist() == [11, 10]
    assert np.asarray(sjg.io.merscope(region, z_plane="max")["mosaic"]).max(axis=(1, 2)).tolist() == [31, 30]
    with pytest.raises(InputError, match=r"z_plane=2.*DAPI: z 0, 1, 3"):
        sjg.io.merscope(region, z_plane=2)
    with pytest.raises(InputError, match="z_plane"):
        sjg.io.merscope(region, z_plane="mean")


def test_one_outline_per_cell_of_the_nearest_plane(region):
    cells = sjg.io.merscope(region)["cell_boundaries"]
    assert cells.index.tolist() == [3, 7]
    assert cells.geometry.area.tolist() == [25, 144]
    assert sjg.io.merscope(region, z_plane=0)["cell_boundaries"].geometry.area.tolist() == [25, 100]
    assert sjg.io.merscope(region, z_plane="max")["cell_boundaries"].geometry.area.tolist() == [25, 144]
    np.testing.assert_allclose(pixels(sjg.io.merscope(region), "cell_boundaries").total_bounds, [0, 0, 50, 30])


def test_frame_from_the_box_of_the_manifest(region):
    (region / "images" / "micron_to_mosaic_pixel_transform.csv").unlink()
    with pytest.raises(InputError, match="bbox_microns"):
        sjg.io.merscope(region)
    # microns_per_pixel is that of the full mosaic, not of a scaled one: it must not be believed
    manifest = {"bbox_microns": [100, 50, 130, 70], "microns_per_pixel": 0.108}
    (region / "images" / "manifest.json").write_text(json.dumps(manifest))
    sdata = sjg.io.merscope(region)
    molecules = pixels(sdata, "transcripts").compute()
    assert (np.asarray(sdata["mosaic"])[0, molecules["y"].astype(int), molecules["x"].astype(int)] == 31).all()


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_other_files_of_transcripts(region, suffix):
    table = pd.read_csv(region / "detected_transcripts.csv")
    (region / "detected_transcripts.csv").unlink()
    if suffix == ".parquet":
        table.to_parquet(region / "detected_transcripts.parquet")
    else:
        table.to_csv(region / "detected_transcripts.csv.gz", index=False)
    molecules = sjg.io.merscope(region)["transcripts"].compute()
    np.testing.assert_allclose(molecules["x"], table["global_x"])
    assert molecules["gene"].astype(str).tolist() == table["gene"].tolist()


def test_rows_are_numbered_through_all_partitions(region):
    import dask.dataframe as dd

    from sjg.io._molecule_rows import numbered_rows

    frame = pd.read_csv(region / "detected_transcripts.csv")
    parts = dd.concat([dd.from_pandas(part.reset_index(drop=True), npartitions=1) for part in (frame[:20], frame[20:20], frame[20:])])
    numbered = numbered_rows(parts)
    assert numbered.divisions == (0, 20, 49)
    assert numbered.compute().index.tolist() == list(range(50))
    np.testing.assert_array_equal(numbered.compute()["global_x"], frame["global_x"])


def test_bad_folders(region, tmp_path_factory):
    with pytest.raises(InputError, match="images"):
        sjg.io.merscope(tmp_path_factory.mktemp("empty"))
    pd.DataFrame({"x": [1]}).to_csv(region / "detected_transcripts.csv")
    with pytest.raises(InputError, match="global_x, global_y, gene"):
        sjg.io.merscope(region)
    (region / "detected_transcripts.csv").unlink()
    with pytest.raises(InputError, match="no transcripts"):
        sjg.io.merscope(region)
    (region / "images" / "manifest.json").write_text("{")
    with pytest.raises(InputError, match="JSON"):
        sjg.io.merscope(region)


def test_real_tile(data_dir):
    folder = data_dir / "merscope_tile"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    sdata = sjg.io.merscope(folder)
    assert list(sdata["mosaic"].coords["c"].values) == ["DAPI", "Cellbound1", "Cellbound2", "Cellbound3", "PolyT"]
    assert sdata["mosaic"].shape == (5, 695, 695)
    molecules = pixels(sdata, "transcripts").compute()
    assert len(molecules) == 11_135
    assert ((molecules[["x", "y"]] >= 0) & (molecules[["x", "y"]] < 695)).all(axis=None)
    # the boundary stain is brighter under molecules and inside Vizgen's cells than elsewhere, and no other way round
    stain = np.asarray(sdata["mosaic"].sel(c="Cellbound1")).astype(float)
    column, row = molecules["x"].astype(int), molecules["y"].astype(int)
    assert stain[row, column].mean() > 1.05 * stain.mean()
    assert all(stain[row, column].mean() > 1.03 * flipped[row, column].mean() for flipped in (stain[::-1], stain[:, ::-1], stain.T))
    cells = pixels(sdata, "cell_boundaries")
    assert len(cells) == 1058
    np.testing.assert_allclose(cells.total_bounds, [0, 0, 695, 695], atol=1)
    tissue = shapely.union_all(cells.geometry.to_numpy())

    def captured(x, y):
        return shapely.intersects_xy(tissue, x, y).mean()

    x, y = molecules["x"].to_numpy(), molecules["y"].to_numpy()
    assert captured(x, y) > 1.04 * tissue.area / 695**2
    assert captured(x, y) > 1.02 * max(captured(695 - x, y), captured(x, 695 - y), captured(y, x))
