"""Memory: what is chosen, and what happens when it runs out all the same."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np
import pytest
import torch

from sjg.core import InputError, MemoryLimitError
from sjg.networks import load_claim_net
from sjg.training import Parameters, _tiles, make_fabric, segment_tissue
from sjg.training._crops import SIDE
from sjg.training._plan import CROP_AREA, MIN_SIDE_PX, Crowd, choose_precision, free_memory, is_out_of_memory, make_plan, window_bytes
from sjg.training._tissue import Tissue
from sjg.training._trainer import Trainer

CPU = torch.device("cpu")
CROWD = Crowd(density=0.1, nuclei_density=0.003, radius_px=5.0, n_genes=100)
QUICK = Parameters(
    n_rounds=1,
    steps_per_round=4,
    patch_size_px=80,
    tile_size_px=64,
    channels=(4, 6),
    n_folds=1,
    n_importance_patches=1,
    n_probes=1,
    points_per_patch=500,
)


def _plan(free_bytes, parameters=QUICK):
    return make_plan(parameters, n_types=8, crowd=CROWD, device=CPU, free_bytes=free_bytes)


def test_the_planner_knows_the_size_of_a_crop():
    # the planner is below the crops and cannot read their side
    assert CROP_AREA == SIDE**2


def test_with_room_the_settings_hold():
    plan = _plan(8 * 2**30)
    assert (plan.patch_px, plan.tile_px) == (QUICK.patch_size_px, QUICK.tile_size_px)


def test_with_less_room_patches_and_tiles_shrink_until_half_of_it_is_enough(caplog):
    large = Parameters(tile_size_px=1024, patch_size_px=512)
    full = window_bytes(large, 1024, n_types=8, crowd=CROWD, training=False)
    with caplog.at_level(logging.INFO, logger="sjg"):
        plan = _plan(full, large)
    assert 32 <= plan.tile_px < 1024
    assert plan.tile_bytes <= full / 2
    assert plan.patch_bytes <= full / 2
    assert f"tiles of {plan.tile_px} px" in caplog.text


def test_no_room_is_a_clear_error():
    with pytest.raises(MemoryLimitError, match=f"A patch of {MIN_SIDE_PX} px needs .* free memory"):
        _plan(1000)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("use_claims", [False, True])
def test_need_grows_with_the_window_the_types_and_the_crowd(training, use_claims):
    def need(side=64, n_types=8, crowd=CROWD, parameters=QUICK):
        return window_bytes(parameters.replace(use_claims=use_claims), side, n_types=n_types, crowd=crowd, training=training)

    assert need(side=128) > need()
    assert need(n_types=80) > need()
    assert need(crowd=dataclasses.replace(CROWD, density=3.0)) > need()
    assert need(parameters=QUICK.replace(n_candidates=12)) > need()
    if use_claims:
        assert need(crowd=dataclasses.replace(CROWD, nuclei_density=0.01)) > need()
        assert need(crowd=dataclasses.replace(CROWD, n_genes=20000)) > need()
    if training or not use_claims:
        assert need(parameters=QUICK.replace(channels=(64, 64), n_embedding=32)) > need()
    assert free_memory(CPU) > 0


def test_the_crowd_is_that_of_the_dense_places(planted):
    among_nothing = np.zeros((96, 1024), np.int32)
    among_nothing[:, :96] = planted.nuclei
    crowd = Tissue(planted.molecules, among_nothing, QUICK).crowd()
    assert crowd == Tissue(planted.molecules, planted.nuclei, QUICK).crowd()
    assert crowd.n_genes == 12
    assert crowd.radius_px == pytest.approx(3.6, rel=0.05)
    assert crowd.nuclei_density == pytest.approx(1 / 16**2, rel=0.3)
    assert crowd.density == pytest.approx(len(planted.molecules) / 96**2, rel=0.3)


def test_memory_errors_are_told_from_others():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not is_out_of_memory(MemoryLimitError("no"))


def _run(planted):
    return segment_tissue(planted.molecules, planted.nuclei, planted.types, QUICK, fabric=make_fabric("cpu"))


def test_training_goes_on_with_smaller_patches(planted, monkeypatch, caplog):
    patch, sides = Trainer._patch, []

    def limited(self, rng, *, weight):
        if self.patch_px > 40:
            raise torch.OutOfMemoryError("CUDA out of memory")
        sides.append(self.patch_px)
        return patch(self, rng, weight=weight)

    monkeypatch.setattr(Trainer, "_patch", limited)
    with caplog.at_level(logging.WARNING, logger="sjg"):
        found = _run(planted)
    assert sides == [40] * 4
    assert "patch of 80 px: going on with 40 px" in caplog.text
    assert np.isfinite(found.history[0]["loss"])


def test_a_failed_patch_leaves_no_gradient_behind(planted, monkeypatch):
    patch, seen = Trainer._patch, []

    def broken_once(self, rng, *, weight):
        seen.append([None if p.grad is None else p.grad.clone() for p in self.model.parameters()])
        outcome = patch(self, rng, weight=weight)
        if len(seen) == 1:
            raise MemoryError
        return outcome

    monkeypatch.setattr(Trainer, "_patch", broken_once)
    _run(planted)
    assert all(g is None or not g.any() for g in seen[1])


def test_a_tile_is_quartered(planted, monkeypatch, caplog):
    whole = _run(planted)
    judge_window, sides = _tiles.judge_window, []

    def limited(job, judge, window, rng):
        if max(window.height, window.width) > 32:
            raise MemoryError
        sides.append((window.height, window.width))
        return judge_window(job, judge, window, rng)

    monkeypatch.setattr(_tiles, "judge_window", limited)
    with caplog.at_level(logging.WARNING, logger="sjg"):
        found = _run(planted)
    assert "tile of 64 px: going on with 32 px" in caplog.text
    assert sides == [(32, 32)] * 18  # 96 x 96 px, twice
    assert (found.labels == whole.labels).mean() > 0.97
    assert (found.molecule_cell == whole.molecule_cell).mean() > 0.97


def test_memory_that_never_suffices_ends_in_a_clear_error(planted, monkeypatch):
    def never(self, rng, *, weight):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Trainer, "_patch", never)
    with pytest.raises(MemoryLimitError, match="with a patch of 40 px, the smallest there is"):
        _run(planted)


def test_precision_is_chosen_by_the_device(monkeypatch):
    assert _plan(8 * 2**30).precision == "float32"
    assert _plan(8 * 2**30, QUICK.replace(precision="bfloat16")).precision == "bfloat16"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: not including_emulation)
    assert choose_precision("auto", torch.device("cuda")) == "bfloat16"
    assert choose_precision("float32", torch.device("cuda")) == "float32"
    with pytest.raises(InputError, match="precision='half'; choose one of auto, float32, bfloat16"):
        QUICK.replace(precision="half")


@pytest.mark.parametrize("use_claims", [True, False])
def test_fewer_bits_give_nearly_the_same_cells(planted, use_claims):
    settings = QUICK.replace(use_claims=use_claims, steps_per_round=6)
    exact, coarse = (
        segment_tissue(
            planted.molecules,
            planted.nuclei,
            planted.types,
            settings.replace(precision=precision),
            fabric=make_fabric("cpu"),
            random_state=1,
        )
        for precision in ("float32", "bfloat16")
    )
    assert not np.array_equal(exact.pixel_confidence, coarse.pixel_confidence)
    assert (exact.labels == coarse.labels).mean() > 0.98
    assert (exact.molecule_cell == coarse.molecule_cell).mean() > 0.98
    assert exact.history[0]["loss"] == pytest.approx(coarse.history[0]["loss"], rel=0.02)


def test_convolutions_in_bfloat16_keep_their_values_and_gradients():
    net = load_claim_net().requires_grad_(True)
    crops = torch.randn(3, net.n_inputs, 40, 40, generator=torch.Generator().manual_seed(0))
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        net.compute_dtype = dtype
        net.zero_grad()
        out = net(crops)
        assert out.dtype == torch.float32
        out.square().mean().backward()
        found[dtype] = out.detach(), torch.cat([p.grad.flatten() for p in net.body.parameters()])
    for exact, coarse in zip(found[torch.float32], found[torch.bfloat16], strict=True):
        assert exact.dtype == coarse.dtype == torch.float32
        assert 0 < (coarse - exact).norm() < 0.02 * exact.norm()
