import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from sjg.core import InputError, Molecules
from sjg.networks import ClaimNet, load_claim_net, save_claim_net
from sjg.training import PRESETS
from sjg.training._claims import Claims, claims_of, crop_bounds, gather_evidence
from sjg.training._crops import N_CHANNELS, REACH_RADII, SIDE, STEP_RADII, Lattice, crop_origins
from sjg.training._judges import ClaimJudge
from sjg.training._nuclei import nearest_candidates, outline_distance
from sjg.training._scene import ASSUMED_PURITY, ASSUMED_RING_PURITY, measure_scene
from sjg.training._state import initial_state
from sjg.training._tissue import Tissue
from sjg.training._windows import Window

PARAMETERS = PRESETS["fast"]


@pytest.fixture
def tissue(planted):
    return Tissue(planted.molecules, planted.nuclei, PARAMETERS)


@pytest.fixture
def state(tissue, planted):
    return initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, planted.types, PARAMETERS, device=torch.device("cpu"))


def _claims(tissue, state, cells):
    evidence = gather_evidence(tissue, state, None, np.arange(len(tissue.molecules)), PARAMETERS.n_candidates)
    return claims_of(load_claim_net(), tissue.nuclei, cells, evidence, state, measure_scene(tissue, state))


def test_distance_to_one_outline_is_that_of_the_candidates(tissue):
    yx = np.random.default_rng(0).uniform(0, min(tissue.shape), (200, 2))
    candidate, signed, _ = nearest_candidates(tissue.nuclei, yx, 3)
    alone = outline_distance(tissue.nuclei, candidate[:, 1], yx[:, None])[:, 0]
    np.testing.assert_allclose(alone, signed[:, 1], atol=1e-4)


def test_claims_do_not_depend_on_the_cells_they_are_made_with(tissue, state):
    everyone = np.arange(len(tissue.nuclei))
    few = everyone[::5]
    with torch.no_grad():
        together, alone = _claims(tissue, state, everyone), _claims(tissue, state, few)
    torch.testing.assert_close(together.maps[together.slot[few]], alone.maps[alone.slot[few]], atol=1e-4, rtol=1e-4)


def test_views_are_averaged(tissue, state):
    cells = np.arange(len(tissue.nuclei))[:3]
    evidence = gather_evidence(tissue, state, None, np.arange(len(tissue.molecules)), PARAMETERS.n_candidates)
    net, scene = load_claim_net(), measure_scene(tissue, state)
    mean = claims_of(net, tissue.nuclei, cells, evidence, state, scene, n_orientations=2).maps
    crops = Lattice(tissue.nuclei, *crop_bounds(tissue.nuclei, cells)).crops(
        cells,
        evidence,
        log_density=np.log(state.density.numpy() / float(state.density.median())),
        typical_density=float(state.density.median()),
        scene=scene,
    )
    half_turn = net(crops.flip((2, 3))).flip((2, 3))
    torch.testing.assert_close(mean, (net(crops) + half_turn) / 2, atol=1e-3, rtol=1e-3)


