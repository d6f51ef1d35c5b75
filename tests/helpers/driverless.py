"""Compile CUDA kernels to PTX and machine code on a machine with no driver and no device."""

import importlib.util
import re
import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

import pytest

from nagd_numba.gpu.target import compiling
from nagd_numba.kernels.jit import SIMULATOR

CAPABILITIES = ((8, 0), (9, 0), (10, 0), (12, 0))


def require():
    """Skip, saying why, where kernels cannot be compiled."""
    if SIMULATOR:
        pytest.skip("the CUDA simulator runs kernels in Python and compiles none")
    if importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("numba-cuda is not installed: pip install 'numba-cuda[cu13]'")
    _share_libraries()


@cache
def _share_libraries():
    """Let the architectures of a kernel share what numba makes of it: LLVM IR, which only NVVM makes different code of.

    That is most of the work.  PTX and LTO-IR share it too: the library adds the option of the latter itself.
    """
    from numba.cuda import compiler

    original, made = compiler._compile_pyfunc_with_fixup, {}

    def shared(pyfunc, sig, cc=None, lto=False, **options):
        key = pyfunc, str(sig), tuple(sorted(options.items()))
        if key not in made:
            made[key] = original(pyfunc, sig, cc=cc, lto=False, **options)
        return made[key]

    compiler._compile_pyfunc_with_fixup = shared


@cache
def ptx(function, signature, capability) -> str:
    """The PTX of a Python function as a kernel for argument types and a compute capability."""
    from numba import cuda

    with compiling(capability):
        text, _ = cuda.compile_ptx(function, signature, cc=capability)
    return text


def instructions(text):
    """The opcodes of PTX, with their modifiers, in order."""
    return re.findall(r"^\s*(?:@!?%p\d+\s+)?([a-z][a-z0-9_.]*)[\s;]", text, flags=re.MULTILINE)


def _ptxas():
    for root in (sysconfig.get_path("purelib"), sysconfig.get_path("platlib")):
        for found in Path(root, "nvidia").glob("*/bin/ptxas"):
            return str(found)
    return shutil.which("ptxas")


def resources(text, capability, folder):
    """What ptxas says of the machine code: registers, spilled bytes, stack."""
    ptxas = _ptxas()
    if ptxas is None:
        pytest.skip("ptxas is not installed: pip install nvidia-cuda-nvcc")
    source = folder / "kernel.ptx"
    source.write_text(text)
    arch = re.search(r"^\.target (\w+)", text, flags=re.MULTILINE).group(1)
    command = [ptxas, "-v", f"--gpu-name={arch}", "-o", str(folder / "kernel.cubin"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "Unsupported .version" in done.stderr:
        pytest.skip(f"the ptxas found ({ptxas}) is older than the compiler: pip install -U nvidia-cuda-nvcc")
    assert done.returncode == 0, done.stderr
    numbers = {
        name: sum(int(x) for x in re.findall(pattern, done.stderr))
        for name, pattern in {
            "registers": r"Used (\d+) registers",
            "spill stores": r"(\d+) bytes spill stores",
            "spill loads": r"(\d+) bytes spill loads",
        }.items()
    }
    assert numbers["registers"] > 0, done.stderr
    return numbers
