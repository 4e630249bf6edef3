"""However many threads work, the result is the same."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch

import sjg
from sjg.training import Parameters, make_fabric, segment_tissue
from sjg.training._workers import default_workers, in_order

QUICK = Parameters(
    n_rounds=2,
    steps_per_round=4,
    patches_per_step=2,
    patch_size_px=48,
    tile_size_px=32,
    channels=(4, 6),
    n_folds=1,
    n_importance_patches=1,
    n_probes=1,
    points_per_patch=500,
)


@pytest.mark.parametrize("use_claims", [True, False])
def test_the_result_does_not_depend_on_the_number_of_workers(planted, use_claims):
    results = []
    for n_workers in (1, 3):
        with sjg.settings.override(n_workers=n_workers):
            results.append(
                segment_tissue(
                    planted.molecules,
                    planted.nuclei,
                    planted.types,
                    QUICK.replace(use_claims=use_claims),
                    fabric=make_fabric("cpu"),
                    random_state=3,
                )
            )
    one, three = results
    for name in ("labels", "molecule_cell", "molecule_confidence", "gene_importance", "pixel_confidence", "cell_type_confidence"):
        np.testing.assert_array_equal(getattr(one, name), getattr(three, name))
    assert one.history == three.history


def test_results_come_in_order_and_few_wait():
    started, lock = [], threading.Lock()

    def work(job):
        with lock:
            started.append(job)
        time.sleep(0.01 * (job % 3))
        return job, torch.get_num_threads()

    before = torch.get_num_threads()
    results = in_order(work, range(12), 3)
    assert next(results) == (0, 1)
    assert len(started) <= 5
    assert list(results) == [(job, 1) for job in range(1, 12)]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n_workers", [1, 2])
def test_an_error_ends_the_work_where_it_happened(n_workers):
    done = []

    def work(job):
        if job == 2:
            raise MemoryError
        done.append(job)
        return job

    before = torch.get_num_threads()
    results = in_order(work, range(50), n_workers)
    with pytest.raises(MemoryError):
        list(results)
    assert len(done) < 8
    assert torch.get_num_threads() == before


def test_how_many_there_are(monkeypatch):
    monkeypatch.delenv("SJG_N_WORKERS", raising=False)
    assert default_workers(torch.device("cpu")) == torch.get_num_threads()
    assert 1 <= default_workers(torch.device("cuda")) <= 8
    monkeypatch.setenv("SJG_N_WORKERS", "5")
    assert default_workers(torch.device("cpu")) == 5
    monkeypatch.setenv("SJG_N_WORKERS", "many")
    with pytest.raises(ValueError, match="SJG_N_WORKERS is 'many'"):
        _ = sjg.settings.n_workers
