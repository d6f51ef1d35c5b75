"""Streams, functions of the host in them, and their capture."""

import ctypes

from ..calls import call, put_handle, put_int
from ..capture import GLOBAL, Graph
from ..errors import CudaError
from ..streams import BLOCKING, NON_BLOCKING, Event, Stream

CAPTURE_NONE, CAPTURE_ACTIVE, CAPTURE_INVALIDATED = range(3)


@call("cuStreamCreate", "qu")
def create(machine, out, flags):
    put_handle(out, machine.new_stream(NON_BLOCKING if flags & 1 else BLOCKING).handle)


@call("cuStreamCreateWithPriority", "qui")
def create_with_priority(machine, out, flags, priority):
    put_handle(out, machine.new_stream(NON_BLOCKING if flags & 1 else BLOCKING, priority).handle)


@call("cuStreamDestroy_v2", "q")
def destroy(machine, handle):
    """What is queued runs nevertheless; a synchronisation of the context waits for it."""
    stream = machine.get(Stream, handle)
    stream.context.streams.remove(stream)
    stream.context.left += [x for x in stream.tail if not x.done]
    machine.forget(stream)


@call("cuStreamGetPriority", "qq")
def priority(machine, stream, out):
    put_int(out, machine.stream(stream).priority)


@call("cuStreamGetFlags", "qq")
def flags(machine, stream, out):
    put_int(out, int(machine.stream(stream).kind == NON_BLOCKING))


@call("cuStreamGetId", "qq")
def identity(machine, stream, out):
    put_handle(out, machine.stream(stream).handle >> 4)


@call("cuStreamGetCtx", "qq")
def context(machine, stream, out):
    put_handle(out, machine.stream(stream).context.handle)


@call("cuStreamGetCtx_v2", "qqq", since=12050)
def context_v2(machine, stream, out, green):
    put_handle(out, machine.stream(stream).context.handle)
    if green:
        put_handle(green, 0)


@call("cuStreamGetDevice", "qq")
def device(machine, stream, out):
    put_int(out, machine.stream(stream).context.device)


def _refuse_captured(stream, what):
    if stream.capture is not None:
        stream.capture.invalidate(what)
        raise CudaError("STREAM_CAPTURE_UNSUPPORTED", f"{what}, which is being captured")
    if stream.kind == "legacy":
        captured = [s for s in stream.context.blocking() if s.capture is not None]
        for s in captured:
            s.capture.invalidate(what)
        if captured:
            raise CudaError("STREAM_CAPTURE_IMPLICIT", f"{what}, which waits for a stream that is being captured")


@call("cuStreamSynchronize", "q")
def synchronize(machine, handle):
    stream = machine.stream(handle)
    _refuse_captured(stream, "a synchronisation of a stream")
    machine.wait(stream.tail, stream.context)


@call("cuStreamQuery", "q")
def query(machine, handle):
    stream = machine.stream(handle)
    _refuse_captured(stream, "a query of a stream")
    polled(machine, stream, stream.tail, stream.context)


def polled(machine, asked, operations, context):
    """Not ready at first; who asks again gets further, so that a loop of queries ends."""
    if any(not x.done for x in operations if x is not None):
        asked.polls = getattr(asked, "polls", 0) + 1
        if asked.polls < 3:
            raise CudaError("NOT_READY")
        asked.polls = 0
    machine.wait(operations, context)


@call("cuStreamWaitEvent", "qqu")
def wait_event(machine, stream, event, flags):
    machine.streams.wait_event(machine.stream(stream), machine.get(Event, event))


# ------------------------------------------------------------------ functions of the host

_HOST_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _host_function(machine, stream, function):
    def run():
        machine.in_host_function = True
        try:
            function()
        finally:
            machine.in_host_function = False

    machine.streams.queue(stream, "a function of the host", run)


@call("cuLaunchHostFunc", "qqq")
def launch_host_function(machine, stream, function, data):
    _host_function(machine, machine.stream(stream), lambda: _HOST_FUNCTION(function)(data))


@call("cuStreamAddCallback", "qqqu")
def add_callback(machine, handle, function, data, flags):
    stream = machine.stream(handle)
    if stream.capture is not None:
        stream.capture.invalidate("a callback")
        raise CudaError("STREAM_CAPTURE_UNSUPPORTED", "callbacks cannot be captured: use a host function")
    _host_function(machine, stream, lambda: _CALLBACK(function)(handle, 0, data))


# ------------------------------------------------------------------ capture


@call("cuStreamBeginCapture_v2", "qi")
def begin_capture(machine, handle, mode):
    graph = machine.new(Graph)
    machine.captures.begin(graph.handle, graph, machine.stream(handle), mode, machine.thread)


@call("cuStreamEndCapture", "qq")
def end_capture(machine, handle, out):
    stream = machine.stream(handle)
    put_handle(out, 0)
    if stream.capture is None:
        raise CudaError("ILLEGAL_STATE", "the stream is not being captured")
    put_handle(out, stream.capture.end(stream, machine.thread).handle)


def _status(stream):
    if stream.kind == "legacy" and any(s.capture for s in stream.context.blocking()):
        raise CudaError("STREAM_CAPTURE_IMPLICIT")
    if stream.capture is None:
        return CAPTURE_NONE
    return CAPTURE_ACTIVE if stream.capture.invalid is None else CAPTURE_INVALIDATED


@call("cuStreamIsCapturing", "qq")
def is_capturing(machine, handle, out):
    put_int(out, _status(machine.stream(handle)))


def _info(machine, handle, status, identity, graph, nodes, edges, count):
    stream = machine.stream(handle)
    put_int(status, _status(stream))
    if stream.capture is None:
        return
    if identity:
        put_handle(identity, stream.capture.number)
    if graph:
        put_handle(graph, stream.capture.graph.handle)
    for place in (nodes, edges):
        if place:
            put_handle(place, 0)
    if count:
        put_handle(count, len(stream.nodes))


@call("cuStreamGetCaptureInfo_v2", "qqqqqq")
def capture_info(machine, handle, status, identity, graph, nodes, count):
    _info(machine, handle, status, identity, graph, nodes, 0, count)


@call("cuStreamGetCaptureInfo_v3", "qqqqqqq", since=12030)
def capture_info_v3(machine, handle, status, identity, graph, nodes, edges, count):
    _info(machine, handle, status, identity, graph, nodes, edges, count)


@call("cuThreadExchangeStreamCaptureMode", "q", context=False)
def exchange_mode(machine, place):
    before = machine.captures.modes.get(machine.thread, GLOBAL)
    machine.captures.modes[machine.thread] = ctypes.c_int.from_address(place).value
    put_int(place, before)
