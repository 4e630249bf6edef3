"""The worker processes of a `distributed.Client` give what this process gives, bit for bit."""

from __future__ import annotations

import os
import signal

import numpy as np
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from spatialdata import read_zarr

import sjg
from sjg.access import starmap_in_order
from sjg.core import ClusterError
from sjg.training import Parameters, make_fabric, segment_tissue

QUICK = {"steps_per_round": 4, "tile_size_px": 48, "patch_size_px": 64, "n_importance_patches": 1}
FIELDS = ("labels", "molecule_cell", "molecule_confidence", "pixel_confidence", "cell_type", "cell_type_confidence", "gene_importance")


@pytest.fixture(scope="module")
def client():
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster, Client(cluster) as client:
        yield client


def _run(planted, **options):
    parameters = Parameters(**QUICK, n_rounds=1, channels=(4, 6), points_per_patch=500)
    return segment_tissue(planted.molecules, planted.nuclei, planted.types, parameters, fabric=make_fabric("cpu"), **options)


@pytest.fixture(scope="module")
def by_threads(planted):
    return _run(planted)


def _assert_equal(found, expected):
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), name)


def test_the_whole_of_segment(client, monkeypatch, tmp_path):
    sdata = sjg.datasets.simulated_tissue(size_um=(72, 72), random_state=2)
    del sdata.labels["nuclei"]
    results = []
    for name in ("cluster", "threads"):
        if name == "threads":
            monkeypatch.setattr("sjg.access._compute.current_client", lambda: None)
            monkeypatch.setattr("sjg.access.current_client", lambda: None)
        sdata.write(tmp_path / name)
        run = read_zarr(tmp_path / name)
        sjg.tl.segment(run, reference="reference", preset="fast", max_epochs=1, parameters=QUICK, device="cpu", progress=False)
        results.append(read_zarr(tmp_path / name))
    loaded = client.run(lambda: __import__("sjg.networks._weights", fromlist="_packaged")._packaged.cache_info().currsize)
    assert set(loaded.values()) == {1}, "not every worker has judged tiles"
    cluster, threads = results
    assert cluster["sjg_table"].n_obs > 20
    np.testing.assert_array_equal(cluster["sjg_cells"].to_numpy(), threads["sjg_cells"].to_numpy())
    pd.testing.assert_frame_equal(cluster["transcripts"].compute(), threads["transcripts"].compute(), check_exact=True)
    np.testing.assert_array_equal(cluster["sjg_table"].X.toarray(), threads["sjg_table"].X.toarray())
    pd.testing.assert_frame_equal(cluster["sjg_table"].obs, threads["sjg_table"].obs, check_exact=True)
    np.testing.assert_array_equal(cluster["sjg_table"].varm["gene_importance"], threads["sjg_table"].varm["gene_importance"])
    assert cluster["sjg_boundaries"].geometry.geom_equals(threads["sjg_boundaries"].geometry).all()


def test_a_worker_that_is_killed_changes_nothing(client, planted, by_threads):
    killed = []

    def kill(record):
        if record["phase"] == "cells" and record["done"] == 1 and not killed:
            killed.append(next(iter(client.run(os.getpid).values())))
            os.kill(killed[0], signal.SIGKILL)

    found = _run(planted, spread=starmap_in_order, on_progress=kill)
    assert killed
    _assert_equal(found, by_threads)


def test_a_run_begun_by_a_cluster_ends_without_one(client, planted, by_threads, tmp_path):
    class Stop(Exception):
        pass

    seen = []

    def stop(record):
        if (record["phase"], record["done"]) == ("cells", 3):
            raise Stop

    options = {"checkpoint_dir": tmp_path, "checkpoint_interval": 1}
    with pytest.raises(Stop):
        _run(planted, spread=starmap_in_order, on_progress=stop, **options)
    found = _run(planted, resume=True, on_progress=lambda record: seen.append((record["phase"], record["done"])), **options)
    assert min(done for phase, done in seen if phase == "cells") == 3
    assert not any(phase == "training" for phase, _ in seen)
    _assert_equal(found, by_threads)


def test_errors_of_workers_are_those_of_the_work(client, monkeypatch):
    with pytest.raises(ValueError, match="invalid literal for int"):
        list(starmap_in_order(int, [("1",), ("one",), ("2",)]))
    assert list(starmap_in_order(int, [("1",), ("2",)])) == [1, 2]
    monkeypatch.setattr(client.cluster.scheduler, "allowed_failures", 0)
    with pytest.raises(ClusterError, match="1 workers of the distributed.Client died .* more memory"):
        list(starmap_in_order(os._exit, [(1,)]))
