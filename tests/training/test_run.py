"""Whole runs on planted tissue: quality, nuclei, determinism, resume."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from skimage.segmentation import expand_labels

from sjg.core import CheckpointError, DeviceError, InputError
from sjg.metrics import instance_iou
from sjg.training import Parameters, load_model, make_fabric, segment_tissue

SMALL = Parameters(
    n_rounds=2, steps_per_round=40, patch_size_px=64, channels=(8, 12), n_folds=2, n_importance_patches=2, n_probes=4, points_per_patch=2000
)


def _run(planted, parameters=SMALL, *, nuclei=None, **kwargs):
    return segment_tissue(
        planted.molecules, planted.nuclei if nuclei is None else nuclei, planted.types, parameters, fabric=make_fabric("cpu"), **kwargs
    )


@pytest.fixture(scope="module")
def result(planted):
    return _run(planted)


@pytest.mark.parametrize("use_claims", [True, False])
def test_beats_expansion_of_nuclei(planted, result, use_claims):
    if not use_claims:
        result = _run(planted, SMALL.replace(use_claims=False))
    best = max(((expand_labels(planted.nuclei, d), d) for d in range(2, 8)), key=lambda pair: instance_iou(planted.cells, pair[0]))[0]
    pixel = planted.molecules.yx_px.astype(int)
    by_expansion = (best[pixel[:, 0], pixel[:, 1]] == planted.true_cell).mean()
    assert instance_iou(planted.cells, result.labels) > instance_iou(planted.cells, best) + 0.01
    assert (result.molecule_cell == planted.true_cell).mean() > by_expansion + 0.01


def test_nuclei_never_change_and_every_cell_has_its_own(planted, result):
    inside = planted.nuclei > 0
    np.testing.assert_array_equal(result.labels[inside], planted.nuclei[inside])
    np.testing.assert_array_equal(np.unique(result.labels), np.arange(planted.nuclei.max() + 1))


def test_importance_ranks_the_genes_of_a_type_first(planted, result):
    for k in range(3):
        top = np.argsort(-result.gene_importance[:, k])[:4]
        assert (top % 3 == k).sum() >= 3


def test_same_seed_same_result_other_seed_other_history(planted, result):
    again = _run(planted)
    np.testing.assert_array_equal(again.labels, result.labels)
    np.testing.assert_array_equal(again.molecule_cell, result.molecule_cell)
    np.testing.assert_array_equal(again.gene_importance, result.gene_importance)
    other = _run(planted, random_state=1)
    assert other.history[0]["loss"] != result.history[0]["loss"]


def test_profiles_of_a_reference_stay_and_others_are_learned(planted):
    short = SMALL.replace(n_rounds=1, steps_per_round=10)
    prior = planted.types.profiles / planted.types.profiles.sum(1, keepdims=True)
    given = load_model(_run(planted, short).network)[1].profiles.numpy()
    np.testing.assert_allclose(given, prior, atol=2e-3)
    types = dataclasses.replace(planted.types, profiles=None)
    found = segment_tissue(planted.molecules, planted.nuclei, types, short, fabric=make_fabric("cpu"))
    learned = load_model(found.network)[1].profiles.numpy()
    assert np.abs(learned - prior).max() < 0.05


def test_false_calls_of_genes_that_no_cell_expresses_are_noise(planted):
    """Noise falls on 12 genes that cells express and on 8 that none does."""
    rng, noise = np.random.default_rng(0), planted.true_cell == 0
    gene = np.where(noise, rng.integers(0, 20, len(noise)), planted.molecules.gene).astype(np.int32)
    molecules = dataclasses.replace(planted.molecules, gene=gene, gene_names=tuple(f"g{i}" for i in range(20)))
    # hardly any in the reference; exactly as much in all types would mean that it does not know the gene
    types = dataclasses.replace(planted.types, profiles=np.hstack([planted.types.profiles, rng.uniform(1e-4, 1e-3, (3, 8))]))

    def found(**changes):
        cell = segment_tissue(
            molecules, planted.nuclei, types, SMALL.replace(use_network=False, **changes), fabric=make_fabric("cpu")
        ).molecule_cell
        return (cell[noise & (gene >= 12)] == 0).mean(), (cell == planted.true_cell).mean()

    (unexpressed, right), (unexpressed_before, right_before) = found(), found(false_calls=False)
    assert unexpressed > 0.95 > 0.8 > unexpressed_before
    assert right > right_before + 0.004


def test_the_network_of_the_run_never_touches_the_cells(planted, result):
    """So that cells can be had without it, bit for bit."""
    found = _run(planted, SMALL.replace(use_network=False))
    np.testing.assert_array_equal(found.labels, result.labels)
    np.testing.assert_array_equal(found.molecule_cell, result.molecule_cell)
    np.testing.assert_array_equal(found.molecule_confidence, result.molecule_confidence)
    assert np.isnan(found.gene_importance).all()


def test_global_random_state_is_left_alone(planted):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    _run(planted, SMALL.replace(n_rounds=1, steps_per_round=1))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("early", [False, True], ids=["whole rounds", "rounds that end early"])
def test_interrupted_run_continues_bit_for_bit(planted, tmp_path, monkeypatch, early):
    monkeypatch.setattr("sjg.training._trainer.WINDOW", 3)
    parameters = SMALL.replace(n_rounds=3, steps_per_round=10, settled_loss=100.0 if early else 0.0, settled_cells=0.0)
    whole = _run(planted, parameters)
    assert [record["step"] for record in whole.history] == ([6, 12, 18] if early else [10, 20, 30])

    class Stop(Exception):
        pass

    def interrupt(record):
        if record["phase"] == "training" and record["done"] == 17:
            raise Stop

    with pytest.raises(Stop):
        _run(planted, parameters, checkpoint_dir=tmp_path, checkpoint_interval=4, on_progress=interrupt)
    resumed = _run(planted, parameters, checkpoint_dir=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.labels, whole.labels)
    np.testing.assert_array_equal(resumed.molecule_confidence, whole.molecule_confidence)
    np.testing.assert_array_equal(resumed.gene_importance, whole.gene_importance)
    assert resumed.history == whole.history


def test_checkpoints_of_other_runs_and_damaged_ones_are_refused(planted, tmp_path):
    short = SMALL.replace(n_rounds=1, steps_per_round=2)
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        _run(planted, short, checkpoint_dir=tmp_path, resume=True)
    _run(planted, short, checkpoint_dir=tmp_path)
    with pytest.raises(CheckpointError, match="other data, parameters or random_state"):
        _run(planted, short, checkpoint_dir=tmp_path, resume=True, random_state=3)
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(CheckpointError, match="damaged"):
        _run(planted, short, checkpoint_dir=tmp_path, resume=True)


def test_relabelled_nuclei_give_the_relabelled_result(planted, result):
    order = np.random.default_rng(0).permutation(planted.nuclei.max())
    new_id = np.concatenate([[0], order + 1]).astype(np.int32)
    position = np.argsort(order)
    types = planted.types.__class__(
        planted.types.names, planted.types.initial[position], planted.types.confidence[position], planted.types.profiles
    )
    turned = segment_tissue(planted.molecules, new_id[planted.nuclei], types, SMALL, fabric=make_fabric("cpu"))
    assert (turned.labels == new_id[result.labels]).mean() > 0.99


def test_mask_assignment_stays_inside_the_mask(planted):
    restricted = _run(planted, SMALL.replace(n_rounds=1, steps_per_round=10), restrict_to_mask=True)
    pixel = planted.molecules.yx_px.astype(int)
    inside = restricted.labels[pixel[:, 0], pixel[:, 1]]
    assigned = restricted.molecule_cell > 0
    assert assigned.any()
    np.testing.assert_array_equal(restricted.molecule_cell[assigned], inside[assigned])


def test_one_nucleus_and_one_type(planted):
    lone = np.where(planted.nuclei == 8, 1, 0).astype(np.int32)
    types = planted.types.__class__(("only",), np.zeros(1, np.int32), np.ones(1, np.float32), None)
    found = segment_tissue(planted.molecules, lone, types, SMALL.replace(n_rounds=1, steps_per_round=3), fabric=make_fabric("cpu"))
    assert set(np.unique(found.labels)) == {0, 1}
    assert (found.labels == 1).sum() >= (lone == 1).sum()


def test_stored_network_gives_the_same_weights(planted, result):
    model, state, parameters = load_model(result.network)
    assert parameters == SMALL
    assert state.profiles.shape == (3, 12)
    stored = result.network["weights"]
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), stored[name.replace(".", "__")])
    # the noise of the planted tissue falls on all genes alike
    everything = np.bincount(planted.molecules.gene, minlength=12) + 0.5
    np.testing.assert_allclose(state.prior_ambient.numpy(), everything / everything.sum(), rtol=1e-5)
    assert np.ptp(state.ambient.numpy()) < 0.9 * np.ptp(state.prior_ambient.numpy())
    without = {name: value for name, value in result.network["state"].items() if name != "prior_ambient"}
    older = load_model({**result.network, "state": without})[1]
    assert torch.equal(older.prior_ambient, older.ambient)
    with pytest.raises(InputError, match="incomplete"):
        load_model({**result.network, "weights": {}})


def test_devices_and_parameters_are_checked():
    with pytest.raises(DeviceError, match="Unknown device"):
        make_fabric("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(DeviceError, match="no CUDA GPU"):
            make_fabric("cuda")
    with pytest.raises(InputError, match="Unknown parameter 'epochs'"):
        SMALL.replace(epochs=3)
    for value in ("no", 0, None):
        with pytest.raises(InputError, match=r"false_calls=.*; give True or False\."):
            SMALL.replace(false_calls=value)
    assert not SMALL.replace(false_calls=np.False_).false_calls
