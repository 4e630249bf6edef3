"""What is cut out for a tile is all that its judge asks for."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from sjg.training import Parameters, Tissue, make_fabric
from sjg.training._judges import ClaimJudge, FoldJudge
from sjg.training._nuclei import Nuclei, asked_in, measure_nuclei, nearest_candidates
from sjg.training._own_profiles import fit_own_profiles
from sjg.training._run import make_trainer
from sjg.training._tiles import TileJob, judge_tile
from sjg.training._windows import Window

PARAMETERS = Parameters(channels=(4, 6), n_folds=2, n_orientations=1, points_per_patch=300)


@pytest.fixture(scope="module")
def trainer(plant_tissue):
    """A large tissue, a quarter of which holds no nucleus."""
    planted = plant_tissue(side=320)
    empty = np.unique(planted.nuclei[160:, 160:])
    nuclei = np.where(np.isin(planted.nuclei, empty), 0, planted.nuclei)
    kept = np.setdiff1d(np.unique(nuclei), 0) - 1
    nuclei = np.searchsorted(np.unique(nuclei), nuclei).astype(np.int32)
    types = planted.types.__class__(
        planted.types.names, planted.types.initial[kept], planted.types.confidence[kept], planted.types.profiles
    )
    tissue = Tissue(planted.molecules, nuclei, PARAMETERS)
    return make_trainer(tissue, types, PARAMETERS.replace(use_claims=False), make_fabric("cpu"), 0)


@pytest.fixture(scope="module")
def own(trainer):
    tissue = trainer.tissue
    cell = np.where(np.arange(len(tissue.molecules)) % 5, tissue.nucleus_of, 0).astype(np.int32)
    return fit_own_profiles(trainer.state, cell, tissue.molecules.gene, rng=np.random.default_rng(0))


@pytest.mark.parametrize("window", [Window(64, 64, 48, 48), Window(0, 272, 48, 48), Window(140, 140, 48, 48), Window(60, 150, 32, 20)])
@pytest.mark.parametrize("kind", ["claims", "folds"])
def test_a_cut_out_is_judged_as_in_the_whole_tissue(trainer, own, kind, window):
    tissue, state = trainer.tissue, trainer.state
    if kind == "claims":
        judge = ClaimJudge(tissue, state, PARAMETERS, own=own)
    else:
        judge = FoldJudge(trainer.averaged_model(), tissue, state, PARAMETERS, own=own, seed=3)
    part, nucleus = judge.of(tissue, window)
    assert len(nucleus) < 0.6 * len(tissue.nuclei)
    assert len(part.tissue.molecules) < 0.6 * len(tissue.molecules)
    halo = window.grown(PARAMETERS.halo_px)
    y, x = np.nonzero(tissue.reachable(window))
    np.testing.assert_array_equal(np.nonzero(part.tissue.reachable(window)), (y, x))
    found = []
    for one, view in ((judge, tissue), (part, part.tissue)):
        inside = view.molecules_in(window)
        pixels = view.points(np.stack([y + window.y0, x + window.x0], 1) + 0.5, halo)
        molecules = view.points(view.molecules.yx_px[inside], halo)
        found.append((pixels, molecules, *one(halo, inside, molecules, pixels)))
    for whole, cut in zip(found[0][:2], found[1][:2], strict=True):
        np.testing.assert_array_equal(nucleus[cut.candidate], whole.candidate)
        np.testing.assert_array_equal(cut.signed_px, whole.signed_px)
        np.testing.assert_array_equal(np.concatenate([[0], nucleus + 1])[cut.nucleus], whole.nucleus)
    for whole, cut in zip(found[0][2:], found[1][2:], strict=True):
        # a logarithm of many numbers may end differently in its last bit at another place among them
        torch.testing.assert_close(cut, whole, rtol=1e-5, atol=1e-6)


def test_a_job_is_small_and_survives_a_journey(trainer, own):
    tissue, state, window = trainer.tissue, trainer.state, Window(64, 64, 48, 48)
    judge = ClaimJudge(tissue, state, PARAMETERS, own=own)
    job = TileJob.cut(judge, tissue, window, PARAMETERS, seed=(1, 2), pixels=True)
    (here,) = judge_tile(job)
    sent = pickle.dumps(job)
    # the network of claims alone would take more than this
    assert len(sent) < 250_000
    (there,) = judge_tile(pickle.loads(sent))  # noqa: S301
    np.testing.assert_array_equal(there.labels, here.labels)
    np.testing.assert_array_equal(there.confidence, here.confidence)
    np.testing.assert_array_equal(there.cell_confidence, here.cell_confidence)
    for name in here.evidence.__dataclass_fields__:
        assert torch.equal(getattr(there.evidence, name), getattr(here.evidence, name)), name
    nuclei = window.of(tissue.labels)
    np.testing.assert_array_equal(here.ids()[here.labels][nuclei > 0], nuclei[nuclei > 0])


def test_a_tile_far_from_nuclei_asks_nobody(trainer):
    tissue = trainer.tissue
    job = TileJob.cut(ClaimJudge(tissue, trainer.state, PARAMETERS), tissue, Window(280, 280, 20, 20), PARAMETERS, seed=(0,), pixels=True)
    assert job.judge is None
    (found,) = judge_tile(job)
    assert found.cell is None


@pytest.mark.parametrize("seed", range(4))
def test_no_candidate_of_a_rectangle_is_missed(seed):
    rng = np.random.default_rng(seed)
    # crowded on one side, nearly empty on the other
    centre = rng.uniform(0, 1, (400, 2)) ** [1, 3] * 500
    nuclei = Nuclei(centre, rng.uniform(3, 6, 400), rng.uniform(3, 12, (400, 32)), 4.5)
    low = rng.uniform(0, 350, 2)
    high = low + rng.uniform(20, 120, 2)
    points = rng.uniform(low, high, (3000, 2)).astype(np.float32)
    points[:2] = low, high
    index = asked_in(nuclei, low, high, 4)
    assert len(index) < 400
    whole, cut = nearest_candidates(nuclei, points, 4), nearest_candidates(nuclei.of(index), points, 4)
    np.testing.assert_array_equal(index[cut[0]], whole[0])
    np.testing.assert_array_equal(cut[1], whole[1])


def test_few_nuclei_are_all_asked(plant_tissue):
    planted = plant_tissue(side=32)
    nuclei = measure_nuclei(planted.nuclei)
    np.testing.assert_array_equal(asked_in(nuclei, np.zeros(2), np.full(2, 5.0), 6), np.arange(len(nuclei)))
