"""Which transcripts count for a type."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sjg.core import generator
from sjg.training import Parameters, make_fabric
from sjg.training._attribution import attribution_maps
from sjg.training._importance import gene_importance, nearest_posterior
from sjg.training._run import make_trainer
from sjg.training._tissue import Tissue
from sjg.training._windows import Window

QUICK = Parameters(channels=(4, 8), n_importance_patches=2, n_probes=2)


class Indifferent(torch.nn.Module):
    """Listens to every gene alike for every type, so that it tells no types apart."""

    def gene_embedding(self) -> torch.Tensor:
        return torch.ones(12, 1)

    def forward(self, raster: torch.Tensor, context: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = raster[:, :1].expand(-1, 4, -1, -1) * 1.0
        return logits, logits[:, :0]


@pytest.fixture(scope="module")
def trainer(planted):
    tissue = Tissue(planted.molecules, planted.nuclei, QUICK)
    trainer = make_trainer(tissue, planted.types, QUICK, make_fabric("cpu"), 0)
    trainer.model.module.network = Indifferent()
    return trainer


def test_posterior_is_that_of_the_nearest_nucleus_within_reach(planted, trainer):
    y, x = np.nonzero(planted.nuclei)
    found = nearest_posterior(trainer.tissue, trainer.state, Window(0, 0, 96, 96), np.stack([y, x], 1) + 0.5)
    torch.testing.assert_close(found.T, trainer.state.posterior[torch.as_tensor(planted.nuclei[y, x] - 1, dtype=torch.long)])
    lone = np.where(planted.nuclei == 1, 1, 0).astype(np.int32)
    types = planted.types.__class__(planted.types.names, planted.types.initial[:1], planted.types.confidence[:1], planted.types.profiles)
    alone = make_trainer(Tissue(planted.molecules, lone, QUICK), types, QUICK, make_fabric("cpu"), 0)
    corner = nearest_posterior(alone.tissue, alone.state, Window(0, 0, 96, 96), np.array([[95.5, 95.5]]))
    assert not corner.any()


def test_a_type_is_sought_where_its_cells_are(planted, trainer):
    """The network alone would give every type the same genes."""
    importance = gene_importance(trainer.model.module, trainer.tissue, trainer.state, QUICK, rng=generator(0))
    only = gene_importance(trainer.model.module, trainer.tissue, trainer.state, QUICK, rng=generator(0), types=[2])
    assert set(np.argsort(-only[:, 0])[:4] % 3) == {2}
    for k in range(3):
        assert set(np.argsort(-importance[:, k])[:4] % 3) == {k}


@pytest.mark.parametrize("method", ["closed_form", "gradient"])
def test_maps_do_not_depend_on_their_tiles(planted, method):
    tissue = Tissue(planted.molecules, planted.nuclei, QUICK)
    trainer = make_trainer(tissue, planted.types, QUICK, make_fabric("cpu"), 0)
    model = trainer.model.module
    model.requires_grad_(False)

    def maps(side):
        parameters = QUICK.replace(patch_size_px=side)
        return attribution_maps(method, model, tissue, trainer.state, parameters, genes=[0, 5], target=1, n_steps=1, rng=generator(3))

    # not their logarithms: those of gradients that cancel out are all rounding
    tiled, whole = np.exp(maps(32)), np.exp(maps(96))
    np.testing.assert_allclose(tiled, whole, atol=1e-3 * whole.max())
