from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest

import sjg
from sjg._logging import logger
from sjg.cli._messages import shown_messages

OURS = str(Path(sjg.__file__).parent / "access" / "_molecules.py")


def warn_twice() -> None:
    warnings.warn_explicit("two\nlines", UserWarning, OURS, 1)
    warnings.warn_explicit("from elsewhere", UserWarning, "/other/package.py", 1)
    logger.warning("%d left out", 3)
    logger.info("a detail")


def test_only_our_warnings_as_lines(capsys: pytest.CaptureFixture[str]):
    with shown_messages(debug=False):
        warnings.simplefilter("always")
        warn_twice()
    assert capsys.readouterr().err == "sjg: warning: two lines\nsjg: warning: 3 left out\n"


def test_debug_shows_everything_and_nothing_stays_changed(capsys: pytest.CaptureFixture[str]):
    before = (list(logger.handlers), logger.level, warnings.showwarning, logging.getLogger("ome_zarr").level)
    with shown_messages(debug=True), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_twice()
    assert [str(one.message) for one in caught] == ["two\nlines", "from elsewhere"]
    assert "sjg: info: a detail" in capsys.readouterr().err
    assert (list(logger.handlers), logger.level, warnings.showwarning, logging.getLogger("ome_zarr").level) == before
