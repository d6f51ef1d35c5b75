"""Launches: what they demand, and how the kernels that numba.cuda compiles run."""

import ctypes
import warnings

import numpy as np
import pytest
from numba import cuda, types

from .calls import NON_BLOCKING, api, enter, fails, memory, ok, peek, read

warnings.filterwarnings("ignore", "Grid size")


def add(p, n, a):
    i = cuda.grid(1)
    if i < n:
        p[i] += a


def shared_sum(p):
    s = cuda.shared.array(0, types.float32)
    s[cuda.threadIdx.x] = p[cuda.threadIdx.x]
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        for k in range(1, cuda.blockDim.x):
            s[0] += s[k]
        p[0] = s[0]


class Loaded:
    """A kernel that was compiled by numba.cuda, loaded by the driver API itself."""

    def __init__(self, machine, function, signature, capability=(9, 0), threads=None):
        from cuda.core import Linker, LinkerOptions, ObjectCode

        from .... import emulator

        made = cuda.compile(
            function, signature, cc=capability, device=False, abi="numba", output="ltoir", launch_bounds=threads
        )
        options = LinkerOptions(arch=f"sm_{capability[0]}{capability[1]}", link_time_optimization=True)
        self.image = bytes(Linker(ObjectCode.from_ltoir(made[0]), options=options).link("cubin").code)
        machine.programs.add(self.image, lambda name: emulator.compile(function, signature, capability))
        self.library = ok(api.cuLibraryLoadData(self.image, [], [], 0, [], [], 0))
        self.kernel = ok(api.cuLibraryEnumerateKernels(1, self.library))[0]

    def __call__(self, cells, grid=(1, 1, 1), block=(32, 1, 1), shared=0, stream=0):
        pointers = (ctypes.c_void_p * len(cells))(*[ctypes.addressof(c) for c in cells])
        function = api.CUfunction(int(self.kernel))
        (status,) = api.cuLaunchKernel(function, *grid, *block, shared, stream, ctypes.addressof(pointers), 0)
        return (status,)


@pytest.fixture(autouse=True)
def context(machine):
    return enter()


@pytest.fixture(scope="module")
def adder():
    from ... import current

    enter()
    return Loaded(current(), add, (types.CPointer(types.float32), types.int64, types.float32), threads=128)


@pytest.fixture
def p():
    return memory(np.ones(100, np.float32))


def cells(p, n=100, a=2.0):
    return [ctypes.c_uint64(p), ctypes.c_int64(n), ctypes.c_float(a)]


def test_a_kernel_runs_when_somebody_waits(adder, p):
    arguments = cells(p)
    ok(adder(arguments, grid=(4, 1, 1)))
    arguments[2].value = 100.0  # arguments are copied
    assert (peek(p, 100) == 1).all()
    assert (read(p, 100) == 3).all()


def test_the_hosts_kernels_of_numba_run():
    """Arrays, a tuple and a number, by numba.cuda's own launch."""

    @cuda.jit
    def axpy(y, x, pair, n):
        i = cuda.grid(1)
        if i < n:
            y[i] += pair[0] * x[i] + pair[1]

    x, y = np.arange(50, dtype=np.float64), np.ones(50)
    dx, dy = cuda.to_device(x), cuda.to_device(y)
    stream = cuda.stream()
    cuda.synchronize()
    axpy[2, 32, stream](dy, dx, (2.0, 3.0), 50)
    np.testing.assert_array_equal(dy.copy_to_host(stream=stream), y + 2 * x + 3)


def test_grids_and_blocks(machine, adder, p):
    for grid, block in (((0, 1, 1), (32, 1, 1)), ((1, 70000, 1), (32, 1, 1)), ((1, 1, 1), (1, 1, 65))):
        with fails("INVALID_VALUE", machine, "grid"):
            ok(adder(cells(p), grid, block))
    with fails("INVALID_VALUE", machine, "2048 threads"):
        ok(adder(cells(p), (1, 1, 1), (1024, 2, 1)))
    with fails("LAUNCH_OUT_OF_RESOURCES", machine, "compiled for 128"):
        ok(adder(cells(p), (1, 1, 1), (160, 1, 1)))
    ok(adder(cells(p), (1, 1, 1), (128, 1, 1)))


def test_registers_times_threads():
    from ...cubin import Entry
    from ...kernels import most_threads

    assert [most_threads(Entry("k", registers=r)) for r in (32, 64, 65, 128, 255)] == [1024, 1024, 896, 512, 256]


def test_dynamic_shared_memory_has_to_be_opted_in_to(machine):
    kernel = Loaded(machine, shared_sum, (types.CPointer(types.float32),))
    p, many = memory(np.ones(32, np.float32)), 100 << 10
    with fails("INVALID_VALUE", machine, "bytes of dynamic shared memory"):
        ok(kernel([ctypes.c_uint64(p)], shared=many))
    attribute = api.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
    with fails("INVALID_VALUE"):
        ok(api.cuKernelSetAttribute(attribute, (227 << 10) + 1, kernel.kernel, 0))
    ok(api.cuKernelSetAttribute(attribute, many, kernel.kernel, 0))
    ok(kernel([ctypes.c_uint64(p)], shared=many))
    assert read(p, 1) == 32
    ok(api.cuCtxSetCurrent(ok(api.cuDevicePrimaryCtxRetain(1))))
    with fails("INVALID_VALUE"):  # the other device was not asked
        ok(kernel([ctypes.c_uint64(memory(np.ones(32, np.float32)))], shared=many))


