"""Allocations, copies and fills."""

import ctypes

from ...emulator import Footprint
from ..calls import call, put, put_handle, put_int
from ..errors import CudaError
from ..kernels import Failure, read_host
from ..memory import DEVICE, HOST

# CU_POINTER_ATTRIBUTE_*
CONTEXT, MEMORY_TYPE, DEVICE_POINTER, HOST_POINTER, IS_MANAGED, ORDINAL = 1, 2, 3, 4, 8, 9
RANGE_START, RANGE_SIZE, MAPPED, BUFFER_ID, SYNC_MEMOPS = 11, 12, 13, 7, 6


@call("cuMemGetInfo_v2", "qq")
def info(machine, free, total):
    device = machine.devices[machine.current().device]
    put(free, ctypes.c_size_t, device.memory - machine.space.used[device.ordinal])
    put(total, ctypes.c_size_t, device.memory)


def _allocate(machine, out, nbytes, managed=False):
    context = machine.current()
    if not nbytes:
        raise CudaError("INVALID_VALUE", "an allocation of no bytes")
    made = machine.space.allocate(nbytes, DEVICE, context.device, context)
    made.managed = managed
    put_handle(out, made.address)


@call("cuMemAlloc_v2", "qq", unsafe=True)
def allocate(machine, out, nbytes):
    _allocate(machine, out, nbytes)


@call("cuMemAllocManaged", "qqu", unsafe=True)
def allocate_managed(machine, out, nbytes, flags):
    _allocate(machine, out, nbytes, managed=True)


@call("cuMemFree_v2", "q", unsafe=True)
def free(machine, address):
    """Waits for all streams of the context, as CUDA's does; stream-ordered memory must not be in use any more."""
    if not address:
        return
    found = machine.space.start(address)
    context = machine.current()
    if found.kind != DEVICE:
        raise CudaError("INVALID_VALUE", f"{found} is of the host")
    if not found.pooled:
        machine.wait(found.context.queued(), context)
    machine.space.end(found)
    machine.space.give_back(found)


def _host(machine, out, nbytes):
    if not nbytes:
        raise CudaError("INVALID_VALUE", "an allocation of no bytes")
    put_handle(out, machine.space.allocate(nbytes, HOST, None, machine.current()).address)


@call("cuMemAllocHost_v2", "qq", unsafe=True)
def allocate_host(machine, out, nbytes):
    _host(machine, out, nbytes)


@call("cuMemHostAlloc", "qqu", unsafe=True)
def allocate_host_flags(machine, out, nbytes, flags):
    _host(machine, out, nbytes)


@call("cuMemFreeHost", "q", unsafe=True)
def free_host(machine, address):
    found = machine.space.start(address)
    machine.wait(found.context.queued(), machine.current())
    machine.space.end(found)


@call("cuMemHostRegister_v2", "qqu", unsafe=True)
def register(machine, address, nbytes, flags):
    read_host(machine.library, address, nbytes)
    machine.space.pin(address, nbytes, machine.current())


@call("cuMemHostUnregister", "q", unsafe=True)
def unregister(machine, address):
    found = machine.space.start(address)
    machine.wait(found.context.queued(), machine.current())
    machine.space.unpin(found)


@call("cuMemHostGetDevicePointer_v2", "qqu")
def device_pointer(machine, out, address, flags):
    if not machine.space.is_pinned(address):
        raise CudaError("INVALID_VALUE", f"0x{address:x} is not pinned")
    put_handle(out, address)


@call("cuMemGetAddressRange_v2", "qqq")
def address_range(machine, start, size, address):
    found = machine.space.at(address)
    if found is None or not found.live:
        raise CudaError("INVALID_VALUE", f"0x{address:x} is no device memory")
    if start:
        put_handle(start, found.address)
    if size:
        put(size, ctypes.c_size_t, found.nbytes)


def _attribute(out, attribute, address, found):
    words = {
        CONTEXT: (ctypes.c_uint64, found.context.handle),
        MEMORY_TYPE: (ctypes.c_uint32, found.kind),
        DEVICE_POINTER: (ctypes.c_uint64, address),
        HOST_POINTER: (ctypes.c_uint64, address if found.kind == HOST or found.managed else 0),
        SYNC_MEMOPS: (ctypes.c_uint8, 0),
        BUFFER_ID: (ctypes.c_uint64, found.address),
        IS_MANAGED: (ctypes.c_uint8, int(found.managed)),
        ORDINAL: (ctypes.c_int, found.context.device),
        RANGE_START: (ctypes.c_uint64, found.address),
        RANGE_SIZE: (ctypes.c_uint64, found.nbytes),
        MAPPED: (ctypes.c_uint8, 1),
    }
    kind, value = words.get(attribute, (ctypes.c_uint64, 0))
    put(out, kind, value)


