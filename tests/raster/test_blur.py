"""Gaussian blur against SciPy and as a symmetric operator."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from sjg.core import InputError
from sjg.raster import gaussian_blur
from sjg.raster._blur import blur_radius_px


@settings(deadline=None, max_examples=25)
@given(height=st.integers(1, 40), width=st.integers(1, 40), sigma_px=st.floats(0.1, 5.0), seed=st.integers(0, 1000))
def test_equals_scipy(height: int, width: int, sigma_px: float, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(height, width))
    expected = gaussian_filter(x, sigma_px, mode="constant", truncate=4.0)
    np.testing.assert_allclose(gaussian_blur(torch.tensor(x), sigma_px).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 2, 12, 17), (2, 1, 300, 9)])  # the banded matrix and the convolution
def test_is_its_own_adjoint(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    torch.testing.assert_close((gaussian_blur(x, 2.0) * y).sum(), (x * gaussian_blur(y, 2.0)).sum(), rtol=1e-12, atol=1e-12)
    x.requires_grad_()
    (grad,) = torch.autograd.grad((gaussian_blur(x, 2.0) * y).sum(), x)
    torch.testing.assert_close(grad, gaussian_blur(y, 2.0), rtol=1e-12, atol=1e-12)


def test_both_kernels_agree_across_the_size_limit() -> None:
    x = torch.zeros(1, 1, 400, 40, dtype=torch.float64)
    x[..., 100:200, :] = torch.rand(100, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    # The window keeps a margin of the blur's radius, so cutting it out of the large raster must change nothing.
    large, small = gaussian_blur(x, 3.0)[..., 80:220, :], gaussian_blur(x[..., 80:220, :], 3.0)
    torch.testing.assert_close(large, small, rtol=1e-12, atol=1e-12)


def test_second_derivative_exists() -> None:
    x = torch.rand(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda t: gaussian_blur(t, 1.0) ** 2, (x,))


def test_radius_is_the_halo_that_a_patch_needs() -> None:
    x = torch.rand(1, 1, 60, 60, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    halo = blur_radius_px(1.9)
    window = gaussian_blur(x[..., 20 - halo : 40 + halo, 20 - halo : 40 + halo], 1.9)[..., halo:-halo, halo:-halo]
    torch.testing.assert_close(window, gaussian_blur(x, 1.9)[..., 20:40, 20:40], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("x", "sigma_px", "truncate"),
    [
        (torch.ones(3), 1.0, 4.0),
        (torch.ones(2, 2, dtype=torch.int64), 1.0, 4.0),
        (torch.ones(2, 2), -0.1, 4.0),
        (torch.ones(2, 2), 1.0, 0.0),
    ],
)
def test_bad_input_is_refused(x: torch.Tensor, sigma_px: float, truncate: float) -> None:
    with pytest.raises(InputError):
        gaussian_blur(x, sigma_px, truncate=truncate)
