"""The exported C functions in programs of C, C++ and Fortran without Python, and the command that exports them."""

import os
import re
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

from nagd_numba.c import export
from nagd_numba.c.functions import PREFIX, functions
from nagd_numba.cli.main import main
from nagd_numba.kernels.jit import SIMULATOR
from tests.helpers.backends import JIT_OFF
from tests.helpers.c_programs import STRICT, run, tool

pytestmark = pytest.mark.skipif(JIT_OFF or SIMULATOR, reason="is about compiled code on the CPU")


def test_nothing_is_undefined_but_mathematics(exported):
    listed = run(tool("nm"), exported / "nagd_numba.o").splitlines()
    undefined = {line.split()[-1] for line in listed if " U " in line}
    assert undefined <= {"sqrt", "fma", "fmaf"}
    seen = {line.split()[-1] for line in listed if re.search(r" [A-TV-Z] ", line)}
    assert seen == {PREFIX + name for name in functions()}


PROGRAM = r"""
#include <stdio.h>
#include <string.h>
#include "nagd_numba.h"

int main(void)
{
    float p[11], g[11], v[11] = {0};
    double x[7], d[7], m[7] = {0}, s[7] = {0};
    int k, t, status = NAGD_OK;
    for (k = 0; k < 11; k++) p[k] = (float)(k - 5) / 3;
    for (k = 0; k < 7; k++) x[k] = 1.0 / (k + 1);
    for (t = 1; t <= 20; t++) {
        for (k = 0; k < 11; k++) g[k] = p[k] * (float)(k + 1) / 11;
        for (k = 0; k < 7; k++) d[k] = x[k] - k;
        status |= nagd_nag_step_f32(p, g, v, 11, 0.1, 0.9, 0.9, NAGD_CONVENTION_TORCH, 1, 0.0, 0, 0);
        status |= nagd_nadam_step_f64(x, d, m, s, 7, t, 0.1, 0.9, 0.999, 1e-8, 0.0, NAGD_VARIANT_KERAS, 0, 0);
    }
    for (k = 0; k < 11; k++) printf("%a\n", (double)p[k]);
    for (k = 0; k < 7; k++) printf("%a\n", x[k]);
    return status || nagd_nag_step_f32(p, p, v, 11, 0.1, 0.9, 0.9, 0, 1, 0.0, 0, 0) != NAGD_OVERLAP;
}
"""


def expected():
    """What that program prints."""
    p = ((np.arange(11) - 5).astype(np.float32) / np.float32(3)).astype(np.float32)
    x = 1 / np.arange(1.0, 8.0)
    v, m, s = np.zeros(11, np.float32), np.zeros(7), np.zeros(7)
    for t in range(1, 21):
        g = p * np.arange(1, 12, dtype=np.float32) / np.float32(11)
        d = x - np.arange(7.0)
        functions()["nag_step_f32"][0].step(p, g, v, 0.1)
        functions()["nadam_step_f64"][0].step(x, d, m, s, t, 0.1, variant="keras")
    return [*map(float, p), *x]


@pytest.mark.parametrize(
    ("compiler", "suffix", "options"), [("gcc", "c", ["-std=c99"]), ("g++", "cpp", ["-std=c++11"])], ids=["C", "C++"]
)
def test_a_program(exported, tmp_path, compiler, suffix, options):
    source, program = tmp_path / f"program.{suffix}", tmp_path / "program"
    source.write_text(PROGRAM)
    flags = [*STRICT, *options, "-ffp-contract=off", f"-I{exported}"]
    run(tool(compiler), *flags, source, exported / "nagd_numba.o", "-lm", "-o", program)
    printed = run(program, env={}, cwd=tmp_path)
    assert [float.fromhex(line) for line in printed.split()] == expected()
    linked = run(tool("readelf"), "-d", program)
    assert "python" not in linked.lower()


