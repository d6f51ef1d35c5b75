"""The state of the driver: devices, contexts, memory, what is queued; and what happens at each call."""

import functools
import itertools
import threading
import traceback

from . import calls
from .capture import Captures
from .devices import Device
from .engine import Engine
from .errors import NAMES, CudaError
from .kernels import Failure, Programs
from .memory import Space
from .operations import place
from .streams import BLOCKING, PER_THREAD, Context, Stream, Streams

VERSION = 13000  # of the API


class Machine:
    def __init__(self, device_list, seed=0):
        self.lock = threading.RLock()
        self.devices = device_list
        self.faults = []  # what went wrong and no call can say: races, accesses to freed memory, failed kernels
        self.errors = []  # of calls, with more words than a code
        self.log = []  # the names of all calls
        self.launches = 0
        self.engine = Engine(self.report, seed)
        self.space = Space([d.memory for d in device_list])
        self.streams = Streams(self.engine)
        self.captures = Captures()
        self.programs = Programs()
        self.library = None
        self.initialized = self.in_host_function = False
        self.handles = itertools.count(0x5C0000010, 16)
        self.objects = {}
        self.primary = [self.new(Context, d.ordinal, primary=True) for d in device_list]
        self._stacks = {}
        self._failures, self._changed = [], {}

    # ------------------------------------------------------------- what tests ask

    def begin(self):
        """Run what is queued, and forget what was found and recorded."""
        self.settle()
        self.heal()
        self.faults, self.errors, self.log, self.launches = [], [], [], 0

    def fail(self, call=None, error="UNKNOWN", after=0):
        """The next call (of this name), after so many others, fails with an error and does nothing."""
        self._failures.append([call, after, error])

    def fail_kernel(self, error="LAUNCH_FAILED", after=0):
        """The next kernel that runs, after so many others, fails while it runs."""
        self._failures.append(["kernel", after, error])

    def instead(self, name, function):
        """Call `function(original, *arguments)` in the place of a call: a fault that is planted, until `heal`.

        "launch" are launches of kernels by any call: `(function, grid, block, shared, stream, params, extra)`.
        """
        self._changed[name] = function

    def heal(self):
        """Make contexts that have failed usable again, as no device does; forget failures and planted faults."""
        self._failures.clear()
        self._changed.clear()
        for context in [x for x in self.objects.values() if isinstance(x, Context) and x.error is not None]:
            self.engine.drop(context)
            context.error = None

    def settle(self):
        """Run everything that is queued."""
        with self.lock:
            self.engine.wait(list(self.engine.pending.values()))

    def report(self, text, address=None):
        """A fault, to be found in `faults`; of an address, what lies there."""
        found = self.space.at(address) if address is not None else None
        self.faults.append(f"{text} ({found})" if found else text)

    # ------------------------------------------------------------- handles

    def new(self, kind, *arguments, **options):
        handle = next(self.handles)
        made = self.objects[handle] = kind(handle, *arguments, **options)
        return made

    def get(self, kind, handle):
        found = self.objects.get(handle)
        if not isinstance(found, kind):
            raise CudaError("INVALID_HANDLE", f"0x{handle:x} is no {kind.__name__.lower()}")
        return found

    def forget(self, made):
        self.objects.pop(made.handle, None)

    # ------------------------------------------------------------- threads and contexts

    @property
    def thread(self):
        return threading.get_native_id()

    @property
    def stack(self):
        """The calling thread's contexts: the last is current."""
        return self._stacks.setdefault(self.thread, [])

    def current(self):
        """The current context; raises where there is none, or where it has failed."""
        context = self.stack[-1] if self.stack else None
        if context is None or (context.primary and not context.uses):
            raise CudaError("INVALID_CONTEXT", "this thread has no current context")
        if context.destroyed:
            raise CudaError("CONTEXT_IS_DESTROYED")
        if context.error is not None:
            raise CudaError(context.error, "the context has failed")
        return context

    def stream(self, handle):
        """The stream of a handle: 0 and 1 are the legacy default stream, 2 that of the thread."""
        context = self.current()
        if handle in (0, 1):
            return context.legacy
        if handle == 2:
            return context.threads.setdefault(self.thread, Stream(2, context, PER_THREAD))
        found = self.get(Stream, handle)
        if found.context.error is not None:
            raise CudaError(found.context.error, "the stream's context has failed")
        return found

    def new_stream(self, kind=BLOCKING, priority=0):
        made = self.new(Stream, self.current(), kind, priority)
        made.context.streams.append(made)
        return made

    # ------------------------------------------------------------- running

    def guarded(self, context, run):
        """`run`, whose failure spoils the context, as that of a kernel does."""

        def guarded():
            try:
                self._refuse("kernel")
                return run()
            except (Failure, CudaError) as failure:
                code = failure.code if isinstance(failure, Failure) else failure.name
                self.report(f"CUDA_ERROR_{code}: {failure}")
                context.error = code
                return None

        return guarded

    def wait(self, operations, context):
        """Run what the host waits for; raises what went wrong there."""
        self.engine.wait(operations)
        if context.error is not None:
            error = context.error
            self.engine.drop(context)
            raise CudaError(error, "found while waiting")

    # ------------------------------------------------------------- calls

    def handle(self, name, words):
        """A call of the library: its status."""
        call = calls.TABLE[name]
        with self.lock:
            try:
                if not call.always:
                    self.log.append(name)
                    self._admit(call)
                self.run_call(name, call.function, calls.arguments(call.kinds, words))
                return 0
            except CudaError as error:
                if not call.always:
                    self.errors.append(f"{name}: {error}; called at {place()}")
                return error.code
            except Exception:
                self.report(f"the driver for tests itself failed in {name}:\n{traceback.format_exc()}")
                return 999

    def run_call(self, name, function, arguments):
        """A call, or what a test does in its place."""
        if name in self._changed:
            self._changed[name](functools.partial(function, self), *arguments)
        else:
            function(self, *arguments)

    def _admit(self, call):
        if self.in_host_function:
            raise CudaError("NOT_PERMITTED", "a function that a stream calls on the host may not use CUDA")
        if not self.initialized and call.name != "cuInit":
            raise CudaError("NOT_INITIALIZED")
        self._refuse(call.name)
        if call.context:
            self.current()
        if call.unsafe:
            self.captures.forbid(call.name, self.thread)

    def _refuse(self, name):
        for failure in self._failures:
            wanted = failure[0]
            if wanted == name or (wanted is None and name != "kernel"):
                if failure[1] > 0:
                    failure[1] -= 1
                    continue
                self._failures.remove(failure)
                raise CudaError(failure[2], "as the test wanted")


def error_name(code):
    return NAMES.get(code)


__all__ = ["Device", "Machine"]
