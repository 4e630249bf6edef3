"""Lazy TIFF planes: the pixels of the file, in chunks of whole strips or tiles."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from sjg.access._tiff import lazy_tiff
from sjg.core import InputError

IMAGE = np.random.default_rng(0).integers(0, 60_000, (130, 200)).astype(np.uint16)


@pytest.mark.parametrize(
    "layout", [{"rowsperstrip": 7}, {"tile": (32, 48)}, {"rowsperstrip": 130}, {"rowsperstrip": 7, "compression": "deflate"}]
)
def test_pixels(tmp_path, layout):
    tifffile.imwrite(tmp_path / "a.tif", IMAGE, **layout)
    array = lazy_tiff(tmp_path / "a.tif")
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array.compute(), IMAGE)
    np.testing.assert_array_equal(array[40:60, 100:130].compute(), IMAGE[40:60, 100:130])


def test_chunks_are_whole_strips_and_bounded(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5000, 3000), np.uint8), rowsperstrip=17)
    array = lazy_tiff(tmp_path / "a.tif")
    assert array.chunksize[0] % 17 == 0
    assert array.npartitions > 1
    assert np.prod(array.chunksize) <= 2048 * 2048


def test_small_tiles_are_joined(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3000, 3000), np.uint8), tile=(64, 64))
    assert lazy_tiff(tmp_path / "a.tif").npartitions == 4


def test_axes(tmp_path):
    tifffile.imwrite(tmp_path / "one.tif", IMAGE[None])
    assert lazy_tiff(tmp_path / "one.tif").shape == IMAGE.shape
    tifffile.imwrite(tmp_path / "three.ome.tif", np.stack([IMAGE] * 3), metadata={"axes": "CYX"})
    assert lazy_tiff(tmp_path / "three.ome.tif", ndim=3).shape == (3, *IMAGE.shape)
    with pytest.raises(InputError, match="expected 2 axes"):
        lazy_tiff(tmp_path / "three.ome.tif")


def test_no_tiff(tmp_path):
    (tmp_path / "a.tif").write_text("hello")
    with pytest.raises(InputError, match="cannot be read as TIFF"):
        lazy_tiff(tmp_path / "a.tif")
    with pytest.raises(InputError, match="cannot be read as TIFF"):
        lazy_tiff(tmp_path / "none.tif")