FORTRAN = """
program descend
  use, intrinsic :: iso_fortran_env, only: int32, int64, real32, real64
  use nagd_numba
  implicit none
  real(real32) :: p(11), g(11), v(11)
  real(real64) :: x(7), d(7), m(7), s(7)
  integer :: k, t, status
  p = [(real(k - 6, real32) / 3, k = 1, 11)]
  x = [(1 / real(k, real64), k = 1, 7)]
  v = 0
  m = 0
  s = 0
  status = NAGD_OK
  do t = 1, 20
    g = [(p(k) * real(k, real32) / 11, k = 1, 11)]
    d = [(x(k) - (k - 1), k = 1, 7)]
    status = ior(status, nagd_nag_step(p, g, v, 11_int64, 0.1d0, 0.9d0, 0.9d0, &
      NAGD_CONVENTION_TORCH, 1, 0d0, 0, 0))
    status = ior(status, nagd_nadam_step(x, d, m, s, 7_int64, int(t, int64), 0.1d0, 0.9d0, 0.999d0, 1d-8, 0d0, &
      NAGD_VARIANT_KERAS, 0, 0))
  end do
  if (status /= NAGD_OK) error stop 1
  if (nagd_nag_step(p, p, v, 11_int64, 0.1d0, 0.9d0, 0.9d0, 0, 1, 0d0, 0, 0) /= NAGD_OVERLAP) error stop 2
  print '(z8.8)', (transfer(p(k), 0_int32), k = 1, 11)
  print '(z16.16)', (transfer(x(k), 0_int64), k = 1, 7)
end program descend
"""


def test_a_program_in_fortran(exported, tmp_path):
    (tmp_path / "descend.f90").write_text(FORTRAN)
    program = tmp_path / "descend"
    flags = ["-O1", "-Wall", "-Wextra", "-pedantic", "-Werror", "-std=f2008", "-ffp-contract=off"]
    sources = [exported / "nagd_numba.f90", tmp_path / "descend.f90", exported / "nagd_numba.o"]
    run(tool("gfortran"), *flags, *sources, "-o", program, cwd=tmp_path)
    printed = run(program, cwd=tmp_path).split()
    p = np.array([int(x, 16) for x in printed[:11]], np.uint32).view(np.float32)
    x = np.array([int(x, 16) for x in printed[11:]], np.uint64).view(np.float64)
    assert [*map(float, p), *x] == expected()


def test_what_the_command_refuses(capsys, tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.write_text("mine")

    def fails(*given):
        assert main(["export", *map(str, given)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        (line,) = err.splitlines()
        assert line.startswith("nagd-numba export: error: ")
        return line

    assert "is a file; the name of a directory is needed" in fails(file)
    assert "cannot be made: no such file or directory" in fails(tmp_path / "a" / "b")
    assert "did you mean 'host'" in fails(tmp_path, "--cpu", "hots")
    assert "--with: 'maks' is no part of a step" in fails(tmp_path, "--with", "lower,maks")
    assert "lower and lower_array are given" in fails(tmp_path, "--with", "lower_array,lower")
    (tmp_path / "nagd_numba.h").mkdir()
    assert "nagd_numba.h is a directory" in fails(tmp_path)
    assert sorted(x.name for x in tmp_path.iterdir()) == ["file", "nagd_numba.h"]
    assert file.read_text() == "mine"


def test_a_disk_that_is_full_leaves_the_files_as_they_were(capsys, tmp_path, monkeypatch):
    (tmp_path / "nagd_numba.h").write_text("mine")
    monkeypatch.setattr(export, "object_code", lambda cpu, names: b"code")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["export", str(tmp_path)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert [x.name for x in tmp_path.iterdir()] == ["nagd_numba.h"]
    assert (tmp_path / "nagd_numba.h").read_text() == "mine"


def test_code_that_would_need_python_is_not_written(monkeypatch):
    """What is left in the code must be known, whatever a new version of the compiler leaves there."""
    calls = "declare void @PyErr_Print()\ndefine void @nag_step_f32() {\n  call void @PyErr_Print()\n  ret void\n}"
    monkeypatch.setattr(export, "_part", lambda name: llvm.parse_assembly(calls))
    with pytest.raises(RuntimeError, match="the code would need PyErr_Print"):
        export.object_code(next(iter(export.processors())), ["nag_step_f32"])


def test_without_the_jit_there_is_nothing_to_point_at(tmp_path):
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "nagd_numba", "export", str(tmp_path / "made")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("nagd-numba export: error: the JIT is off (NUMBA_DISABLE_JIT=1)")
    assert not (tmp_path / "made").exists()
