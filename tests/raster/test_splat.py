"""Splat against the dense convolution on binned counts, and its symmetries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sjg.core import InputError
from sjg.raster import bin_counts, gaussian_blur, splat, splat_batch


def random_transcripts(seed: int, n: int, n_genes: int, shape: tuple[int, int], margin: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions up to `margin` pixels outside the raster, so that every case also tests what is ignored."""
    generator = torch.Generator().manual_seed(seed)
    extent = torch.tensor(shape) + 2 * margin
    coords = torch.rand(n, 2, generator=generator, dtype=torch.float64) * extent - margin
    return coords, torch.randint(n_genes, (n,), generator=generator)


def numpy_counts(coords: torch.Tensor, gene: torch.Tensor, n_genes: int, shape: tuple[int, int]) -> np.ndarray:
    """Histogram without a line of the code under test."""
    edges = [np.arange(n_genes + 1) - 0.5, np.arange(shape[0] + 1), np.arange(shape[1] + 1)]
    return np.histogramdd(np.column_stack([gene.numpy(), coords.numpy()]), bins=edges)[0]


@pytest.mark.parametrize(("shape", "sigma_px"), [((24, 31), 0.0), ((24, 31), 1.7), ((40, 40), 3.0), ((7, 5), 4.0), ((270, 40), 2.5)])
def test_splat_equals_dense_convolution_forward_and_backward(shape: tuple[int, int], sigma_px: float) -> None:
    n_genes, width = 11, 4
    coords, gene = random_transcripts(0, 400, n_genes, shape)
    embedding = torch.randn(n_genes, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    upstream = torch.randn(width, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    got = splat(coords, gene, embedding, shape, sigma_px=sigma_px)
    (got_grad,) = torch.autograd.grad((got * upstream).sum(), embedding)

    counts = numpy_counts(coords, gene, n_genes, shape)
    density = np.stack([gaussian_filter(c, sigma_px, mode="constant", truncate=4.0) if sigma_px else c for c in counts])
    expected = torch.nn.functional.conv2d(torch.tensor(density)[None], embedding.T[:, :, None, None])[0]
    (expected_grad,) = torch.autograd.grad((expected * upstream).sum(), embedding)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(got_grad, expected_grad, rtol=1e-10, atol=1e-10)


def test_bin_counts_equals_numpy_histogram() -> None:
    coords, gene = random_transcripts(3, 300, 5, (9, 13))
    np.testing.assert_array_equal(bin_counts(coords, gene, (9, 13), n_genes=5).numpy(), numpy_counts(coords, gene, 5, (9, 13)))


def test_pixel_is_floor_of_position_and_outside_is_ignored() -> None:
    coords = torch.tensor([[0.0, 0.0], [0.999, 1.0], [-1e-6, 0.5], [2.0, 0.5], [0.5, 3.0], [1e30, 0.0]])
    raster = splat(coords, torch.zeros(6, dtype=torch.long), torch.ones(1, 1), (2, 3), sigma_px=0)
    assert raster[0].tolist() == [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), sigma_px=st.floats(0.0, 2.5), n=st.integers(0, 60))
def test_mass_is_conserved_away_from_the_border(seed: int, sigma_px: float, n: int) -> None:
    coords, gene = random_transcripts(seed, n, 6, (30, 30), margin=-11.0)
    embedding = torch.rand(6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    raster = splat(coords, gene, embedding, (30, 30), sigma_px=sigma_px)
    torch.testing.assert_close(raster.sum((1, 2)), embedding[gene].sum(0), rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), shift=st.tuples(st.integers(-6, 6), st.integers(-6, 6)), sigma_px=st.sampled_from([0.0, 1.0, 2.0]))
def test_translation_moves_the_raster(seed: int, shift: tuple[int, int], sigma_px: float) -> None:
    coords, gene = random_transcripts(seed, 30, 4, (40, 40), margin=-15.0)
    embedding = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    still = splat(coords, gene, embedding, (40, 40), sigma_px=sigma_px)
    moved = splat(coords + torch.tensor(shift), gene, embedding, (40, 40), sigma_px=sigma_px)
    torch.testing.assert_close(moved, still.roll(shift, (1, 2)), rtol=1e-9, atol=1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 10_000), quarter_turns=st.integers(0, 3))
def test_rotation_rotates_the_raster(seed: int, quarter_turns: int) -> None:
    coords, gene = random_transcripts(seed, 40, 4, (20, 20), margin=-0.5)
    embedding = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    turned = coords
    for _ in range(quarter_turns):
        turned = torch.stack([20 - turned[:, 1], turned[:, 0]], 1)
    torch.testing.assert_close(
        splat(turned, gene, embedding, (20, 20), sigma_px=1.5),
        torch.rot90(splat(coords, gene, embedding, (20, 20), sigma_px=1.5), quarter_turns, (1, 2)),
    )


def test_batch_equals_patch_by_patch() -> None:
    coords, gene = random_transcripts(5, 200, 7, (16, 12))
    batch_index = torch.arange(200) % 3
    embedding = torch.randn(7, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    together = splat_batch(coords, gene, batch_index, embedding, batch_size=4, shape=(16, 12), sigma_px=1.3)
    assert together.shape == (4, 4, 16, 12)
    assert not together[3].any()
    for item in range(3):
        own = batch_index == item
        torch.testing.assert_close(together[item], splat(coords[own], gene[own], embedding, (16, 12), sigma_px=1.3))


def test_no_transcripts_gives_zeros() -> None:
    raster = splat(torch.empty(0, 2), torch.empty(0, dtype=torch.long), torch.ones(3, 2), (4, 5), sigma_px=1.0)
    assert raster.shape == (2, 4, 5)
    assert not raster.any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gene": torch.tensor([0, 3])}, "valid are 0..2"),
        ({"gene": torch.tensor([-1, 0])}, "valid are 0..2"),
        ({"gene": torch.tensor([0.0, 1.0])}, "integers"),
        ({"gene": torch.tensor([0])}, r"\(N, 2\)"),
        ({"coords_px": torch.tensor([[0.0, float("nan")], [0.0, 0.0]])}, "not finite"),
        ({"shape": (0, 4)}, "height, width"),
        ({"embedding": torch.ones(3, 2, dtype=torch.long)}, "floating point"),
        ({"sigma_px": -1.0}, "sigma_px"),
        ({"sigma_px": float("inf")}, "sigma_px"),
    ],
)
def test_bad_input_is_named(change: dict[str, object], message: str) -> None:
    good = {"coords_px": torch.zeros(2, 2), "gene": torch.tensor([0, 1]), "embedding": torch.ones(3, 2), "shape": (4, 4), "sigma_px": 1.0}
    with pytest.raises(InputError, match=message):
        splat(**{**good, **change})  # type: ignore[arg-type]


def test_batch_index_out_of_range_is_named() -> None:
    with pytest.raises(InputError, match="batch_index"):
        splat_batch(torch.zeros(1, 2), torch.tensor([0]), torch.tensor([2]), torch.ones(1, 1), batch_size=2, shape=(2, 2), sigma_px=0)


def test_blur_is_identity_at_zero() -> None:
    x = torch.rand(2, 3, 5, 4)
    assert gaussian_blur(x, 0.0) is x
