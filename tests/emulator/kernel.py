"""Kernels: compiled for the CPU from numba-cuda's LLVM IR, and run one thread at a time."""

import ctypes
import functools
import itertools
import warnings
import weakref

import numpy as np

from . import build, ir, ptx, races
from .memory import GARBAGE, MAX_SHARED, REDZONE, BadAccess, Region, state
from .shadow import History, Race, cells_of, cells_of_views
from .warp import Divergence, Scheduler

ORDERS = ("forward", "reverse", "random")
history = History(state)


def compile(function, signature, capability=(9, 0), shared=0):
    """A Python function (or a dispatcher's) as a kernel for these argument types: `kernel(grid, block, *arguments)`.

    `shared` is how many bytes of dynamic shared memory a launch has that does not say.
    """
    function = getattr(function, "py_func", function)
    made, key = _compiled.setdefault(function, {}), (tuple(signature), tuple(capability), shared)
    if key not in made:
        texts, name = _kernel_ir(function, *key[:2])
        made[key] = Kernel(texts, name, key[0], shared)
    return made[key]


_compiled = weakref.WeakKeyDictionary()


def _kernel_ir(function, signature, capability):
    import numba.cuda.dispatcher as dispatcher
    from numba import types
    from numba.cuda.compiler import compile_cuda, kernel_fixup

    device = type("Device", (), {"compute_capability": capability})
    original = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: device
    try:
        options = {"fastmath": False, "opt": 3}
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Could not find source")  # the source of generated kernels is not on disk
            made = compile_cuda(function, types.void, signature, cc=capability, nvvm_options=options, lineinfo=True)
        kernel = made.library.get_function(made.fndesc.llvm_func_name)
        kernel_fixup(kernel, False)
        return made.library.llvm_strs, kernel.name
    finally:
        dispatcher.get_current_device = original


def _triple(value):
    value = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    return (*map(int, value), 1, 1, 1)[:3]


