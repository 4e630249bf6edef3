"""Attribution through the splat layer against the dense network with one channel a gene."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from sjg.attribution import GeneImportance, SplatChannels, closed_form, molecule_attribution, optimize, splat_closed_form, type_attribution
from sjg.core import InputError
from sjg.raster import bin_counts, gaussian_blur, splat_batch

Seeded = Callable[[int], torch.Generator]
SIDE, N_GENES, WIDTH, SIGMA_PX = 8, 9, 3, 1.1


class Scene:
    """Two patches of transcripts; `small_network` takes the three embedding channels."""

    def __init__(self, head: nn.Module) -> None:
        generator = torch.Generator().manual_seed(7)
        self.head = head
        self.embedding = torch.randn(N_GENES, WIDTH, generator=generator, requires_grad=True)
        self.coords_px = torch.rand(120, 2, generator=generator) * (SIDE + 2) - 1
        self.gene = torch.randint(N_GENES - 1, (120,), generator=generator)  # the last gene has no transcript
        self.batch_index = torch.randint(2, (120,), generator=generator)
        self.maps = splat_batch(
            self.coords_px, self.gene, self.batch_index, self.embedding, batch_size=2, shape=(SIDE, SIDE), sigma_px=SIGMA_PX
        )

    def counts(self) -> torch.Tensor:
        shape = (SIDE, SIDE)
        own = [self.batch_index == item for item in range(2)]
        return torch.stack([bin_counts(self.coords_px[o], self.gene[o], shape, n_genes=N_GENES) for o in own])

    def dense(self) -> nn.Module:
        """The same network as a function of counts, built without the code under test."""
        first = nn.Conv2d(N_GENES, WIDTH, 1, bias=False)
        with torch.no_grad():
            first.weight.copy_(self.embedding.T[:, :, None, None])

        class Blur(nn.Module):
            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return gaussian_blur(x, SIGMA_PX)

        return nn.Sequential(Blur(), first, self.head)


@pytest.fixture
def scene(small_network: nn.Module) -> Scene:
    return Scene(small_network.eval())


@pytest.fixture
def exact(scene: Scene) -> torch.Tensor:
    """(B, G, H, W) log||J|| of class 1 with one probe per output pixel, hence without sampling error."""
    return closed_form(scene.dense(), scene.counts(), 1, n_probes=SIDE**2, probes="interleaved")


def test_mean_over_all_pixels_equals_the_dense_network(scene: Scene, exact: torch.Tensor) -> None:
    score = splat_closed_form(scene.head, scene.maps, scene.embedding, 1, sigma_px=SIGMA_PX, n_probes=SIDE**2)
    torch.testing.assert_close(score, exact.mean((0, 2, 3)), rtol=1e-4, atol=1e-4)


def test_weights_select_pixels(scene: Scene, exact: torch.Tensor, seeded: Seeded) -> None:
    weight = torch.rand(2, SIDE, SIDE, generator=seeded(0)) * (torch.rand(2, SIDE, SIDE, generator=seeded(1)) > 0.5)
    score = splat_closed_form(scene.head, scene.maps, scene.embedding, 1, sigma_px=SIGMA_PX, n_probes=SIDE**2, weight=weight)
    expected = (exact * weight[:, None]).sum((0, 2, 3)) / weight.sum()
    torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-4)


def test_drawn_pixels_estimate_the_mean(scene: Scene, exact: torch.Tensor, seeded: Seeded) -> None:
    draws = [
        splat_closed_form(
            scene.head, scene.maps, scene.embedding, 1, sigma_px=SIGMA_PX, n_probes=SIDE**2, n_pixels=32, generator=seeded(seed)
        )
        for seed in range(10)
    ]
    assert float((torch.stack(draws).mean(0) - exact.mean((0, 2, 3))).abs().max()) < 0.05


def test_several_targets_and_blocks_of_genes(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = {"sigma_px": SIGMA_PX, "n_probes": SIDE**2}
    whole = splat_closed_form(scene.head, scene.maps, scene.embedding, [2, 1], **arguments)  # type: ignore[arg-type]
    monkeypatch.setattr("sjg.attribution._gene._GENE_BLOCK", 2)
    blocks = splat_closed_form(scene.head, scene.maps, scene.embedding, [2, 1], **arguments)  # type: ignore[arg-type]
    assert whole.shape == (2, N_GENES)
    torch.testing.assert_close(blocks, whole)
    alone = splat_closed_form(scene.head, scene.maps, scene.embedding, 1, **arguments)  # type: ignore[arg-type]
    torch.testing.assert_close(whole[1], alone)


def test_channels_of_chosen_genes_equal_the_dense_network(scene: Scene, exact: torch.Tensor) -> None:
    genes = [4, 0]
    model = SplatChannels(scene.head, scene.maps, scene.embedding[genes], sigma_px=SIGMA_PX)
    zeros = torch.zeros(2, 2, SIDE, SIDE)
    torch.testing.assert_close(model(zeros), scene.dense()(scene.counts()), rtol=1e-4, atol=1e-5)
    score = closed_form(model, zeros, 1, n_probes=SIDE**2, probes="interleaved")
    torch.testing.assert_close(score, exact[:, genes], rtol=1e-4, atol=1e-4)
    assert optimize(model, zeros, 1, n_steps=2).shape == score.shape


def test_type_attribution_is_the_root_mean_square_over_genes(scene: Scene, exact: torch.Tensor) -> None:
    got = type_attribution(scene.head, scene.maps, scene.embedding, [1, 3], sigma_px=SIGMA_PX, n_probes=SIDE**2)
    torch.testing.assert_close(got[:, 0], 0.5 * (2 * exact).exp().mean(1).log(), rtol=1e-4, atol=1e-4)


def test_molecule_attribution_is_the_dense_value_at_its_pixel(scene: Scene, exact: torch.Tensor) -> None:
    effect = molecule_attribution(
        scene.head,
        scene.maps,
        scene.embedding,
        1,
        coords_px=scene.coords_px,
        gene=scene.gene,
        batch_index=scene.batch_index,
        sigma_px=SIGMA_PX,
        n_probes=SIDE**2,
    )
    y, x = scene.coords_px.floor().long().T
    inside = (y >= 0) & (y < SIDE) & (x >= 0) & (x < SIDE)
    expected = (2 * exact[scene.batch_index, scene.gene, y.clamp(0, SIDE - 1), x.clamp(0, SIDE - 1)]).exp()
    torch.testing.assert_close(effect, torch.where(inside, expected, 0.0), rtol=1e-3, atol=1e-7)


def test_molecule_attribution_predicts_the_removal_of_a_molecule(scene: Scene) -> None:
    """Against the network itself: take a small fraction of one molecule away."""
    arguments = {"coords_px": scene.coords_px, "gene": scene.gene, "batch_index": scene.batch_index, "sigma_px": SIGMA_PX}
    effect = molecule_attribution(scene.head, scene.maps, scene.embedding, 2, n_probes=SIDE**2, **arguments)  # type: ignore[arg-type]
    with torch.no_grad():
        clean = scene.head(scene.maps)[:, 2]
        for index in torch.nonzero(effect).flatten()[:5].tolist():
            one = {k: v[index : index + 1] for k, v in arguments.items() if isinstance(v, torch.Tensor)}
            own = splat_batch(embedding=scene.embedding, batch_size=2, shape=(SIDE, SIDE), sigma_px=SIGMA_PX, **one)
            change = (scene.head(scene.maps - 1e-2 * own)[:, 2] - clean).square().sum() / 1e-4
            assert float(change) == pytest.approx(float(effect[index]), rel=0.05)


def test_gene_importance_adds_up_over_patches(scene: Scene, seeded: Seeded) -> None:
    effect, weight = torch.rand(2, 50, generator=seeded(0)), torch.rand(2, 50, generator=seeded(1))
    gene = torch.randint(5, (50,), generator=seeded(2))
    whole, parts = GeneImportance(6, 2), GeneImportance(6, 2)
    whole.add(effect, gene=gene, weight=weight)
    for part in (slice(0, 20), slice(20, 50)):
        parts.add(effect[:, part], gene=gene[part], weight=weight[:, part])
    expected = torch.stack(
        [0.5 * ((effect * weight * (gene == g)).sum(1) / weight.sum(1)).log() for g in range(5)]  # gene 5 never occurs
    )
    torch.testing.assert_close(whole.result(specificity=0)[:5], expected)
    torch.testing.assert_close(parts.result(), whole.result())
    assert bool(torch.isfinite(whole.result()).all())
    assert float(whole.result()[5].max()) < float(whole.result()[:5].min()) - 10


def test_importance_prefers_the_gene_that_lives_in_the_type() -> None:
    """Equal effects in the type; the second gene occurs as often outside of it."""
    importance = GeneImportance(2, 1)
    gene = torch.tensor([0] * 50 + [1] * 100)
    weight = (torch.arange(150) < 100).float()[None]
    importance.add(torch.ones(1, 150), gene=gene, weight=weight)
    alone, specific = importance.result(specificity=0)[:, 0], importance.result(specificity=1)[:, 0]
    torch.testing.assert_close(alone[0], alone[1])
    torch.testing.assert_close(specific[0] - specific[1], torch.tensor((50 + 2 / 3) / 51 / ((50 + 2 / 3) / 101)).log())
    with pytest.raises(InputError, match="specificity"):
        importance.result(specificity=-1.0)


def test_patches_without_a_types_effect_count_for_its_share() -> None:
    """The second patch was not analysed for type 1, but its transcripts say where the type lies."""
    effect, weight = torch.rand(2, 60), torch.rand(2, 60)
    gene = torch.arange(60) % 4
    partly = torch.cat([effect[:, :40], torch.stack([effect[0, 40:], torch.full((20,), torch.nan)])], 1)
    importance, whole, first = GeneImportance(4, 2), GeneImportance(4, 2), GeneImportance(4, 2)
    importance.add(partly, gene=gene, weight=weight)
    whole.add(effect, gene=gene, weight=weight)
    first.add(effect[:, :40], gene=gene[:40], weight=weight[:, :40])
    torch.testing.assert_close(importance.result()[:, 0], whole.result()[:, 0])
    torch.testing.assert_close(importance.result(specificity=0)[:, 1], first.result(specificity=0)[:, 1])
    share = [i.result(specificity=1) - i.result(specificity=0) for i in (importance, whole)]
    torch.testing.assert_close(*share)


def test_importance_without_any_molecule_is_finite() -> None:
    assert bool(torch.isfinite(GeneImportance(3, 2).result()).all())


def test_the_head_is_left_as_it_was(scene: Scene) -> None:
    scene.head.train()
    scene.head[0].weight.requires_grad_(False)
    splat_closed_form(scene.head, scene.maps, scene.embedding, 1, sigma_px=SIGMA_PX, n_probes=2)
    with pytest.raises(InputError):
        splat_closed_form(scene.head, scene.maps, scene.embedding, 9, sigma_px=SIGMA_PX)
    assert scene.head.training
    assert [p.requires_grad for p in scene.head.parameters()] == [False] + [True] * (len(list(scene.head.parameters())) - 1)
    assert all(p.grad is None for p in scene.head.parameters())
    assert scene.embedding.grad is None


def test_generator_determines_the_result(scene: Scene, seeded: Seeded) -> None:
    arguments = {"sigma_px": SIGMA_PX, "n_probes": 2, "n_pixels": 16}
    first, again, other = (
        splat_closed_form(scene.head, scene.maps, scene.embedding, 1, generator=seeded(s), **arguments)  # type: ignore[arg-type]
        for s in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embedding": torch.ones(4, 5)}, "do not fit"),
        ({"target": 4}, "valid are 0..3"),
        ({"target": []}, "empty"),
        ({"weight": torch.ones(2, 4, 4)}, "weight has shape"),
        ({"weight": torch.zeros(2, SIDE, SIDE)}, "positive sum"),
        ({"weight": -torch.ones(2, SIDE, SIDE)}, "non-negative"),
        ({"n_pixels": 0}, "n_pixels"),
        ({"sigma_px": -1.0}, "sigma_px"),
    ],
)
def test_bad_arguments_are_named(scene: Scene, change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"embedding": scene.embedding, "target": 0, "sigma_px": SIGMA_PX, **change}
    embedding, target = arguments.pop("embedding"), arguments.pop("target")
    with pytest.raises(InputError, match=message):
        splat_closed_form(scene.head, scene.maps, embedding, target, **arguments)  # type: ignore[arg-type]


def test_bad_molecules_are_named(scene: Scene) -> None:
    arguments = {"coords_px": scene.coords_px, "gene": scene.gene, "batch_index": scene.batch_index, "sigma_px": SIGMA_PX}
    for change, message in (
        ({"gene": scene.gene + N_GENES}, "gene reaches"),
        ({"batch_index": scene.batch_index + 1}, "batch_index reaches"),
        ({"gene": scene.gene[:3]}, r"\(N, 2\)"),
    ):
        with pytest.raises(InputError, match=message):
            molecule_attribution(scene.head, scene.maps, scene.embedding, 0, **{**arguments, **change})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="give"):
        GeneImportance(3, 2).add(torch.ones(1, 4), gene=torch.zeros(4, dtype=torch.long), weight=torch.ones(2, 4))
    with pytest.raises(InputError, match="gene reaches"):
        GeneImportance(3, 1).add(torch.ones(1, 2), gene=torch.tensor([0, 3]), weight=torch.ones(1, 2))


def test_rare_types_follow_the_expected_composition_and_abundant_ones_their_counts(seeded: Seeded) -> None:
    """Type 0 has 20,000 transcripts, type 1 has three; the composition says the opposite of what was counted."""
    gene = torch.cat([torch.tensor([0] * 19_000 + [1] * 1_000), torch.tensor([0, 0, 1])])
    rare = torch.arange(len(gene)) >= 20_000
    where = torch.stack([~rare, rare]).float()
    importance = GeneImportance(2, 2)
    importance.add(torch.ones(2, len(gene)), gene=gene, weight=where * 0.01, presence=where)
    opposite = torch.tensor([[0.1, 0.9], [0.1, 0.9]])
    counted = importance.result(specificity=0)
    shrunk = importance.result(specificity=0, composition=opposite)
    # equal effects: what is left is half of the logarithm of the composition
    assert float(counted[0, 1] - counted[1, 1]) == pytest.approx(0.5 * math.log(2), abs=1e-4)
    assert float(shrunk[0, 1] - shrunk[1, 1]) == pytest.approx(0.5 * math.log((2 + 100) / (1 + 900)), abs=1e-4)
    assert float(shrunk[0, 0] - shrunk[1, 0]) == pytest.approx(0.5 * math.log((19_000 + 100) / (1_000 + 900)), abs=1e-4)
    certain = importance.result(specificity=0, composition=opposite, strength=0)
    torch.testing.assert_close(certain, counted, atol=1e-4, rtol=0)
    # The network was seen to listen to gene 0 more, by a hundredth of three transcripts: next to nothing.
    louder = GeneImportance(2, 2)
    louder.add(torch.ones(2, len(gene)) + 3 * (gene == 0), gene=gene, weight=where * 0.01, presence=where)
    change = louder.result(specificity=0, composition=opposite) - shrunk
    assert float(change[0, 1] - change[1, 1]) < 0.02 < 0.5 < float(change[0, 0] - change[1, 0])


@pytest.mark.parametrize("composition", [torch.ones(3, 3), torch.full((2, 3), -1.0), torch.full((2, 3), torch.nan)])
def test_bad_compositions_are_named(composition: torch.Tensor) -> None:
    with pytest.raises(InputError, match="composition"):
        GeneImportance(3, 2).result(composition=composition)


def test_a_gene_that_the_tissue_does_not_show_decides_nothing() -> None:
    """Whatever the composition says of it."""
    importance = GeneImportance(3, 2)
    importance.add(torch.ones(2, 40), gene=torch.arange(40) % 2, weight=torch.full((2, 40), 0.5))
    found = importance.result(composition=torch.tensor([[0.1, 0.1, 0.8], [0.3, 0.3, 0.4]]))
    assert (found[2] < found[:2].min(0).values - 10).all()
