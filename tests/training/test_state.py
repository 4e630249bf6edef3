"""EM on cells: types, densities, profiles."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from sjg.training import make_fabric
from sjg.training._parameters import Parameters
from sjg.training._run import make_trainer
from sjg.training._state import _FALSE_SHARES, Evidence, initial_state, revise
from sjg.training._tissue import Tissue


@pytest.fixture
def state(planted):
    tissue = Tissue(planted.molecules, planted.nuclei, Parameters())
    return initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, planted.types, Parameters(), device=torch.device("cpu"))


def _true_evidence(state, planted):
    evidence = Evidence.empty(state)
    evidence.exposure += 1
    own = planted.true_cell > 0
    gene = torch.as_tensor(planted.molecules.gene, dtype=torch.long)
    cell = torch.as_tensor(np.maximum(planted.true_cell - 1, 0), dtype=torch.long)[:, None]
    weight = torch.as_tensor(own, dtype=torch.float32)
    evidence.add_molecules(state, cell, gene, weight[:, None], 1 - weight)
    evidence.area += torch.as_tensor(np.bincount(planted.cells.ravel())[1:], dtype=torch.float32)
    return evidence


def test_wrong_types_are_corrected_and_switched_off_they_stay(planted, state):
    wrong = (planted.true_type + 1) % 3
    types = planted.types.__class__(planted.types.names, wrong, planted.types.confidence, planted.types.profiles)
    tissue = Tissue(planted.molecules, planted.nuclei, Parameters())
    start = initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, types, Parameters(), device=torch.device("cpu"))
    revised = revise(start, _true_evidence(start, planted), Parameters())
    np.testing.assert_array_equal(revised.posterior.argmax(1).numpy(), planted.true_type)
    kept = revise(start, _true_evidence(start, planted), Parameters(revise_types=False))
    np.testing.assert_array_equal(kept.posterior.argmax(1).numpy(), wrong)


def test_m_step_equals_counting(planted, state):
    evidence = _true_evidence(state, planted)
    count = np.bincount(planted.true_cell, minlength=len(state.density) + 1)[1:]
    np.testing.assert_allclose(evidence.count.numpy(), count)
    noise = np.bincount(planted.molecules.gene[planted.true_cell == 0], minlength=12)
    np.testing.assert_allclose(evidence.noise.numpy(), noise)
    assert float(evidence.profile.sum()) == pytest.approx(count.sum(), rel=1e-4)
    density = revise(state, evidence, Parameters(use_claims=False)).density.numpy()
    expected = count / np.bincount(planted.cells.ravel())[1:]
    assert np.corrcoef(density, expected)[0, 1] > 0.98


def test_unseen_cells_keep_their_state(planted, state):
    evidence = _true_evidence(state, planted)
    evidence.exposure[4] = 0
    evidence.area[4] = 0
    revised = revise(state, evidence, Parameters())
    torch.testing.assert_close(revised.posterior[4], state.posterior[4])
    torch.testing.assert_close(revised.density[4], state.density[4])


def test_evidence_does_not_depend_on_how_many_molecules_are_added_together(planted, state, monkeypatch):
    together = _true_evidence(state, planted)
    monkeypatch.setattr("sjg.training._state.POINTS_AT_ONCE", 7)
    for name, value in vars(_true_evidence(state, planted)).items():
        torch.testing.assert_close(value, getattr(together, name), rtol=1e-5, atol=1e-4)


def test_shares_of_false_calls_have_the_likelihood_of_the_mixture(planted, state):
    rng = np.random.default_rng(0)
    weight, gene = rng.random(500), rng.integers(0, 12, 500)
    evidence = Evidence.empty(state)
    evidence.add_noise(state, torch.as_tensor(gene), torch.as_tensor(weight, dtype=torch.float32))
    everything = state.prior_ambient.double().numpy()
    for share, found in zip(_FALSE_SHARES, evidence.false_calls.tolist(), strict=True):
        noise = (1 - share) * everything + share / 12
        assert found == pytest.approx(np.log(1 - weight + weight * noise[gene] / everything[gene]).sum(), abs=1e-3)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.5, 0.9])
def test_the_share_of_false_calls_is_found_at_once(state, share):
    """Molecules of cells are of the first genes, noise is in part of all genes alike; sources are seen through likelihoods."""
    rng = np.random.default_rng(1)
    n, cell = 100_000, np.r_[np.linspace(1, 0.1, 6), np.full(6, 1e-3)]
    cell, is_noise = cell / cell.sum(), rng.random(n) < 0.2
    # a part of it is as all molecules are, which are four fifths those of cells and one fifth noise
    noise = (0.8 * (1 - share) * cell + share / 12) / (0.8 + 0.2 * share)
    gene = np.where(is_noise, rng.choice(12, n, p=noise), rng.choice(12, n, p=cell))
    everything = 0.8 * cell + 0.2 * noise
    state = dataclasses.replace(state, prior_ambient=torch.tensor(everything).float(), ambient=torch.tensor(everything).float())

    def after_a_pass(state):
        evidence = Evidence.empty(state)
        weight = 0.2 * state.ambient.double().numpy()[gene]
        weight /= weight + 0.8 * cell[gene]
        evidence.add_noise(state, torch.as_tensor(gene), torch.as_tensor(weight).float())
        evidence.count += (n - weight.sum()) / len(evidence.count)
        found = state.with_false_calls(evidence)
        return found, float(found.ambient[-1] - everything[-1]) / (1 / 12 - everything[-1])

    found, found_share = after_a_pass(state)
    assert found_share == pytest.approx(share, abs=0.004 + 0.05 * share)
    np.testing.assert_allclose(found.ambient.numpy(), (1 - found_share) * everything + found_share / 12, rtol=1e-3)
    torch.testing.assert_close(found.prior_ambient, state.prior_ambient)
    assert after_a_pass(found)[1] == pytest.approx(found_share, abs=1e-3)


def test_noise_holds_hardly_more_of_a_gene_than_there_is(state):
    evidence = Evidence.empty(state)
    evidence.noise += 10.0
    evidence.count += (1000.0 - 120.0) / len(evidence.count)
    evidence.false_calls[-1] = 1e4  # all noise are false calls
    rare = state.prior_ambient.clone()
    rare[-1] = 1e-6
    rare /= rare.sum()
    found = dataclasses.replace(state, prior_ambient=rare).with_false_calls(evidence).ambient
    assert float(found[-1] / rare[-1]) == pytest.approx(1.5 * 1000 / 120, rel=1e-3)
    assert float(found[0]) == pytest.approx(1 / 12, rel=0.1)


def test_without_molecules_a_third_of_the_noise_are_false_calls(state):
    found = state.with_false_calls(Evidence.empty(state)).ambient
    torch.testing.assert_close(found, 2 / 3 * state.prior_ambient + 1 / 36, rtol=1e-2, atol=0)


def _trainer(planted, **changes):
    parameters = Parameters(n_rounds=4, channels=(4, 6), points_per_patch=200, **changes)
    tissue = Tissue(planted.molecules, planted.nuclei, parameters)
    return make_trainer(tissue, planted.types, parameters, make_fabric("cpu"), 0)


def _end_round(trainer, planted, losses):
    trainer.records = [(loss, 0.9) for loss in losses]
    trainer.step += len(losses)
    trainer.evidence = _true_evidence(trainer.state, planted)
    trainer.end_round()


def test_training_ends_when_types_and_the_loss_between_rounds_have_settled(planted):
    def trained(**changes):
        losses = iter([3.0, 2.0, 1.97, 1.96])
        trainer = _trainer(planted, steps_per_round=2, use_claims=False, **changes)
        while not trainer.finished:
            _end_round(trainer, planted, [next(losses)] * 2)
        return trainer

    assert trained().step == 6  # 3.0 to 2.0 is not settled, 2.0 to 1.97 is
    assert trained(settled_cells=0.0).step == 8
    assert trained(settled_loss=0.0).step == 8


def test_with_claims_a_round_ends_when_its_loss_has_settled(planted):
    def over(losses, **changes):
        trainer = _trainer(planted, steps_per_round=100, **changes)
        trainer.step, trainer.records = len(losses), [(loss, 0.9) for loss in losses]
        return trainer.round_is_over

    falling, flat = [2.0] * 20 + [1.0] * 20, [2.0] * 20 + [1.97] * 20
    assert not over(falling)
    assert not over([float("nan")] * 40)
    assert over(flat)
    assert not over(flat, settled_loss=0.0)
    assert not over(flat, use_claims=False)
    assert not over(flat + [1.97] * 10)  # asked after whole windows
    assert over(falling + [1.0] * 20)
    assert over(flat * 2 + falling[:20], settled_loss=0.0)


def test_with_claims_training_ends_when_types_have_settled_too(planted):
    wrong = planted.types.__class__(planted.types.names, (planted.true_type + 1) % 3, planted.types.confidence, planted.types.profiles)
    flat = [2.0] * 40
    right = _trainer(planted, steps_per_round=100)
    _end_round(right, planted, flat)
    assert right.finished
    revised = _trainer(dataclasses.replace(planted, types=wrong), steps_per_round=100, revise_profiles=False)
    _end_round(revised, planted, flat)
    assert not revised.finished
    # the rate falls as if the round had had all its steps
    assert (revised.n_steps, revised.n_rounds_done) == (340, 1)
    _end_round(revised, planted, flat)
    assert revised.finished


def test_cells_that_no_patch_has_met_do_not_count_as_settled(planted):
    wrong = (planted.true_type + 1) % 3
    types = planted.types.__class__(planted.types.names, wrong, planted.types.confidence, planted.types.profiles)
    trainer = _trainer(dataclasses.replace(planted, types=types), steps_per_round=100)
    trainer.evidence = _true_evidence(trainer.state, planted)
    trainer.evidence.exposure[1:] = 0
    trainer.records = [(2.0, 0.9)] * 40
    assert trainer.end_round()["changed_types"] == 1.0
