"""The attribution gate against a network whose attribution is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sjg.core import InputError, generator
from sjg.training import Parameters, make_fabric, segment_tissue
from sjg.training._gate import AttributionGate, _allowed
from sjg.training._run import make_trainer
from sjg.training._tissue import Tissue
from sjg.training._trainer import UNKNOWN

QUICK = Parameters(
    n_rounds=3,
    steps_per_round=10,
    settled_cells=0.0,
    patch_size_px=64,
    channels=(4, 8),
    n_folds=2,
    n_importance_patches=1,
    points_per_patch=500,
)


class HalvedNetwork(torch.nn.Module):
    """Type 0 listens to transcripts in the left half of its raster, type 1 in the right half, type 2 everywhere but faintly."""

    def gene_embedding(self) -> torch.Tensor:
        return torch.ones(12, 1)

    def forward(self, raster: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        density = raster[:, 0]
        left = (torch.arange(density.shape[-1]) < density.shape[-1] // 2).float()
        logits = torch.stack([0 * density, 3 * left * density, 5 * (1 - left) * density, 0.1 * density], 1)
        return logits, logits[:, :0]


def _trainer(planted, parameters):
    tissue = Tissue(planted.molecules, planted.nuclei, parameters)
    return make_trainer(tissue, planted.types, parameters, make_fabric("cpu"), 0)


@pytest.fixture
def halved(planted):
    trainer = _trainer(planted, QUICK)
    trainer.model.module.network = HalvedNetwork()
    return trainer


def _judge(trainer, kind, *, epoch=1, steps=10):
    gate = AttributionGate(QUICK.replace(attribution_gate=kind, steps_per_round=steps))
    gate.refresh(trainer.model.module, trainer.tissue, trainer.state, epoch=epoch, rng=generator(0))
    return gate


def test_the_dominant_type_passes_where_the_network_listens_to_it(halved):
    gate = _judge(halved, "dominant")
    y, x = np.mgrid[:96, :96].reshape(2, -1)
    pixel = np.stack([y, x], 1)
    clear = np.abs(x - 48) > 4  # the blur mixes the halves at their border
    np.testing.assert_array_equal(gate.passes(pixel, np.zeros(len(x), int))[clear], (x < 48)[clear])
    np.testing.assert_array_equal(gate.passes(pixel, np.ones(len(x), int))[clear], (x >= 48)[clear])
    assert not gate.passes(pixel, np.full(len(x), 2)).any()


def test_evidence_follows_the_type_that_the_transcripts_speak_for(halved):
    gate = _judge(halved, "evidence")
    y, x = np.mgrid[:96, :96].reshape(2, -1)
    pixel, clear = np.stack([y, x], 1), np.abs(x - 48) > 4
    np.testing.assert_array_equal(gate.passes(pixel, np.zeros(len(x), int))[clear], (x < 48)[clear])
    np.testing.assert_array_equal(gate.passes(pixel, np.ones(len(x), int))[clear], (x >= 48)[clear])


def test_a_loud_type_wins_by_size_and_not_by_contrast():
    rng = np.random.default_rng(0)
    score = rng.normal(size=(2, 20, 20))
    loud = score + np.array([9.0, 0.0])[:, None, None]
    assert _allowed(loud, "dominant")[0].all()
    np.testing.assert_array_equal(_allowed(loud, "contrast"), _allowed(score, "contrast"))
    assert 0.3 < _allowed(loud, "contrast")[0].mean() < 0.7
    np.testing.assert_allclose(_allowed(loud, "top_fraction").mean((1, 2)), 0.1)


def test_patches_not_judged_and_types_not_there_pass(halved):
    before = _judge(halved, "dominant", epoch=0)
    everywhere = np.argwhere(np.ones((96, 96)))
    assert before.passes(everywhere, np.ones(len(everywhere), int)).all()
    halved.state.posterior[:, 2] = 0
    gate = _judge(halved, "dominant")
    assert gate.passes(everywhere, np.full(len(everywhere), 2)).all()


def test_the_cost_of_a_round_is_bounded(planted):
    wide = planted.nuclei.repeat(5, 0)
    molecules = planted.molecules.__class__(
        planted.molecules.yx_px * np.array([5, 1], np.float32), planted.molecules.gene, planted.molecules.gene_names
    )
    tissue = Tissue(molecules, wide, QUICK)
    trainer = make_trainer(tissue, planted.types, QUICK, make_fabric("cpu"), 0)
    trainer.model.module.network = HalvedNetwork()
    few, all_patches = _judge(trainer, "dominant", steps=12), _judge(trainer, "dominant", steps=1000)
    assert (len(few._verdicts), len(all_patches._verdicts)) == (2, 4)  # 6 passes for 3 types a patch; 480 px hold 4 patches


def test_a_vetoed_pixel_is_unknown(planted, monkeypatch):
    parameters = QUICK.replace(attribution_gate="dominant", attribution_epoch=0)
    trainer = _trainer(planted, parameters)
    monkeypatch.setattr(AttributionGate, "passes", lambda self, pixel, types: types == 1)
    for _ in range(25):
        trainer.train_step()
    labels = trainer.dynamic.read(np.flatnonzero(planted.nuclei == 0))
    code = trainer.state.posterior.argmax(1).numpy()
    assert (labels > 0).any()
    assert (code[labels[labels > 0] - 1] == 1).all()
    assert (labels == UNKNOWN).any()


def test_a_gated_run_resumes_bit_for_bit(planted, tmp_path):
    parameters = QUICK.replace(attribution_gate="dominant")
    whole = segment_tissue(planted.molecules, planted.nuclei, planted.types, parameters, fabric=make_fabric("cpu"))

    class Stop(Exception):
        pass

    def interrupt(record):
        if record["phase"] == "training" and record["done"] == 25:
            raise Stop

    def run(**arguments):
        return segment_tissue(
            planted.molecules,
            planted.nuclei,
            planted.types,
            parameters,
            fabric=make_fabric("cpu"),
            checkpoint_dir=tmp_path,
            checkpoint_interval=7,
            **arguments,
        )

    with pytest.raises(Stop):
        run(on_progress=interrupt)
    resumed = run(resume=True)
    assert resumed.history == whole.history
    np.testing.assert_array_equal(resumed.labels, whole.labels)


def test_an_unknown_gate_is_named():
    with pytest.raises(InputError, match="choose one of none, dominant, contrast, top_fraction, evidence"):
        Parameters(attribution_gate="majority")


def test_a_gate_that_would_never_work_is_an_error():
    with pytest.raises(InputError, match="never be at work"):
        Parameters(attribution_gate="dominant", n_rounds=1, attribution_epoch=1)
