"""What is read of machine code, against what NVIDIA's own tool says of it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest

from ..cubin import BadImage, Cubin, length, short


def tool():
    found = next(Path(sysconfig.get_path("purelib"), "nvidia").glob("*/bin/cuobjdump"), None)
    return str(found) if found else shutil.which("cuobjdump")


def compiled(capability, threads):
    if os.environ.get("NUMBA_ENABLE_CUDASIM", "0") != "0" or importlib.util.find_spec("numba_cuda") is None:
        pytest.skip("kernels cannot be compiled: numba-cuda is not installed, or its simulator is on")
    from cuda.core import Linker, LinkerOptions, ObjectCode
    from numba import cuda, types

    def kernel(p, n, a, flag):
        s = cuda.shared.array(100, types.float64)
        s[cuda.threadIdx.x] = a
        cuda.syncthreads()
        if flag and cuda.grid(1) < n:
            p[cuda.grid(1)] = s[99 - cuda.threadIdx.x]

    signature = (types.CPointer(types.float64), types.int64, types.float32, types.int8)
    made, _ = cuda.compile(
        kernel, signature, cc=capability, device=False, abi="numba", output="ltoir", launch_bounds=threads
    )
    options = LinkerOptions(arch="sm_{}{}".format(*capability), link_time_optimization=True)
    return bytes(Linker(ObjectCode.from_ltoir(made), options=options).link("cubin").code)


@pytest.mark.parametrize("capability", [(9, 0), pytest.param((8, 0), marks=pytest.mark.ci)])
def test_tables_of_machine_code(capability, tmp_path):
    if tool() is None:
        pytest.skip("cuobjdump is not installed: pip install nvidia-cuda-cuobjdump")
    image = compiled(capability, 96)
    (entry,) = Cubin(image).entries.values()
    file = tmp_path / "kernel.cubin"
    file.write_bytes(image)
    said = subprocess.run([tool(), "-elf", str(file)], capture_output=True, text=True, check=True).stdout
    found = re.findall(
        r"EIATTR_KPARAM_INFO.*?Ordinal\s*:\s*0x(\w+)\s+Offset\s*:\s*0x(\w+)\s+Size\s*:\s*0x(\w+)", said, re.S
    )
    expected = [(int(o, 16), int(s, 16)) for _, o, s in sorted(found, key=lambda f: int(f[0], 16))]
    assert [(p.offset, p.size) for p in entry.parameters] == expected
    assert [p.size for p in entry.parameters] == [8, 8, 4, 1]
    assert entry.registers == int(re.search(r"register count: (\d+)", said)[1]) > 0
    assert Cubin(image).capability == capability == divmod(int(re.search(r"sm=(\d+)", said)[1]), 10)
    assert entry.max_threads == 96
    assert entry.static_shared == 800
    assert length(lambda offset, size: image[offset : offset + size]) == len(image)
    assert entry.title.startswith("kernel")


def test_what_is_no_machine_code():
    for image in (b"", b"PTX", b"\x7fELF\x02" + b"\0" * 200):
        with pytest.raises(BadImage):
            Cubin(image)


def test_names():
    assert short("_ZN8__main__3addB2v1B10abcdefghijE") == "add"
    assert short("saxpy") == "saxpy"
