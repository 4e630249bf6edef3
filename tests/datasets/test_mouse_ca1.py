"""Reader of the mouse CA1 section: the real files, and where it looks for them."""

from __future__ import annotations

import gzip
import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import tifffile

import sjg
from sjg.core import InputError
from sjg.datasets import _mouse_ca1

FILES = ("dapi.tif", "nuclei_labels.tif", "reference_class_means.csv", "transcripts.csv.gz")


@pytest.fixture(scope="module")
def section(data_dir):
    folder = data_dir / "mouse_ca1_iss"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return sjg.datasets.mouse_ca1(folder)


def test_real_section(section):
    assert section["dapi"].shape == (1, 5471, 7602)
    assert section["dapi"].dtype == np.uint8
    assert section["nuclei"].shape == (5471, 7602)
    assert section["dapi"].data.npartitions > 1
    assert section["reference"].shape == (71, 92)
    assert (section["reference"].X >= 0).all()
    molecules = section["transcripts"].compute()
    assert len(molecules) == 72_336
    assert molecules["gene"].nunique() == 92
    assert set(molecules["gene"]) == set(section["reference"].var_names)
    outside = (molecules["x"] < 0) | (molecules["x"] >= 7602) | (molecules["y"] < 0) | (molecules["y"] >= 5471)
    assert outside.sum() == 6
    nuclei = np.asarray(section["nuclei"])
    assert nuclei.max() == 3481
    kept = molecules[~outside]
    # 61 % of the transcripts lie in nuclei, and nuclei are bright: x, y and the rasters share one frame
    assert (nuclei[kept["y"].astype(int), kept["x"].astype(int)] > 0).mean() == pytest.approx(0.61, abs=0.02)
    corner = np.asarray(section["dapi"][0, 2500:3500, 3000:4000]).astype(float)
    inside = nuclei[2500:3500, 3000:4000] > 0
    assert corner[inside].mean() > 1.5 * corner[~inside].mean()


def test_real_files_are_those_of_the_registry(data_dir):
    folder = data_dir / "mouse_ca1_iss"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    for name in FILES:
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == _mouse_ca1._REGISTRY[name]


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A tiny section in the layout of the real one, with its own registry, and nothing configured."""
    folder = tmp_path / "served"
    folder.mkdir()
    labels = np.zeros((50, 60), np.uint16)
    labels[10:20, 10:20] = 1
    tifffile.imwrite(folder / "dapi.tif", (labels * 200).astype(np.uint8), compression="deflate", rowsperstrip=7)
    tifffile.imwrite(folder / "nuclei_labels.tif", labels, compression="deflate", rowsperstrip=7)
    (folder / "reference_class_means.csv").write_text("gene_name,A,B\ng1,1,2\ng2,0,3\n")
    with gzip.open(folder / "transcripts.csv.gz", "wt") as out:
        out.write("x,y,gene\n12,13,g1\n-1,3,g2\n")
    registry = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}
    monkeypatch.setattr(_mouse_ca1, "_REGISTRY", registry)
    monkeypatch.delenv("SJG_DATA_DIR", raising=False)
    monkeypatch.delenv("SJG_MOUSE_CA1_URL", raising=False)
    monkeypatch.setenv("SJG_CACHE_DIR", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def server(small):
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=small))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()


def test_small_section_by_path(small):
    sdata = sjg.datasets.mouse_ca1(small)
    assert list(sdata["reference"].obs_names) == ["A", "B"]
    np.testing.assert_array_equal(sdata["reference"].X, [[1, 0], [2, 3]])
    assert sdata["transcripts"].compute()["x"].tolist() == [12, -1]
    np.testing.assert_array_equal(sdata["nuclei"], tifffile.imread(small / "nuclei_labels.tif"))


def test_data_folder_comes_from_the_environment(small, monkeypatch):
    small.rename(small.with_name("mouse_ca1_iss"))
    monkeypatch.setenv("SJG_DATA_DIR", str(small.parent))
    assert sjg.datasets.mouse_ca1()["dapi"].shape == (1, 50, 60)


def test_without_files_or_url_it_says_what_to_do(small):
    with pytest.raises(InputError, match=r"SJG_DATA_DIR.*url="):
        sjg.datasets.mouse_ca1()


def test_incomplete_folder_names_the_missing_file(small):
    (small / "dapi.tif").unlink()
    with pytest.raises(InputError, match="lacks dapi.tif"):
        sjg.datasets.mouse_ca1(small)


def test_download_once_then_from_the_cache(small, server, monkeypatch):
    assert sjg.datasets.mouse_ca1(url=server)["dapi"].shape == (1, 50, 60)
    for name in FILES:
        (small / name).unlink()
    assert sjg.datasets.mouse_ca1()["dapi"].shape == (1, 50, 60)


def test_damaged_files_are_refused(small, server, tmp_path):
    cached = tmp_path / "cache" / "mouse_ca1_iss" / "dapi.tif"
    sjg.datasets.mouse_ca1(url=server)
    cached.write_bytes(b"damaged")
    with pytest.raises(InputError, match="damaged"):
        sjg.datasets.mouse_ca1()
    (small / "dapi.tif").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"dapi.tif could not be fetched"):
        sjg.datasets.mouse_ca1(url=server)


def test_image_and_nuclei_of_two_shapes_are_refused(small):
    tifffile.imwrite(small / "dapi.tif", np.zeros((9, 9), np.uint8))
    with pytest.raises(InputError, match="differ in shape"):
        sjg.datasets.mouse_ca1(small)
