"""The competition: orientation, nuclei, invariance to order, normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sjg.training._model import CompetitionModel
from sjg.training._parameters import Parameters
from sjg.training._state import initial_state
from sjg.training._tissue import Tissue
from sjg.training._windows import Window

PARAMETERS = Parameters(use_claims=False, channels=(4, 8), n_embedding=4, n_features=3, n_hidden=8)


@pytest.fixture(scope="module")
def setting(planted):
    tissue = Tissue(planted.molecules, planted.nuclei, PARAMETERS)
    state = initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, planted.types, PARAMETERS, device=torch.device("cpu"))
    torch.manual_seed(0)
    model = CompetitionModel(12, 3, PARAMETERS, radius_px=tissue.radius_px, density=tissue.density, log_profiles=state.log_profiles.T)
    window = Window(8, 8, 48, 64)
    y, x = np.mgrid[8:56, 8:72]
    points = tissue.points(np.stack([y.ravel(), x.ravel()], 1) + 0.5, window)
    batch = tissue.batch(window, tissue.context(window), tissue.molecules_in(window), 1.0, points, state)
    return tissue, state, model, window, points, batch


def test_weights_are_normalised_and_nuclei_are_fixed(setting, planted):
    _, state, model, window, points, batch = setting
    log_weight, classes = model(batch, state.log_profiles, state.log_prior)
    torch.testing.assert_close(log_weight.exp().sum(1), torch.ones(len(points)))
    torch.testing.assert_close(classes.exp().sum(1), torch.ones(len(points)))
    winner = points.winner(log_weight.argmax(1).numpy())
    nuclei = window.cut(planted.nuclei).ravel()
    assert (nuclei > 0).any()
    np.testing.assert_array_equal(winner[nuclei > 0], nuclei[nuclei > 0])


def test_chunks_of_points_do_not_matter(setting):
    _, state, model, _, _, batch = setting
    whole = model.log_weights(batch, state.log_profiles, state.log_prior, chunk=10**6)
    parts = model.log_weights(batch, state.log_profiles, state.log_prior, chunk=97)
    torch.testing.assert_close(whole, parts)


@pytest.mark.parametrize(
    ("flip_y", "flip_x", "transpose"), [(True, False, False), (False, True, False), (False, False, True), (True, True, True)]
)
def test_orientation_moves_molecules_context_and_points_together(setting, flip_y, flip_x, transpose):
    _, _, model, _, _, batch = setting
    turned = batch.oriented(flip_y=flip_y, flip_x=flip_x, transpose=transpose)
    at_points = model.raster(batch)[0].flatten(1)[:, batch.pixel]
    turned_at_points = model.raster(turned)[0].flatten(1)[:, turned.pixel]
    torch.testing.assert_close(at_points, turned_at_points, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(batch.context.flatten(1)[:, batch.pixel], turned.context.flatten(1)[:, turned.pixel])


def test_beyond_reach_only_background_is_left(planted):
    parameters = PARAMETERS.replace(reach_radii=0.5)
    lone = np.where(planted.nuclei == 1, 1, 0).astype(np.int32)
    tissue = Tissue(planted.molecules, lone, parameters)
    types = planted.types.__class__(planted.types.names, planted.types.initial[:1], planted.types.confidence[:1], planted.types.profiles)
    state = initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, types, parameters, device=torch.device("cpu"))
    model = CompetitionModel(12, 3, parameters, radius_px=tissue.radius_px, density=tissue.density)
    window = Window(0, 0, 96, 96)
    points = tissue.points(np.array([[80.5, 80.5]]), window)
    batch = tissue.batch(window, tissue.context(window), tissue.molecules_in(window), 1.0, points, state)
    log_weight, _ = model(batch, state.log_profiles, state.log_prior)
    assert float(log_weight[0, -1]) == pytest.approx(0.0)
    assert not tissue.reachable(Window(60, 60, 30, 30)).any()
