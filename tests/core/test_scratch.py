"""Arrays in working files: content, room, release."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sjg import settings
from sjg.core import Buckets, ScratchError, flush, parts, release, scratch, scratch_zeros


@pytest.fixture
def on_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(scratch, "_IN_MEMORY_BYTES", 0)
    with settings.override(scratch_dir=tmp_path):
        yield tmp_path


def test_large_arrays_lie_on_disk_without_a_name(on_disk):
    array = scratch_zeros((300, 40), np.int32)
    assert type(array) is np.ndarray
    assert not array.any()
    assert list(on_disk.iterdir()) == []
    array[7] = 5
    release(array)
    flush(array)
    assert (array[7] == 5).all()
    assert array.sum() == 200


def test_a_named_file_is_found_again(tmp_path):
    first = scratch_zeros(10, np.float32, path=tmp_path / "kept.bin")
    first[3] = 2.5
    flush(first)
    second = scratch_zeros(10, np.float32, path=tmp_path / "kept.bin")
    assert second[3] == 2.5
    assert second.sum() == 2.5


def test_released_memory_is_given_back(on_disk):
    def resident():
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * resource.getpagesize()

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs /proc")
    array = scratch_zeros(64 * 2**20, np.uint8)
    array[:] = 1
    full = resident()
    release(array)
    assert resident() < full - 50 * 2**20
    assert array.min() == 1


def test_no_room_is_a_clear_error(tmp_path):
    # a limit on the size of files stands for a full disk; it needs a process of its own
    code = """
import resource, signal, sys
import numpy as np
from sjg import settings
from sjg.core import ScratchError, scratch_zeros
settings.scratch_dir = sys.argv[1]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
try:
    scratch_zeros(2**26, np.uint8)
except ScratchError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "0.06 GiB of working space could not be had" in done.stdout
    assert "SJG_SCRATCH_DIR" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_gone_is_a_clear_error(on_disk):
    on_disk.rmdir()
    with pytest.raises(ScratchError, match="could not be had"):
        scratch_zeros(100, np.uint8)


@given(st.lists(st.integers(0, 6), max_size=60), st.integers(1, 20))
def test_buckets_equal_a_stable_sort(bucket, part_rows):
    bucket = np.array(bucket, dtype=np.int64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sjg.core.buckets._PART_ROWS", part_rows)
        buckets = Buckets(lambda rows: bucket[rows], len(bucket), 7)
        out = np.full(len(bucket), -1)
        for rows, place in buckets.places():
            out[place] = np.arange(len(bucket))[rows]
        assert sum(part.stop - part.start for part in parts(len(bucket))) == len(bucket)
    np.testing.assert_array_equal(out, np.argsort(bucket, kind="stable"))
    np.testing.assert_array_equal(np.diff(buckets.starts), np.bincount(bucket, minlength=7))
