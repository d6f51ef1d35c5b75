"""Files of the cache: read as they were written, or not at all; what cannot be written is left out."""

import os
import threading

import pytest

from nagd_numba.kernels import cached_files

CONTENTS = bytes(range(200))


@pytest.mark.parametrize("contents", [b"", b"x", CONTENTS, bytes(100_000)])
def test_what_is_written_is_read(tmp_path, contents):
    file = tmp_path / "there is none" / "kernel.nbc"
    assert cached_files.read(file) is None
    cached_files.write(file, contents)
    assert cached_files.read(file) == contents
    assert list(file.parent.iterdir()) == [file]


def test_no_damage_is_read(tmp_path):
    file = tmp_path / "kernel.nbc"
    cached_files.write(file, CONTENTS)
    whole = file.read_bytes()
    for k in range(len(whole)):
        file.write_bytes(whole[:k])
        assert cached_files.read(file) is None
        file.write_bytes(whole[:k] + bytes([whole[k] ^ 1 << k % 8]) + whole[k + 1 :])
        assert cached_files.read(file) is None


def test_what_cannot_be_written_is_left_out(tmp_path, monkeypatch):
    (tmp_path / "a file").write_text("")
    cached_files.write(tmp_path / "a file" / "kernel.nbc", CONTENTS)
    before = sorted(tmp_path.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    cached_files.write(tmp_path / "kernel.nbc", CONTENTS)
    assert sorted(tmp_path.iterdir()) == before  # and no part of it is left


def test_threads_that_write_one_file_leave_it_whole(tmp_path):
    file = tmp_path / "kernel.nbc"
    contents = [bytes([k]) * 100_000 for k in range(8)]

    def write(k):
        for _ in range(20):
            cached_files.write(file, contents[k])
            assert cached_files.read(file) in contents

    threads = [threading.Thread(target=write, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cached_files.read(file) in contents
    assert list(tmp_path.iterdir()) == [file]