@call("cuPointerGetAttribute", "qiq", context=False)
def pointer_attribute(machine, out, attribute, address):
    found = machine.space.at(address)
    if found is None or found.freed:
        raise CudaError("INVALID_VALUE", f"0x{address:x} is no memory of CUDA: {found}")
    _attribute(out, attribute, address, found)


@call("cuPointerGetAttributes", "uqqq", context=False)
def pointer_attributes(machine, count, attributes, out, address):
    found = machine.space.at(address)
    for k in range(count):
        attribute = ctypes.c_int.from_address(attributes + 4 * k).value
        place = ctypes.c_uint64.from_address(out + 8 * k).value
        if found is None or found.freed:
            kind = {ORDINAL: ctypes.c_int, MEMORY_TYPE: ctypes.c_uint32, IS_MANAGED: ctypes.c_uint8}
            put(place, kind.get(attribute, ctypes.c_uint64), -2 if attribute == ORDINAL else 0)
        else:
            _attribute(place, attribute, address, found)


# ------------------------------------------------------------------ copies


def _usable(machine, address, nbytes, device):
    """Raise, at the call, for memory that cannot be copied from or to."""
    why = machine.space.why_not(address, nbytes)
    if device and machine.space.at(address) is None:
        why = f"0x{address:x} is no device memory"
    if why and not _pending(machine, address):
        raise CudaError("INVALID_VALUE", why)


def _pending(machine, address):
    """Stream-ordered memory whose turn has not come yet is judged when the copy runs."""
    found = machine.space.at(address)
    return found is not None and found.pooled


def _move(machine, target, source, nbytes):
    """The copy itself; raises for memory that went away meanwhile."""
    for address in (target, source) if isinstance(source, int) else (target,):
        why = machine.space.why_not(address, nbytes)
        if why:
            raise Failure("ILLEGAL_ADDRESS", f"a copy of {why}")
    ctypes.memmove(target, source, nbytes)
    read = [(source, source + nbytes)] if isinstance(source, int) else []
    return Footprint(read, [(target, target + nbytes)], [])


def copy(machine, target, source, nbytes, stream, kind, wait):
    """Queue a copy.  `kind`: of what to what, as in H2D.  What is waited for follows CUDA's rules for each."""
    if not nbytes:
        return
    _usable(machine, target, nbytes, kind[2] == "D")
    _usable(machine, source, nbytes, kind[0] == "D")
    for address in [target] * (kind[2] == "H") + [source] * (kind[0] == "H"):
        if machine.space.at(address) is None:
            read_host(machine.library, address, nbytes)
    staged = kind[0] == "H" and not machine.space.is_pinned(source)
    landed = kind[2] == "H" and not machine.space.is_pinned(target)
    given = source
    if staged and stream.capture is None:
        if wait:
            machine.streams.refuse_implicit(stream)
            machine.wait(stream.before(), stream.context)
        given = read_host(machine.library, source, nbytes)  # the program may change its memory from now on
    run = machine.guarded(stream.context, lambda: _move(machine, target, given, nbytes))
    queued = machine.streams.queue(stream, f"copy {kind} of {nbytes} bytes", run)
    if stream.capture is None and not staged and (landed or (wait and kind != "D2D")):
        machine.wait([queued], stream.context)


def _kind(machine, target, source):
    return f"{'D' if machine.space.is_device(source) else 'H'}2{'D' if machine.space.is_device(target) else 'H'}"


@call("cuMemcpyHtoD_v2", "qqq", unsafe=True)
def host_to_device(machine, target, source, nbytes):
    copy(machine, target, source, nbytes, machine.stream(0), "H2D", wait=True)


@call("cuMemcpyDtoH_v2", "qqq", unsafe=True)
def device_to_host(machine, target, source, nbytes):
    copy(machine, target, source, nbytes, machine.stream(0), "D2H", wait=True)


@call("cuMemcpyDtoD_v2", "qqq", unsafe=True)
def device_to_device(machine, target, source, nbytes):
    copy(machine, target, source, nbytes, machine.stream(0), "D2D", wait=True)


@call("cuMemcpy", "qqq", unsafe=True)
def copy_any(machine, target, source, nbytes):
    copy(machine, target, source, nbytes, machine.stream(0), _kind(machine, target, source), wait=True)


@call("cuMemcpyHtoDAsync_v2", "qqqq")
def host_to_device_async(machine, target, source, nbytes, stream):
    copy(machine, target, source, nbytes, machine.stream(stream), "H2D", wait=False)


