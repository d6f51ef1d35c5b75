"""Runs queued operations as late, and in as adverse an order, as what they wait for allows; finds races.

What happens before what is known exactly: each operation has the set of those that precede it, as the bits of an
integer.  Those that the host has waited for precede everything that it queues later.
"""

import contextlib
import gc
import random
import time

from ..emulator import Footprint
from .operations import place


@contextlib.contextmanager
def _no_finalizers():
    """Garbage waits: what frees device memory would wait for the operation that is running, and run it again."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


class Engine:
    """`seed` 0: nothing runs before somebody waits for it, then the youngest that can run goes first.  Any other seed
    draws from what can run, and runs some of it at once."""

    def __init__(self, report, seed=0):
        self.report = report
        self.pending = {}
        self._restart()
        self.reseed(seed)

    def reseed(self, seed):
        self.seed, self.random = seed, random.Random(seed)

    def _restart(self):
        """Number operations from 0 again: all have been done, and the host knows it."""
        self.epoch = getattr(self, "epoch", -1) + 1
        self.count = self.known = self.executed = 0
        self.history = {}

    def add(self, operation):
        """Queue an operation."""
        if not self.pending and self.known == (1 << self.count) - 1:
            self._restart()
        operation.number, operation.epoch = self.count, self.epoch
        operation.place = operation.place or place()
        operation.before = self.known
        for earlier in operation.after:
            operation.before |= self.mask(earlier)
        operation.after = [x for x in operation.after if not x.done]
        self.count += 1
        self.pending[operation.number] = operation
        if self.seed and self.random.random() < 0.3:
            self.require([operation])
        return operation

    def mask(self, operation):
        """The operation and all before it."""
        return operation.before | 1 << operation.number if operation.epoch == self.epoch else 0

    def require(self, operations):
        """Run these, and what they wait for."""
        needed, stack = {}, [x for x in operations if x is not None and not x.done]
        while stack:
            one = stack.pop()
            if one.number not in needed:
                needed[one.number] = one
                stack += [x for x in one.after if not x.done]
        ready = [x for x in needed.values() if all(y.done for y in x.after)]
        followers = {}
        for x in needed.values():
            for y in x.after:
                if not y.done:
                    followers.setdefault(y.number, []).append(x)
        while ready:
            ready.sort(key=lambda x: x.number)
            one = ready.pop(self.random.randrange(len(ready)) if self.seed else -1)
            self._run(one)
            for x in followers.get(one.number, ()):
                if x not in ready and all(y.done for y in x.after):
                    ready.append(x)

    def wait(self, operations):
        """Run these, and let the host know that they are done."""
        operations = [x for x in operations if x is not None]
        self.require(operations)
        for x in operations:
            self.known |= self.mask(x)

    def drop(self, context):
        """Forget what is queued in a context, which has failed."""
        for one in [x for x in self.pending.values() if x.context is context]:
            self._finished(one)

    def _finished(self, one):
        one.done, one.after, one.run = True, [], None
        one.time = time.perf_counter()
        self.pending.pop(one.number, None)
        self.executed |= 1 << one.number

    @_no_finalizers()
    def _run(self, one):
        run = one.run
        footprint = None
        if run is not None and one.context.error is None:
            footprint = run()
        unordered = self.executed & ~one.before
        self._finished(one)
        if footprint is not None:
            self._races(one, footprint, unordered)
            self.history[one.number] = one, footprint

    def _races(self, one, footprint, unordered):
        while unordered:
            number = unordered.bit_length() - 1
            unordered ^= 1 << number
            if number not in self.history:
                continue
            other, others = self.history[number]
            found = conflict(others, footprint)
            if found:
                kind, (start, end) = found
                self.report(
                    f"race: nothing orders [{other}] and [{one}], and {kind} {end - start} bytes at 0x{start:x}",
                    start,
                )


def conflict(first: Footprint, second: Footprint):
    """(what they do, the first range that they share); None where they may run together, as atomics of both may."""
    acts = (("reads", "read"), ("writes", "written"), ("changes atomically", "atomic"))
    for does, one in acts:
        for follows, other in acts:
            shared = None if does == follows != "writes" else overlap(getattr(first, one), getattr(second, other))
            if shared:
                return f"the first {does} and the second {follows}", shared
    return None


def overlap(a, b):
    """The first range that is in both of two sorted lists of ranges."""
    i = j = 0
    while i < len(a) and j < len(b):
        start, end = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if start < end:
            return int(start), int(end)
        if a[i][1] <= b[j][1]:
            i += 1
        else:
            j += 1
    return None
