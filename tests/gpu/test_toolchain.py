"""Versions of what makes machine code: what does not fit together is said, with the way out."""

import pytest

from nagd_numba.gpu import toolchain
from nagd_numba.gpu.compiler import Kernel
from nagd_numba.gpu.toolchain import Tool, cannot_link, misfits
from tests.helpers import driverless

FIT = {
    "numba-cuda": Tool("0.30.4"),
    "cuda-bindings": Tool("13.5.0"),
    "cuda-core": Tool("1.2.2"),
    "numpy": Tool("2.4.6"),
    "nvvm": Tool("13.5.37", "nvidia-nvvm"),
    "nvJitLink": Tool("13.5.37", "nvidia-nvjitlink"),
    "nvrtc": Tool("13.5.37", "nvidia-cuda-nvrtc"),
}
TWELVE = FIT | {
    "cuda-bindings": Tool("12.9.7"),
    "nvvm": Tool("12.9.86", "nvidia-cuda-nvcc-cu12"),
    "nvJitLink": Tool("12.9.86", "nvidia-nvjitlink-cu12"),
    "nvrtc": Tool("12.9.86", "nvidia-cuda-nvrtc-cu12"),
}


def changed(tools=FIT, **versions):
    names = {name.replace("-", "_"): name for name in tools}
    return tools | {names[name]: tools[names[name]]._replace(version=text) for name, text in versions.items()}


@pytest.mark.parametrize(
    "tools",
    [
        FIT,
        TWELVE,
        changed(nvvm="13.0.88"),  # nvJitLink is the newer one
        changed(nvvm="13.5.99"),  # the same release
        changed(nvvm=None),
        changed(nvJitLink=None),
        {},
        {"numpy": Tool("2.5.0")},
    ],
)
def test_what_fits_together(tools):
    assert list(misfits(tools)) == []


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        (
            changed(nvJitLink="13.0.88"),
            "NVVM 13.5.37 (nvidia-nvvm) is newer than nvJitLink 13.0.88 (nvidia-nvjitlink), which cannot read what it "
            "writes: pip install 'nvidia-nvvm==13.0.*'",
        ),
        (
            changed(TWELVE, nvJitLink="12.6.85"),
            "NVVM 12.9.86 (nvidia-cuda-nvcc-cu12) is newer than nvJitLink 12.6.85 (nvidia-nvjitlink-cu12), which "
            "cannot read what it writes: pip install 'nvidia-cuda-nvcc-cu12==12.6.*'",
        ),
        (
            changed(nvvm="12.9.86"),
            "NVVM 12.9.86 (nvidia-nvvm) is of another major version than nvJitLink 13.5.37 (nvidia-nvjitlink), which "
            "cannot read what it writes: pip install 'nvidia-nvvm==13.5.*'",
        ),
        (
            {name: tool for name, tool in FIT.items() if name != "nvJitLink"},
            "nvJitLink not found, without which no CUDA kernel can be compiled: pip install 'nagd-numba[cuda]'",
        ),
        (
            {name: tool for name, tool in TWELVE.items() if name not in ("nvvm", "nvJitLink")},
            "nvvm and nvJitLink not found, without which no CUDA kernel can be compiled: "
            "pip install 'nagd-numba[cuda12]'",
        ),
        (
            changed(nvrtc="12.9.86"),
            "nvrtc 12.9.86 (nvidia-cuda-nvrtc) is of another major version than nvJitLink 13.5.37 (nvidia-nvjitlink): "
            "pip install 'nvidia-cuda-nvrtc==13.*'",
        ),
        (changed(cuda_core="0.5.1"), "cuda-core 0.5.1 is not supported: pip install 'cuda-core>=0.6,<2'"),
        (changed(numba_cuda="0.31.0"), "numba-cuda 0.31.0 is not supported: pip install 'numba-cuda>=0.30,<0.31'"),
        (changed(numba_cuda="0.29.2"), "numba-cuda 0.29.2 is not supported: pip install 'numba-cuda>=0.30,<0.31'"),
        (
            changed(numpy="2.5.0"),
            "numpy 2.5.0 lacks np.row_stack, which numba-cuda 0.30.4 calls: pip install 'numpy<2.5'",
        ),
        (
            changed(TWELVE, cuda_bindings="13.5.0"),
            "cuda-bindings 13.5.0 is of another major version than nvJitLink 12.9.86 "
            "(nvidia-nvjitlink-cu12): pip install 'cuda-bindings==12.*'",
        ),
    ],
)
def test_what_does_not_is_said_with_the_way_out(tools, said):
    assert list(misfits(tools)) == [said]


@pytest.mark.parametrize(
    ("tools", "driver", "said"),
    [
        (FIT, (13, 0), []),
        (FIT, (14, 1), []),
        (
            FIT,
            (12, 8),
            ["the driver knows CUDA 12.8, and cannot load code of CUDA 13: pip install 'nagd-numba[cuda12]'"],
        ),
        (TWELVE, (12, 2), []),
        (TWELVE, (11, 8), ["the driver knows CUDA 11.8, and cannot load code of CUDA 12: install a newer driver"]),
    ],
)
def test_the_driver_must_be_of_the_same_major_version_or_newer(tools, driver, said):
    assert list(misfits(tools, driver)) == said


def test_versions_are_compared_before_anything_is_compiled(monkeypatch):
    monkeypatch.setattr(toolchain, "found", lambda: changed(nvJitLink="13.0.88"))
    monkeypatch.setenv("NAGD_NUMBA_CACHE", "0")

    def kernel(x):
        raise AssertionError

    monkeypatch.setattr(Kernel, "code", kernel)
    with pytest.raises(RuntimeError, match=r"NVVM 13\.5\.37 .* newer than nvJitLink 13\.0\.88 .*pip install"):
        Kernel(kernel, "kernel", ()).image((9, 0))


def test_what_is_installed_here():
    driverless.require()
    tools = toolchain.found()
    assert cannot_link(tools) is None
    assert toolchain.release(tools["nvvm"].version) >= (12, 0)
    assert tools["numba-cuda"].version in toolchain.names()


def library(folder, name, wheel=None, version="13.0.88"):
    """A library as a wheel brings it, or without one."""
    path = folder / "nvidia" / "cu13" / "lib" / name
    path.parent.mkdir(parents=True)
    path.touch()
    if wheel is not None:
        about = folder / f"{wheel.replace('-', '_')}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {wheel}\nVersion: {version}\n")
        (about / "RECORD").write_text(f"nvidia/cu13/lib/{name},,\n")
    return path


def test_the_version_of_a_library_is_that_of_its_wheel(tmp_path):
    path = library(tmp_path, "libnvvm.so.4", "nvidia-nvvm")
    assert toolchain.of_path("nvvm", path) == Tool("13.0.88", "nvidia-nvvm")
    assert toolchain.of_path("nvvm", path.with_name("other.so")).version is None  # a wheel is near, but not its owner


@pytest.mark.parametrize("include", ["include", "targets/x86_64-linux/include"])
def test_the_version_of_a_toolkit_is_in_its_header(tmp_path, include):
    path = library(tmp_path, "libnvvm.so.4")
    header = tmp_path / include / "cuda.h"
    header.parent.mkdir(parents=True)
    header.write_text("#define CUDA_H\n#define CUDA_VERSION 12080\n")
    assert toolchain.of_path("nvvm", path) == Tool("12.8", str(path))