def test_crops_hold_distances_and_molecules(tissue, state):
    """Against a loop over lattice cells and molecules."""
    cells = np.array([len(tissue.nuclei) // 2])
    evidence = gather_evidence(tissue, state, None, np.arange(len(tissue.molecules)), PARAMETERS.n_candidates)
    lattice = Lattice(tissue.nuclei, *crop_bounds(tissue.nuclei, cells))
    origin = crop_origins(tissue.nuclei, cells, lattice.step_px)[0]
    counts, splat = lattice._counts(cells, evidence)[0].numpy(), lattice._splat(cells, evidence)[0].numpy()
    expected_counts, expected_splat = np.zeros((SIDE, SIDE)), np.zeros((SIDE, SIDE))
    for yx, candidates, ratio in zip(evidence.yx_px, evidence.candidate, evidence.log_ratio.numpy(), strict=True):
        y, x = np.floor(yx / lattice.step_px).astype(int) - origin
        if 0 <= y < SIDE and 0 <= x < SIDE:
            expected_counts[y, x] += 1
            expected_splat[y, x] += ratio[candidates == cells[0]].sum()
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_allclose(splat[0], expected_splat, atol=1e-3)
    crop = lattice.crops(cells, evidence, log_density=np.zeros(len(tissue.nuclei)), typical_density=1.0, scene=measure_scene(tissue, state))
    assert crop.shape == (1, N_CHANNELS, SIDE, SIDE)
    centre = (np.array([7, 30]) + origin + 0.5) * lattice.step_px
    distance = outline_distance(tissue.nuclei, cells, centre[None, None])[0, 0] / tissue.radius_px
    assert float(crop[0, 0, 7, 30]) == pytest.approx(np.clip(distance, -1.5, 5), abs=1e-5)


def test_claims_are_interpolated_and_end_at_their_reach(tissue):
    rng = np.random.default_rng(1)
    maps = torch.from_numpy(rng.normal(size=(1, 2, SIDE, SIDE)).astype(np.float32))
    slot = np.full(len(tissue.nuclei), -1)
    slot[3] = 0
    claims = Claims(tissue.nuclei, slot, maps)
    step = STEP_RADII * tissue.radius_px
    origin = crop_origins(tissue.nuclei, np.array([3]), step)[0]
    yx = (origin + rng.uniform(1, SIDE - 2, (50, 2))) * step
    near = np.zeros((50, 1))
    found = claims.at(yx, np.full((50, 1), 3), near, molecules=True)[:, 0].numpy()
    np.testing.assert_allclose(found, map_coordinates(maps[0, 1].numpy(), (yx / step - 0.5 - origin).T, order=1), atol=1e-4)
    beyond = near + (REACH_RADII + 0.1) * tissue.radius_px
    assert (claims.at(yx, np.full((50, 1), 3), beyond, molecules=True) < -10).all()
    assert (claims.at(yx, np.full((50, 1), 4), near, molecules=False) < -10).all()


def test_judge_gives_probabilities_whatever_the_tile(tissue, state):
    judge = ClaimJudge(tissue, state, PARAMETERS)
    whole = Window(0, 0, *tissue.shape)
    inside = tissue.molecules_in(whole)
    molecules = tissue.points(tissue.molecules.yx_px[inside], whole)
    pixels = tissue.points(np.random.default_rng(2).uniform(0, min(tissue.shape), (300, 2)), whole)
    source, place = judge(whole, inside, molecules, pixels)
    torch.testing.assert_close(source.sum(1), torch.ones(len(inside)))
    torch.testing.assert_close(place.sum(1), torch.ones(300))
    part, alone = judge(whole, inside[:40], molecules[slice(40)], pixels[slice(30)])
    torch.testing.assert_close(part, source[:40], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(alone, place[:30], atol=1e-4, rtol=1e-4)


def test_scene_tells_noise_from_cells(planted, state, tissue):
    clean = measure_scene(tissue, state)
    rng = np.random.default_rng(0)
    n = len(planted.molecules)
    yx = np.concatenate([planted.molecules.yx_px, (rng.random((n, 2)) * tissue.shape).astype(np.float32)])
    gene = np.concatenate([planted.molecules.gene, rng.permutation(planted.molecules.gene)])
    noisy = Tissue(Molecules(yx, gene, planted.molecules.gene_names), planted.nuclei, PARAMETERS)
    start = initial_state(noisy.molecules, noisy.nucleus_of, noisy.nuclei, planted.types, PARAMETERS, device=torch.device("cpu"))
    spoiled = measure_scene(noisy, start)
    assert spoiled.purity < clean.purity
    assert spoiled.outside > clean.outside
    assert all(np.isfinite(list(dataclasses.asdict(spoiled).values())))


@pytest.mark.parametrize(("n_types", "mismatch"), [(1, 0.0), (1, 0.6), (2, 0.0), (2, 0.6)])
def test_tissue_of_one_type_is_not_taken_for_contaminated(plant_tissue, n_types, mismatch):
    """Evidence over expected evidence is noise, or a reference of another assay, over nothing there: as if nuclei were full of others' molecules."""
    planted = plant_tissue(n_types=n_types, n_genes=40, seed=3)
    profiles = planted.types.profiles * np.exp(mismatch * np.random.default_rng(0).standard_normal(40))
    types = dataclasses.replace(planted.types, profiles=profiles)
    tissue = Tissue(planted.molecules, planted.nuclei, PARAMETERS)
    scene = measure_scene(
        tissue, initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, types, PARAMETERS, device=torch.device("cpu"))
    )
    assert (scene.purity == ASSUMED_PURITY) == (n_types == 1)
    assert (scene.ring_purity == ASSUMED_RING_PURITY) == (n_types == 1)


def test_weights_survive_a_round_trip_and_bad_files_are_refused(tmp_path):
    net = ClaimNet(N_CHANNELS, channels=(4, 8))
    save_claim_net(net, tmp_path / "claims.npz")
    back = load_claim_net(tmp_path / "claims.npz")
    x = torch.randn(2, N_CHANNELS, 8, 8)
    torch.testing.assert_close(back(x), net(x))
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", settings=np.array([{}], dtype=object))
    for name in ("other.npz", "pickled.npz", "missing.npz"):
        with pytest.raises(InputError, match=name):
            load_claim_net(tmp_path / name)


def test_packaged_weights_fit_and_leave_the_global_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert load_claim_net().n_inputs == N_CHANNELS
    assert torch.rand(1) == expected


def test_a_window_beyond_the_reach_of_every_cell_is_nobodys(planted):
    lone = np.where(planted.nuclei == 1, 1, 0).astype(np.int32)
    types = dataclasses.replace(planted.types, initial=planted.types.initial[:1], confidence=planted.types.confidence[:1])
    tissue = Tissue(planted.molecules, lone, PARAMETERS)
    state = initial_state(tissue.molecules, tissue.nucleus_of, tissue.nuclei, types, PARAMETERS, device=torch.device("cpu"))
    window = Window(80, 80, 16, 16)
    inside = tissue.molecules_in(window)
    y, x = np.mgrid[80:96, 80:96]
    molecules = tissue.points(tissue.molecules.yx_px[inside], window)
    source, place = ClaimJudge(tissue, state, PARAMETERS)(
        window, inside, molecules, tissue.points(np.stack([y.ravel(), x.ravel()], 1) + 0.5, window)
    )
    assert len(inside)
    for probability in (source, place):
        torch.testing.assert_close(probability[:, -1], torch.ones(len(probability)), atol=1e-3, rtol=0)
