from __future__ import annotations

from pathlib import Path

import pytest

from sjg._settings import Settings


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.delenv("SJG_DATA_DIR", raising=False)
    monkeypatch.delenv("SJG_CACHE_DIR", raising=False)
    return Settings()


def test_nothing_is_set_by_default(fresh: Settings) -> None:
    assert fresh.data_dir is None
    assert fresh.cache_dir.name == "sjg"


def test_environment_counts_from_the_moment_it_is_set(fresh: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SJG_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("SJG_CACHE_DIR", str(tmp_path / "not yet"))
    assert fresh.data_dir == tmp_path
    assert fresh.cache_dir == tmp_path / "not yet"


def test_a_set_value_goes_before_the_environment(fresh: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SJG_DATA_DIR", str(tmp_path / "absent"))
    fresh.data_dir = tmp_path
    assert fresh.data_dir == tmp_path


def test_missing_folder_names_the_variable(fresh: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SJG_DATA_DIR", str(tmp_path / "absent"))
    with pytest.raises(ValueError, match="SJG_DATA_DIR.*absent"):
        _ = fresh.data_dir


def test_override_ends_with_the_block_even_after_an_error(fresh: Settings, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), fresh.override(data_dir=tmp_path, cache_dir=tmp_path):
        assert fresh.data_dir == fresh.cache_dir == tmp_path
        _ = 1 / 0
    assert fresh.data_dir is None


def test_refused_override_changes_nothing(fresh: Settings, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match="settings.cache_dir"), fresh.override(data_dir=tmp_path, cache_dir=file):
        pass
    assert fresh.data_dir is None
