"""Work through a cluster of the user's gives what it gives here."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from dask.delayed import delayed
from distributed import Client, get_worker
from scipy import ndimage
from spatialdata import SpatialData, read_zarr
from spatialdata.models import PointsModel

from sjg.access import compute_in_order, current_client, outlines, read_molecules, starmap_in_order, write_segmentation
from sjg.core import Grid, Molecules
from sjg.imaging import WatershedParameters, watershed_nuclei
from sjg.training import PRESETS, Tissue
from sjg.training._run import clean
from sjg.training._workers import starmap_in_threads


@pytest.fixture(scope="module")
def client():
    with Client(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=None) as client:
        yield client


def _labels() -> np.ndarray:
    rng = np.random.default_rng(0)
    labels = np.zeros((90, 120), np.int32)
    for i in range(30):
        y, x = rng.integers(0, 80), rng.integers(0, 110)
        labels[y : y + 9, x : x + 8] = i + 1
    return np.searchsorted(np.unique(labels), labels).astype(np.int32)


def _points() -> SpatialData:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"x": rng.uniform(0, 120, 500), "y": rng.uniform(0, 90, 500), "gene": rng.choice(["b", "a", "c"], 500)})
    return SpatialData(points={"t": PointsModel.parse(frame, feature_key="gene", npartitions=5)})


def _read():
    return read_molecules(_points(), "t", Grid(shape=(90, 120), matrix=np.eye(3)))


def _where(i: int) -> tuple[int, bool]:
    try:
        get_worker()
    except ValueError:
        return i, False
    return i, True


def test_results_keep_their_order_with_and_without_a_cluster(client, monkeypatch):
    jobs = [delayed(_where)(i) for i in range(20)]
    assert current_client() is client
    assert list(compute_in_order(jobs)) == [(i, True) for i in range(20)]
    monkeypatch.setattr("sjg.access._compute.current_client", lambda: None)
    assert list(compute_in_order(jobs)) == [(i, False) for i in range(20)]


def test_transcripts_and_polygons_are_the_same_through_a_cluster(client, monkeypatch):
    monkeypatch.setattr("sjg.access._geometry._REGION_PX", 32)
    (molecules, report), polygons = _read(), outlines(_labels())
    monkeypatch.setattr("sjg.access._compute.current_client", lambda: None)
    (here, report_here), polygons_here = _read(), outlines(_labels())
    np.testing.assert_array_equal(molecules.yx_px, here.yx_px)
    np.testing.assert_array_equal(molecules.gene, here.gene)
    assert molecules.gene_names == here.gene_names == ("a", "b", "c")
    np.testing.assert_array_equal(report.row, report_here.row)
    assert all(a.equals(b) for a, b in zip(polygons, polygons_here, strict=True))


def test_outputs_are_the_same_through_a_cluster(client, monkeypatch, make_sdata, make_run, tmp_path):
    stores = []
    for name in ("cluster", "here"):
        if name == "here":
            monkeypatch.setattr("sjg.access._compute.current_client", lambda: None)
        make_sdata().write(tmp_path / name)
        sdata = read_zarr(tmp_path / name)
        run = make_run(sdata)
        options = {"molecules": run.molecules, "report": run.report, "image_key": "dapi", "points_key": "transcripts"}
        write_segmentation(sdata, run.segmentation, run.grid, **options)
        stores.append(read_zarr(tmp_path / name))
    cluster, here = stores
    np.testing.assert_array_equal(cluster["sjg_table"].X.toarray(), here["sjg_table"].X.toarray())
    pd.testing.assert_frame_equal(cluster["sjg_table"].obs, here["sjg_table"].obs)
    pd.testing.assert_frame_equal(cluster["transcripts"].compute(), here["transcripts"].compute())
    assert cluster["sjg_boundaries"].geometry.geom_equals(here["sjg_boundaries"].geometry).all()
    np.testing.assert_array_equal(cluster["sjg_cells"].to_numpy(), here["sjg_cells"].to_numpy())


def test_nuclei_and_outlines_are_the_same_through_a_cluster(client):
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:200, :200]
    centres = rng.uniform(0, 200, (60, 2))
    image = sum(np.exp(-((((y - a) ** 2 + (x - b) ** 2) / 6**2) ** 2)) for a, b in centres) + rng.normal(0, 0.02, y.shape)
    tiles = WatershedParameters(tile_px=64)
    here = watershed_nuclei(image, parameters=tiles)
    np.testing.assert_array_equal(watershed_nuclei(image, parameters=tiles, spread=starmap_in_order), here)
    assert here.max() > 20
    molecules = Molecules(rng.uniform(0, 200, (500, 2)).astype(np.float32), rng.integers(0, 3, 500).astype(np.int32), ("a", "b", "c"))
    tissue = Tissue(molecules, here, PRESETS["fast"])
    predicted = ndimage.distance_transform_edt(here == 0, return_indices=True)[1]
    labels = np.where(rng.random(here.shape) < 0.9, here[predicted[0], predicted[1]], 0).astype(np.int32)
    prediction = SimpleNamespace(labels=labels)
    expected = clean(prediction, tissue, tile_px=64)
    np.testing.assert_array_equal(clean(prediction, tissue, tile_px=64, spread=starmap_in_order), expected)
    np.testing.assert_array_equal(clean(prediction, tissue, tile_px=64, spread=partial(starmap_in_threads, n_workers=2)), expected)
    np.testing.assert_array_equal(clean(prediction, tissue, tile_px=256), expected)


def test_a_piece_is_asked_for_only_when_its_turn_is_near(monkeypatch):
    monkeypatch.setattr("sjg.access._compute.current_client", lambda: None)
    made = []

    def pieces():
        for i in range(10):
            made.append(i)
            yield delayed(lambda i=i: i)()

    results = compute_in_order(pieces())
    assert next(results) == 0
    assert made == [0]


def test_a_cluster_has_a_piece_for_each_thread_and_one_more_for_each_worker(client):
    made = []

    def pieces():
        for i in range(10):
            made.append(i)
            yield delayed(abs)(i)

    results = compute_in_order(pieces())
    assert next(results) == 0
    # one worker of two threads
    assert made == [0, 1, 2]
    results.close()


def test_regions_do_not_change_polygons(monkeypatch):
    labels = _labels()
    whole = outlines(labels)
    monkeypatch.setattr("sjg.access._geometry._REGION_PX", 16)
    assert all(a.equals(b) for a, b in zip(whole, outlines(labels), strict=True))
    assert [p.area for p in whole] == np.bincount(labels.ravel())[1:].tolist()
