"""Machine code that is loaded, and launches of it: what they demand, and how they run in the emulator."""

import ctypes
import hashlib
import itertools
import struct
import traceback

from .. import emulator
from ..emulator.memory import state
from . import devices
from .cubin import BadImage, Cubin, length, short
from .errors import CudaError

# CU_FUNC_ATTRIBUTE_*
MAX_THREADS, STATIC_SHARED, REGISTERS, BINARY_VERSION, MAX_DYNAMIC = 0, 1, 4, 6, 8
LAUNCH_PARAM_END, LAUNCH_PARAM_BUFFER, LAUNCH_PARAM_SIZE = 0, 1, 2
FORMATS = {"float": "<f", "double": "<d", "half": "<e"}


class Programs:
    """The emulator's kernel for each kernel in machine code, made when it first runs."""

    def __init__(self):
        self._makers, self._made = {}, {}

    def add(self, image, make):
        """`make(name)` gives the emulator's kernel of that name for this machine code."""
        self._makers[hashlib.sha256(image).digest()] = make

    def find(self, cubin, name):
        digest = hashlib.sha256(cubin.image).digest()
        if (digest, name) not in self._made:
            if digest not in self._makers:
                raise LookupError(
                    f"nothing is known of the machine code of {short(name)} but its bytes: `programs.add` it"
                )
            self._made[digest, name] = self._makers[digest](name)
        return self._made[digest, name]


class Module:
    """Machine code that was loaded, for one context or (a library) for all."""

    def __init__(self, handle, cubin, context=None):
        self.handle, self.cubin, self.context, self.unloaded = handle, cubin, context, False
        self.functions = {}


class Function:
    """A kernel of a module; `dynamic` is how much dynamic shared memory was opted in to, by device."""

    def __init__(self, handle, module, entry):
        self.handle, self.module, self.entry = handle, module, entry
        self.dynamic = {}

    def most_dynamic(self, device):
        return self.dynamic.get(device, devices.SHARED - self.entry.static_shared)

    def allow(self, device, nbytes):
        if not 0 <= nbytes <= devices.SHARED_OPTIN - self.entry.static_shared:
            raise CudaError("INVALID_VALUE", f"{nbytes} bytes of dynamic shared memory")
        self.dynamic[device] = nbytes

    def attribute(self, number, device):
        entry = self.entry
        major, minor = self.module.cubin.capability
        return {
            MAX_THREADS: most_threads(entry),
            STATIC_SHARED: entry.static_shared,
            REGISTERS: entry.registers,
            BINARY_VERSION: 10 * major + minor,
            MAX_DYNAMIC: self.most_dynamic(device),
        }.get(number, 0)


def most_threads(entry):
    """Threads that a block may have: 256 registers at a time go to a warp."""
    warps = devices.REGISTERS // max(256, -(-entry.registers * 32 // 256) * 256)
    return min(entry.max_threads, devices.THREADS, 32 * warps)


def read_image(library, address):
    """The cubin at an address."""

    def read(offset, size):
        return read_host(library, address + offset, size)

    try:
        return Cubin(read(0, length(read)))
    except (BadImage, struct.error) as error:
        raise CudaError("INVALID_IMAGE", str(error)) from error


def read_host(library, address, size):
    """Bytes of the program's memory; raises where there are none."""
    out = ctypes.create_string_buffer(max(1, size))
    if size and not library.fake_read(address, size, out):
        raise CudaError("INVALID_VALUE", f"{size} bytes at 0x{address:x} cannot be read")
    return out.raw[:size]


def check_shape(function, device, grid, block, shared):
    """Raise for a grid, a block, or shared memory that the device or the machine code cannot have."""
    entry, threads = function.entry, block[0] * block[1] * block[2]
    for name, value, limit in zip("xyz" * 2, (*grid, *block), (*devices.GRID, *devices.BLOCK), strict=True):
        if not 0 < value <= limit:
            raise CudaError("INVALID_VALUE", f"{entry.title}: grid {grid}, block {block}: {name} is {value} of {limit}")
    if threads > devices.THREADS:
        raise CudaError("INVALID_VALUE", f"{entry.title}: {threads} threads in a block")
    if threads > most_threads(entry):
        why = f"{entry.title}: {threads} threads of {entry.registers} registers; compiled for {entry.max_threads}"
        raise CudaError("LAUNCH_OUT_OF_RESOURCES", why)
    allowed = function.most_dynamic(device.ordinal)
    if shared > allowed:
        raise CudaError("INVALID_VALUE", f"{entry.title}: {shared} bytes of dynamic shared memory; {allowed} allowed")
    if not device.runs(function.module.cubin.capability):
        raise CudaError("NO_BINARY_FOR_GPU", f"{entry.title} is for {function.module.cubin.capability}")


