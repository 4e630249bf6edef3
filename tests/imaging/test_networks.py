"""The adapters, against stand-ins with the interfaces of the packages."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from sjg.core import DependencyError, InputError
from sjg.imaging._networks import load_network

IMAGE = np.arange(24.0).reshape(4, 6)


def _module(monkeypatch, name, **members):
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


class _Cellpose3:
    def __init__(self, *, gpu, pretrained_model):
        self.path, self.calls = pretrained_model, []
        type(self).last = self

    def eval(self, x, channels=None, diameter=None):
        self.calls.append((x.shape, channels, diameter))
        return (x.reshape(*x.shape[:2], -1)[..., -1] > 3).astype(np.uint16), None, None


class _Cellpose4(_Cellpose3):
    """Still accepts names of channels, but warns of them (4.2)."""

    def __init__(self, gpu=False, pretrained_model="cpsam_v2", use_bfloat16=True):
        super().__init__(gpu=gpu, pretrained_model=pretrained_model)


@pytest.mark.parametrize(("version", "channels"), [(_Cellpose3, [1, 2]), (_Cellpose4, None)])
def test_cellpose_gets_the_cytoplasm_first(monkeypatch, tmp_path, version, channels):
    _module(monkeypatch, "cellpose")
    _module(monkeypatch, "cellpose.models", CellposeModel=version)
    weights = tmp_path / "cyto"
    weights.touch()
    segment = load_network("cellpose", weights, diameter_px=17.0)
    labels = segment(np.stack([IMAGE, IMAGE * 0, IMAGE * 0 + 1]))
    assert version.last.path == str(weights)
    assert version.last.calls == [((4, 6, 2), channels, 17.0)]
    np.testing.assert_array_equal(labels, IMAGE > 3)


def test_stardist_reads_the_folder_of_the_model(monkeypatch, tmp_path):
    seen = {}

    class StarDist2D:
        def __init__(self, config, *, name, basedir):
            seen["model"] = (config, name, basedir)

        def predict_instances(self, image):
            return (image > 0.5).astype(int), {}

    _module(monkeypatch, "stardist")
    _module(monkeypatch, "stardist.models", StarDist2D=StarDist2D)
    _module(monkeypatch, "csbdeep")
    _module(monkeypatch, "csbdeep.utils", normalize=lambda image, low, high: image / image.max())
    (tmp_path / "mine").mkdir()
    segment = load_network("stardist", tmp_path / "mine", diameter_px=None)
    np.testing.assert_array_equal(segment(np.stack([IMAGE, IMAGE])), IMAGE / 23 > 0.5)
    assert seen["model"] == (None, "mine", str(tmp_path))


def test_mesmer_is_built_from_the_saved_model(monkeypatch, tmp_path):
    _module(monkeypatch, "deepcell")
    _module(monkeypatch, "deepcell.applications", Mesmer=lambda model: SimpleNamespace(model=model))
    keras = SimpleNamespace(models=SimpleNamespace(load_model=lambda path, compile: (path, compile)))
    _module(monkeypatch, "tensorflow", keras=keras)
    assert load_network("mesmer", tmp_path, diameter_px=None).model == (str(tmp_path), False)


@pytest.mark.parametrize("method", ["cellpose", "stardist", "mesmer"])
def test_says_what_to_install_and_where_weights_belong(monkeypatch, tmp_path, method):
    with pytest.raises(InputError, match="downloads none"):
        load_network(method, None, diameter_px=None)
    with pytest.raises(InputError, match="does not exist"):
        load_network(method, tmp_path / "no", diameter_px=None)
    for package in ("cellpose", "stardist", "deepcell"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DependencyError, match="pip install"):
        load_network(method, tmp_path, diameter_px=None)