def test_too_narrow_an_argument(machine, adder, p):
    class Packed(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("p", ctypes.c_uint64), ("n", ctypes.c_int32), ("a", ctypes.c_float))

    block = Packed(p, 100, 2.0)
    start = ctypes.addressof(block)
    narrow = [ctypes.c_char.from_address(start + k) for k in (0, 8, 12)]
    with fails("INVALID_VALUE", machine, "argument 1 has 4 bytes; 8 are needed"):
        ok(adder(narrow))


def test_too_wide_an_argument(machine, adder, p):
    """Arguments that have a word each, as tables of them do."""
    words = (ctypes.c_uint64 * 4)(p, 0, 100, 0)
    start = ctypes.addressof(words)
    ctypes.c_double.from_address(start + 8).value = 2.0  # where the kernel takes four bytes
    order = [ctypes.c_char.from_address(start + k) for k in (0, 16, 8)]
    with fails("INVALID_VALUE", machine, "argument 2 seems to have 8 bytes"):
        ok(adder(order))
    words[1] = 0
    ctypes.c_float.from_address(start + 8).value = 2.0
    ok(adder(order, grid=(4, 1, 1)))
    assert (read(p, 100) == 3).all()


def test_too_few_arguments(machine, adder, p):
    pointers = (ctypes.c_void_p * 3)(*[ctypes.addressof(c) for c in cells(p)[:2]], 8)
    function = api.CUfunction(int(adder.kernel))
    with fails("INVALID_VALUE", machine, "3 parameters, and argument 2 cannot be read"):
        ok(api.cuLaunchKernel(function, 1, 1, 1, 32, 1, 1, 0, 0, ctypes.addressof(pointers), 0))


def test_a_number_in_the_place_of_an_address(machine, adder, p):
    with fails("INVALID_VALUE", machine, "argument 0 is 0x64, which is no address"):
        ok(adder([ctypes.c_uint64(100), *cells(p)[1:]]))


def test_memory_of_another_device(machine, adder):
    enter(1)
    other = memory(np.ones(100, np.float32))
    enter(0)
    with fails("INVALID_VALUE", machine, "runs on CUDA device 0"):
        ok(adder(cells(other)))


def test_machine_code_for_another_architecture(machine):
    with fails("NO_BINARY_FOR_GPU", machine, "sm_80"):
        Loaded(machine, add, (types.CPointer(types.float32), types.int64, types.float32), (8, 0))


def test_what_is_no_machine_code():
    with fails("INVALID_IMAGE"):
        ok(api.cuLibraryLoadData(b"\x7fELF" + b"\0" * 100, [], [], 0, [], [], 0))


def test_a_stream_of_another_context(machine, adder, p):
    enter(1)
    stream = ok(api.cuStreamCreate(NON_BLOCKING))
    enter(0)
    with fails("INVALID_HANDLE", machine, "is of the primary context of device 1"):
        ok(adder(cells(p), stream=stream))


def test_an_access_out_of_bounds_is_an_error_that_stays(machine, adder, p):
    ok(adder(cells(p, n=101), grid=(4, 1, 1)))
    with fails("ILLEGAL_ADDRESS"):
        ok(api.cuCtxSynchronize())
    assert "at byte 400 of device memory" in machine.faults.pop()
    with fails("ILLEGAL_ADDRESS"):  # the context is of no use any more
        ok(api.cuMemAlloc(16))
    machine.heal()
    ok(api.cuMemAlloc(16))


def test_a_kernel_on_freed_memory(machine, adder, p):
    s = ok(api.cuStreamCreate(NON_BLOCKING))
    ok(api.cuStreamBeginCapture(s, api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_GLOBAL))
    ok(adder(cells(p), grid=(4, 1, 1), stream=s))
    graph = ok(api.cuGraphInstantiate(ok(api.cuStreamEndCapture(s)), 0))
    ok(api.cuGraphLaunch(graph, s))
    ok(api.cuStreamSynchronize(s))
    assert (peek(p, 100) == 3).all()
    ok(api.cuMemFree(p))
    ok(api.cuGraphLaunch(graph, s))
    with fails("ILLEGAL_ADDRESS"):
        ok(api.cuStreamSynchronize(s))
    assert "freed at on_driver/launches.py" in machine.faults.pop()


def test_a_kernel_fails_as_wanted(machine, adder, p):
    machine.fail_kernel("LAUNCH_FAILED", after=1)
    for _ in range(3):
        ok(adder(cells(p), grid=(4, 1, 1)))
    with fails("LAUNCH_FAILED"):
        ok(api.cuCtxSynchronize())
    assert "as the test wanted" in machine.faults.pop()
    assert (peek(p, 100) == 3).all()  # the first ran, the others did not


def test_kernels_that_nothing_orders_race(machine, adder, p):
    for _ in range(2):
        ok(adder(cells(p), grid=(4, 1, 1), stream=ok(api.cuStreamCreate(NON_BLOCKING))))
    machine.settle()
    fault = machine.faults.pop()
    assert "writes 400 bytes" in fault
    assert fault.count("on_driver/launches.py") >= 3


def test_kernels_on_disjoint_parts_do_not_race(machine, adder, p):
    for part in range(2):
        stream = ok(api.cuStreamCreate(NON_BLOCKING))
        ok(adder(cells(p + 200 * part, 50), grid=(2, 1, 1), stream=stream))
    assert (read(p, 100) == 3).all()
