"""Files that appear whole or not at all: writers that are killed, and several at once."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from nagd_numba.io import atomic, npz
from nagd_numba.io.atomic import check_replaceable, replacing

KILLED = """
import os, signal, sys
from nagd_numba.io.atomic import replacing
with replacing(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "file").write_bytes(b"before")
    return tmp_path / "file"


def names(path):
    return sorted(os.listdir(path.parent))


def write(path, content):
    with replacing(path) as file:
        file.write(content)


@pytest.mark.skipif(not atomic.LOCKS, reason="without locks nobody knows whether a writer lives")
def test_what_a_killed_writer_leaves_is_removed_by_the_next(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"before"
    assert len(names(path)) == 2
    write(path, b"after")
    assert path.read_bytes() == b"after"
    assert names(path) == ["file"]


def test_files_of_writers_that_live_stay(path, monkeypatch):
    with replacing(path) as one:
        one.write(b"one")
        monkeypatch.setattr(atomic, "_cleared", None)  # as in another process
        write(path, b"two")
        assert path.read_bytes() == b"two"
        assert len(names(path)) == 2
    assert path.read_bytes() == b"one"
    assert names(path) == ["file"]


def test_files_of_other_names_stay(path):
    others = [".file.tmp", ".file.backup.tmp", ".other.0123456789abcdef.tmp", "file.0123456789abcdef.tmp"]
    for name in others:
        path.with_name(name).write_bytes(b"")
    write(path, b"after")
    assert names(path) == sorted(["file", *others])


def test_an_error_leaves_the_file_and_nothing_else(path):
    def fail(file):
        file.write(b"half")
        raise InterruptedError

    with pytest.raises(InterruptedError), replacing(path) as file:
        fail(file)
    assert path.read_bytes() == b"before"
    assert names(path) == ["file"]
    check_replaceable(path)
    assert names(path) == ["file"]


def test_a_file_taken_for_a_leftover_is_made_again(path, monkeypatch):
    """Between its making and its lock another process may remove it."""
    flock, taken = atomic.flock, []

    def late(file, how):
        if not taken:
            taken.append(file.name)
            os.unlink(file.name)
        flock(file, how)

    monkeypatch.setattr(atomic, "flock", late)
    write(path, b"after")
    assert path.read_bytes() == b"after"
    assert names(path) == ["file"]
    assert len(taken) == 1


def test_threads_of_one_process_write_one_file(path):
    """Whoever is last, the file is that of one of them."""
    contents = [{"x": np.full(50_000, k)} for k in range(4)]

    def work(content):
        for _ in range(10):
            npz.write(path, content)

    threads = [threading.Thread(target=work, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    read = npz.read(path, "file")["x"]
    assert read.tobytes() in [content["x"].tobytes() for content in contents]
    assert names(path) == ["file"]
