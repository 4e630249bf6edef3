from __future__ import annotations

import sys
import types

import pytest

from sjg.tl import _progress
from sjg.tl._patch_progress import patch_progress
from sjg.tl._progress import NotebookBar, RunProgress, TerminalBar


class Display:
    """Stands for IPython's display: keeps what is shown."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def __call__(self, data, *, raw, display_id):
        assert raw
        assert display_id
        self.update(data, raw=raw)
        return self

    def update(self, data, *, raw):
        self.texts.append(data["text/plain"])


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    shown = Display()
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    module = types.ModuleType("IPython.display")
    module.display = shown
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_notebook_line_is_redrawn_and_ends_with_done(display, monkeypatch):
    monkeypatch.setattr(_progress, "_REDRAW_S", 0.0)
    with RunProgress(enabled=True) as bar:
        assert isinstance(bar._bar, NotebookBar)
        bar({"phase": "training", "done": 1, "total": 2, "epoch": 1, "loss": 2.5, "fraction_assigned": 0.75})
    assert "reading" in display.texts[0]
    assert "38%" in display.texts[1]  # reading, and half of the training
    assert "loss 2.500  assigned 75%" in display.texts[1]
    assert display.texts[-1].startswith("sjg done")
    assert "100%" in display.texts[-1]


def test_notebook_is_not_flooded(display):
    with RunProgress(enabled=True) as bar:
        for i in range(1000):
            bar({"phase": "cells", "done": i, "total": 1000})
    assert len(display.texts) < 10


def test_the_last_line_in_a_notebook_holds_the_last_count(display):
    with patch_progress(True, "segmenting patches") as report:
        report(1, 4)
        report(4, 4)
    assert display.texts[-1].endswith("4/4")
    assert "segmenting patches ━" in display.texts[0]


def test_patches_have_the_same_line_in_a_notebook(display, monkeypatch, capsys):
    monkeypatch.setattr(_progress, "_REDRAW_S", 0.0)
    with patch_progress(True, "patches") as report:
        report(1, 4)
        report(4, 4)
    assert "patches" in display.texts[0]
    assert "25%" in display.texts[0]
    assert "1/4" in display.texts[0]
    assert display.texts[-1].startswith("sjg done")
    # rich, which asks for ipywidgets there, was not used
    assert capsys.readouterr() == ("", "")


def test_an_error_leaves_the_line_as_it_was(display):
    with pytest.raises(KeyError), RunProgress(enabled=True):
        raise KeyError("x")
    assert "done" not in display.texts[-1]


def test_silent_where_disabled_or_off_a_terminal(display, capsys):
    with RunProgress(enabled=False) as bar:
        assert isinstance(bar._bar, TerminalBar)
        bar({"phase": "genes", "done": 1, "total": 1})
    assert display.texts == []
    assert capsys.readouterr().err == ""
