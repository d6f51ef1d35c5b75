"""Events."""

import ctypes

from ..calls import call, put, put_handle
from ..errors import CudaError
from ..streams import Event
from .streams import polled

DISABLE_TIMING = 2


@call("cuEventCreate", "qu")
def create(machine, out, flags):
    put_handle(out, machine.new(Event, machine.current(), not flags & DISABLE_TIMING).handle)


@call("cuEventDestroy_v2", "q")
def destroy(machine, handle):
    machine.forget(machine.get(Event, handle))


def _record(machine, handle, stream):
    event, stream = machine.get(Event, handle), machine.stream(stream)
    if event.context is not stream.context:
        raise CudaError("INVALID_HANDLE", "the event and the stream are of different contexts")
    machine.streams.record(event, stream)


@call("cuEventRecord", "qq")
def record(machine, handle, stream):
    _record(machine, handle, stream)


@call("cuEventRecordWithFlags", "qqu")
def record_with_flags(machine, handle, stream, flags):
    _record(machine, handle, stream)


def _outside(event, what):
    if event.captured is not None:
        event.captured[0].invalidate(what)
        raise CudaError("CAPTURED_EVENT", f"{what} that was recorded in a capture")


@call("cuEventQuery", "q", unsafe=True)
def query(machine, handle):
    event = machine.get(Event, handle)
    _outside(event, "a query of an event")
    polled(machine, event, [event.operation], event.context)


@call("cuEventSynchronize", "q", unsafe=True)
def synchronize(machine, handle):
    event = machine.get(Event, handle)
    _outside(event, "a synchronisation with an event")
    machine.wait([event.operation], event.context)


def _elapsed(machine, out, start, end):
    start, end = machine.get(Event, start), machine.get(Event, end)
    if start.operation is None or end.operation is None or not (start.timing and end.timing):
        raise CudaError("INVALID_HANDLE", "an event that was not recorded, or takes no time")
    if not (start.operation.done and end.operation.done):
        raise CudaError("NOT_READY")
    put(out, ctypes.c_float, 1e3 * (end.operation.time - start.operation.time))


@call("cuEventElapsedTime", "qqq")
def elapsed(machine, out, start, end):
    _elapsed(machine, out, start, end)


@call("cuEventElapsedTime_v2", "qqq", since=12080)
def elapsed_v2(machine, out, start, end):
    _elapsed(machine, out, start, end)