class Kernel:
    """A compiled kernel."""

    def __init__(self, texts, name, signature, shared=0):
        self.name, self.signature, self._default_shared = name, signature, shared
        self._place_shared(ir.shared_arrays(texts))
        machine = build.machine()
        common = state.runtime()
        hosts, asm = ir.host(texts, name, {k: a for k, (a, _) in self._shared.items()})
        library, asm = ir.library(hosts, asm, state.address("words"))
        text = build.simplified([*hosts, f"{library}\n{common}"], machine)
        unknown = [n for n, _, _ in ir.undefined(text)]
        if unknown:
            raise NotImplementedError(f"the emulator does not know {[asm[n][0] if n in asm else n for n in unknown]}")
        self._cache = np.zeros((text.count("\n") + 1, build.CACHE_BYTES // 8), np.uint64)
        made = build.Instrument(text, name, state.known(), self._cache.ctypes.data)
        program = made.program()
        self.text, self.sites, self.kinds = program, made.sites, made.arguments
        self._layout = made.layout()
        traced = races.functions(self._layout, *map(state.address, ("words", "known_rounds")), state.span("pool"))
        self._engine = build.link(f"{program}\n{common}\n{traced}", machine)
        step = self._engine.get_function_address("emu.step")
        pointer = ctypes.c_void_p
        self._step = ctypes.CFUNCTYPE(None, pointer, pointer, pointer, ctypes.c_uint64)(step)
        self._constants = [
            Region(address, size, writable, f"the constant {constant}")
            for constant, size, writable in made.constants()
            if (address := self._engine.get_global_value_address(constant))
        ]

    @property
    def barriers(self):
        """The numbers of the sites that order memory, and their lines: `syncthreads` and its like, and `syncwarp`."""
        return {n: site.line for n, site in enumerate(self.sites) if site.kind in ptx.ORDERING}

    def _place_shared(self, arrays):
        """Where the arrays of shared memory lie: at no better alignment than was asked for."""
        self._shared, self._memory, self._launched = {}, [], {}
        static = {name: x for name, x in arrays.items() if x[0]}
        for name, (size, align) in static.items():
            buffer = np.empty(size + 2 * REDZONE + 4 * align, np.uint8)
            start = -(-(buffer.ctypes.data + REDZONE) // (2 * align)) * 2 * align + align
            self._shared[name] = (start, size)
            self._memory.append(buffer)
        dynamic = {name: align for name, (size, align) in arrays.items() if not size}
        if dynamic:
            align = max(dynamic.values())
            step = 2 * align if static else 1024
            base = -(-(state.address("dynamic") + REDZONE) // step) * step + (align if static else 0)
            self._shared |= dict.fromkeys(dynamic, (base, 0))

    def __call__(
        self,
        grid,
        block,
        *arguments,
        shared_bytes=None,
        order="forward",
        seed=0,
        races=True,
        footprint=False,
        ignore=(),
    ):
        """Run a grid; `order` is that of the threads between two barriers, and of the blocks.

        With `footprint` return which global memory it touched.  Without `races`, accesses that are not ordered are let
        pass.  What waits at one of the sites `ignore` waits, but is not ordered: a race shows that it is needed there.
        """
        shared_bytes = self._default_shared if shared_bytes is None else int(shared_bytes)
        if order not in ORDERS:
            raise ValueError(f"order is {order!r}; one of {ORDERS} is needed")
        grid, block = _triple(grid), _triple(block)
        count = int(np.prod(block))
        if not 0 < count <= ptx.MAX_THREADS or min(grid) < 1:
            raise ValueError(f"a grid of {grid} blocks of {block} threads")
        if footprint and not races:
            raise ValueError("footprint=True needs races=True: they are made of the same marks")
        static = sum(size for _, size in self._shared.values())
        if static + shared_bytes > MAX_SHARED:
            raise ValueError(f"{static} + {shared_bytes} bytes of shared memory; at most {MAX_SHARED}")
        with state.lock:
            packed, temporary = self._pack(arguments)
            shared = self._shared_regions(shared_bytes)
            arrays = [*state.registered.values()]
            regions = [*shared, *arrays, *temporary, *self._constants]
            cells, places = [], [0] * len(regions)
            if races:
                cells = [cells_of(region, self._layout) for region in (*shared, *arrays)]
                cells += cells_of_views(temporary, self._layout)
                places[: len(cells)] = [c.place for c in cells]
            state.list_regions(regions, places)
            self._cache[:] = 0
            state.words[3:6], state.words[9:12] = block, grid
            state.set("dynamic", shared_bytes)
            blocks = list(itertools.product(*(range(n) for n in reversed(grid))))
            random = np.random.default_rng(seed)
            if order != "forward":
                blocks = blocks[::-1] if order == "reverse" else random.permutation(blocks).tolist()
            history.begin_launch()
            for z, y, x in blocks:
                for region in shared:
                    ctypes.memset(region.address, GARBAGE, region.nbytes)
                for kept in cells[: len(shared)]:
                    kept.forget()
                state.words[6:9] = x, y, z
                history.begin_block((x, y, z))
                self._run_block(packed, count, order, random, regions, ignore)
            if footprint:
                touched = state.touched(len(cells))[len(shared) :]
                return history.footprint([c for c, t in zip(cells[len(shared) :], touched, strict=True) if t])

    def _shared_regions(self, dynamic_bytes):
        """The arrays of shared memory in a launch that has this much of the dynamic kind."""
        if dynamic_bytes not in self._launched:
            places = {(a, s or dynamic_bytes): name for name, (a, s) in self._shared.items()}
            made = [Region(a, s, True, f"the shared array {name}") for (a, s), name in places.items()]
            self._launched[dynamic_bytes] = made
        return self._launched[dynamic_bytes]

    def _run_block(self, packed, count, order, random, regions, ignore):
        status = state.status[:count]
        status[:] = ptx.RUNNING
        state.set("failed", 0)
        state.wide("cursor")[0] = state.address("arena")
        handles = np.zeros(count, np.uint64)
        turn = np.arange(count, dtype=np.uint32)
        if order == "reverse":
            turn = turn[::-1].copy()
        orders = functools.partial(history.waited, ignore=ignore)
        scheduler = Scheduler(state, count, orders, self._describe, lambda site: self.sites[site].line or "?")
        while True:
            if order == "random":
                turn = random.permutation(count).astype(np.uint32)
            state.set("spins", 0)
            self._step(packed.ctypes.data, handles.ctypes.data, turn.ctypes.data, count)
            failed = state.words[ptx.WORDS["failed"]]
            if failed == ptx.SPINNING:
                who = self._describe(int(state.words[ptx.WORDS["thread"]]))
                raise Divergence(f"{who} seems to wait in a loop for what another thread does: none runs meanwhile")
            if failed == ptx.RACE:
                raise Race(self._conflict(regions))
            if failed == ptx.EXHAUSTED:
                raise MemoryError("too many loads of the same memory by threads that wait for only some of the others")
            if failed:
                raise BadAccess(self._complaint(regions))
            if (status == ptx.DONE).all():
                return
            scheduler.release()
            history.next_round()

    def _describe(self, thread, block=None):
        """A thread in words, of the present block if none is named."""
        w = state.words
        x, y = (int(v) for v in w[3:5])
        place = (thread % x, thread // x % y, thread // x // y)
        return f"thread {place} of block {block or tuple(int(v) for v in w[6:9])}"

    def _conflict(self, regions):
        """What a race is between."""
        w, address = state.words, int(state.wide("address")[0])
        block, thread, number = history.access(int(state.wide("other")[0]))
        second = self._access(int(w[ptx.WORDS["site"]]), int(w[ptx.WORDS["thread"]]))
        near = min(regions, key=lambda r: _distance(r, address, 1))
        where = f"at byte {max(0, address - near.address)} of {near.name} ({near.nbytes} bytes)"
        return f"{where}: {second}, and before it {self._access(number, thread, block)}; nothing orders them"

    def _access(self, number, thread, block=None):
        site = self.sites[number]
        line = f", at {site.line}" if site.line else ""
        return f"{site.word} of {site.size or 'several'} bytes by {self._describe(thread, block)}{line}"

    def _complaint(self, regions):
        w = state.words
        site = self.sites[int(w[ptx.WORDS["site"]])]
        address = int(state.wide("address")[0])
        who = self._describe(int(w[ptx.WORDS["thread"]]))
        what = f"{site.word} of {site.size or 'several'} bytes"
        who += f", at {site.line}" if site.line else ""
        if site.local:
            offset = address - (1 << 64) if address >> 63 else address
            return f"{what} at byte {offset} of the thread's own array of {site.local} bytes, by {who}"
        near = min(regions, key=lambda r: _distance(r, address, site.size), default=None)
        if near is None:
            return f"{what} at 0x{address:x}, by {who}: no memory is registered"
        where = f"at byte {address - near.address} of {near.name} ({near.nbytes} bytes)"
        if address % site.align:
            why = f"misaligned: 0x{address:x} is no multiple of {site.align}"
        elif _distance(near, address, site.size):
            why = "out of bounds"
        else:
            why = "read-only"
        return f"{why}: {what} {where}, by {who}"

    def _pack(self, arguments):
        from numba import types

        signature = self.signature
        if len(arguments) == len(self.kinds):  # as a launch passes them: no tuples
            signature = [types.none] * len(arguments) if len(arguments) != len(signature) else signature
        elif len(arguments) != len(signature):
            raise TypeError(f"{len(arguments)} arguments for {len(self.signature)} parameters")
        flat, temporary = [], []

        def add(kind, value):
            if isinstance(kind, types.Array):
                start, name = value.ctypes.data, f"array argument {len(temporary)}"
                temporary.append(Region(start, value.nbytes, value.flags.writeable, name))
                flat.extend([0, 0, value.size, value.itemsize, start, *value.shape, *value.strides])
            elif isinstance(kind, types.BaseTuple):
                value = value if isinstance(value, tuple) else (value,)  # the only element of a tuple, spread out
                for k, v in zip(kind, value, strict=True):
                    add(k, v)
            elif isinstance(kind, types.Complex):
                flat.extend([value.real, value.imag])
            else:
                flat.append(value)

        for kind, value in zip(signature, arguments, strict=True):
            add(kind, value)
        if len(flat) != len(self.kinds):
            raise TypeError(f"{len(flat)} values for {len(self.kinds)} parameters ({', '.join(self.kinds)})")
        packed = np.zeros((max(1, len(flat)), 16), np.uint8)
        for row, kind, value in zip(packed, self.kinds, flat, strict=False):
            raw = _bytes(kind, value)
            row[: len(raw)] = np.frombuffer(raw, np.uint8)
        return packed, temporary


def _bytes(kind, value):
    if kind in ("float", "double", "half"):
        return np.array(value, {"float": np.float32, "double": np.float64, "half": np.float16}[kind]).tobytes()
    bits = 64 if kind == "ptr" else int(kind[1:])
    if isinstance(value, np.float16):
        value = int(value.view(np.uint16))
    size = max(1, bits // 8)
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def _distance(region, address, size):
    """How many bytes lie between an access and a region; 0 where it is inside."""
    return max(0, region.address - address, address + size - region.address - region.nbytes)