@call("cuMemcpyDtoHAsync_v2", "qqqq")
def device_to_host_async(machine, target, source, nbytes, stream):
    copy(machine, target, source, nbytes, machine.stream(stream), "D2H", wait=False)


@call("cuMemcpyDtoDAsync_v2", "qqqq")
def device_to_device_async(machine, target, source, nbytes, stream):
    copy(machine, target, source, nbytes, machine.stream(stream), "D2D", wait=False)


@call("cuMemcpyAsync", "qqqq")
def copy_any_async(machine, target, source, nbytes, stream):
    copy(machine, target, source, nbytes, machine.stream(stream), _kind(machine, target, source), wait=False)


# ------------------------------------------------------------------ fills


def fill(machine, target, pattern, count, stream):
    nbytes = len(pattern) * count
    if not nbytes:
        return
    _usable(machine, target, nbytes, True)

    def run():
        why = machine.space.why_not(target, nbytes)
        if why:
            raise Failure("ILLEGAL_ADDRESS", f"a fill of {why}")
        ctypes.memmove(target, pattern * count, nbytes)
        return Footprint([], [(target, target + nbytes)], [])

    machine.streams.queue(stream, f"fill of {nbytes} bytes", machine.guarded(stream.context, run))


def _fills(bits, kind):
    size = bits // 8

    @call(f"cuMemsetD{bits}_v2", f"q{kind}q", unsafe=True)
    def fill_now(machine, target, value, count):
        fill(machine, target, value.to_bytes(size, "little"), count, machine.stream(0))

    @call(f"cuMemsetD{bits}Async", f"q{kind}qq")
    def fill_async(machine, target, value, count, stream):
        fill(machine, target, value.to_bytes(size, "little"), count, machine.stream(stream))


_fills(8, "c")
_fills(16, "h")
_fills(32, "u")


# ------------------------------------------------------------------ stream-ordered


def _allocate_in(machine, out, nbytes, stream):
    if not nbytes:
        raise CudaError("INVALID_VALUE", "an allocation of no bytes")
    context = stream.context
    made = machine.space.allocate(nbytes, DEVICE, context.device, context, live=False)
    made.pooled = True

    def run():
        machine.space.begin(made)
        return Footprint([], [(made.address, made.end)], [])

    machine.streams.queue(stream, f"allocation of {nbytes} bytes", machine.guarded(context, run))
    put_handle(out, made.address)


@call("cuMemAllocAsync", "qqq")
def allocate_async(machine, out, nbytes, stream):
    _allocate_in(machine, out, nbytes, machine.stream(stream))


@call("cuMemAllocFromPoolAsync", "qqqq")
def allocate_from_pool(machine, out, nbytes, pool, stream):
    _allocate_in(machine, out, nbytes, machine.stream(stream))


@call("cuMemFreeAsync", "qq")
def free_async(machine, address, stream):
    stream = machine.stream(stream)
    if not address:
        return
    found = machine.space.start(address)

    def run():
        if not found.live:
            raise Failure("ILLEGAL_ADDRESS", f"a free of {found}")
        machine.space.end(found)
        if not captured:
            machine.space.give_back(found)
        return Footprint([], [(found.address, found.end)], [])

    captured = stream.capture is not None
    machine.streams.queue(stream, f"free of {found.nbytes} bytes", machine.guarded(stream.context, run))


class Pool:
    def __init__(self, handle, device):
        self.handle, self.device, self.attributes = handle, device, {}


def _pool(machine, ordinal):
    for made in machine.objects.values():
        if isinstance(made, Pool) and made.device == ordinal:
            return made
    return machine.new(Pool, ordinal)


@call("cuDeviceGetDefaultMemPool", "qi", context=False)
def default_pool(machine, out, ordinal):
    put_handle(out, _pool(machine, ordinal).handle)


@call("cuDeviceGetMemPool", "qi", context=False)
def device_pool(machine, out, ordinal):
    put_handle(out, _pool(machine, ordinal).handle)


@call("cuMemPoolGetAttribute", "qiq", context=False)
def pool_attribute(machine, pool, attribute, out):
    value = machine.get(Pool, pool).attributes.get(attribute, 1 if attribute < 4 else 0)
    if attribute < 4:
        put_int(out, value)
    else:
        put(out, ctypes.c_uint64, value)


@call("cuMemPoolSetAttribute", "qiq", context=False)
def set_pool_attribute(machine, pool, attribute, value):
    kind = ctypes.c_int if attribute < 4 else ctypes.c_uint64
    machine.get(Pool, pool).attributes[attribute] = kind.from_address(value).value


@call("cuMemPoolTrimTo", "qq", context=False)
def trim_pool(machine, pool, least):
    """Freed memory is given back at once here."""