def read_arguments(library, entry, params, extra):
    """The bytes of each argument, by the machine code's own table."""
    table = entry.parameters
    if extra:
        return _from_buffer(library, entry, extra)
    if not params and table:
        raise CudaError("INVALID_VALUE", f"{entry.title} has {len(table)} parameters, and no arguments were given")
    cells = struct.unpack(f"<{len(table)}Q", read_host(library, params, 8 * len(table)))
    order = sorted(range(len(table)), key=lambda k: cells[k])
    for k, following in itertools.pairwise(order):
        if cells[following] != cells[k] and cells[following] - cells[k] < table[k].size:
            raise CudaError(
                "INVALID_VALUE",
                f"{entry.title}: argument {k} has {cells[following] - cells[k]} bytes; {table[k].size} are needed",
            )
        if cells[following] - cells[k] == 8 > table[k].size:
            _check_word(library, entry, k, cells[k])
    out = []
    for k, (cell, parameter) in enumerate(zip(cells, table, strict=True)):
        try:
            out.append(read_host(library, cell, parameter.size))
        except CudaError as error:
            why = f"{entry.title} has {len(table)} parameters, and argument {k} cannot be read: are there so many?"
            raise CudaError("INVALID_VALUE", why) from error
    return out


def _check_word(library, entry, k, cell):
    """Arguments that have a word each: what is not read of one is 0, or copies of the sign."""
    size = entry.parameters[k].size
    word = read_host(library, cell, 8)
    rest = word[size:]
    if rest not in (b"\0" * len(rest), b"\xff" * len(rest)):
        why = f"{entry.title}: argument {k} seems to have 8 bytes ({word.hex()}); {size} are read"
        raise CudaError("INVALID_VALUE", why)


def _from_buffer(library, entry, extra):
    found, at = {}, extra
    while (key := struct.unpack("<Q", read_host(library, at, 8))[0]) != LAUNCH_PARAM_END:
        found[key] = struct.unpack("<Q", read_host(library, at + 8, 8))[0]
        at += 16
    size = struct.unpack("<Q", read_host(library, found[LAUNCH_PARAM_SIZE], 8))[0]
    needed = max((p.offset + p.size for p in entry.parameters), default=0)
    if size < needed:
        raise CudaError("INVALID_VALUE", f"{entry.title}: {size} bytes of arguments; {needed} are needed")
    data = read_host(library, found[LAUNCH_PARAM_BUFFER], size)
    return [data[p.offset : p.offset + p.size] for p in entry.parameters]


def values(kernel, raw, space, device):
    """The arguments as the emulator takes them; raises for what cannot be meant."""
    kinds = kernel.kinds
    if len(raw) != len(kinds):
        raise CudaError("INVALID_VALUE", f"{short(kernel.name)}: {len(raw)} arguments for {len(kinds)} parameters")
    out = []
    for k, (kind, data) in enumerate(zip(kinds, raw, strict=True)):
        if kind in FORMATS:
            out.append(struct.unpack(FORMATS[kind], data)[0])
            continue
        number = int.from_bytes(data, "little", signed=kind != "ptr")
        out.append(number)
        if kind != "ptr" or number == 0:
            continue
        found = space.at(number) or space.at(number - 1)
        if found is None:
            raise CudaError("INVALID_VALUE", f"{short(kernel.name)}: argument {k} is 0x{number:x}, which is no address")
        if found.device not in (None, device.ordinal) and not found.managed:
            raise CudaError(
                "INVALID_VALUE", f"{short(kernel.name)}: argument {k} is {found}, and runs on {device.name}"
            )
    return out


class Failure(Exception):
    """A kernel failed while it ran: the name of the error, and what is known of it."""

    def __init__(self, code, why):
        super().__init__(why)
        self.code = code


def emulate(kernel, grid, block, arguments, shared, random, space):
    """Run it; returns its footprint."""
    order = random.choice(("forward", "reverse", "random"))
    try:
        return kernel(
            *(grid, block, *arguments), shared_bytes=shared, order=order, seed=random.randrange(1 << 30), footprint=True
        )
    except emulator.BadAccess as error:
        code = "MISALIGNED_ADDRESS" if str(error).startswith("misaligned") else "ILLEGAL_ADDRESS"
        there = space.at(int(state.wide("address")[0]))
        gone = f"; that is {there}" if there is not None and not there.live else ""
        raise Failure(code, f"{short(kernel.name)}: {error}{gone}") from error
    except (emulator.Divergence, emulator.Race) as error:
        raise Failure("LAUNCH_FAILED", f"{short(kernel.name)}: {error}") from error
    except Exception as error:
        raise Failure("UNKNOWN", f"{short(kernel.name)}: {traceback.format_exc()}") from error
