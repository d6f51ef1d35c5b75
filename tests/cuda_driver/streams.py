"""Contexts, streams and events: in which order what is queued may run."""

from .errors import CudaError
from .operations import Operation

LEGACY, PER_THREAD, BLOCKING, NON_BLOCKING = "legacy", "per-thread", "blocking", "non-blocking"


class Context:
    def __init__(self, handle, device, primary=False):
        self.handle, self.device, self.primary = handle, device, primary
        self.legacy = Stream(1, self, LEGACY)
        self.threads = {}
        self.streams = []
        self.left = []  # what streams had queued that were destroyed
        self.error = None  # the name of the error that made it unusable
        self.uses = 0  # of a primary context: by whom it is retained
        self.destroyed = False

    def blocking(self):
        """The streams that the legacy stream waits for, and that wait for it."""
        return [s for s in (*self.streams, *self.threads.values()) if s.kind != NON_BLOCKING]

    def queued(self):
        """The last operations of all streams."""
        self.left = [x for x in self.left if not x.done]
        return [*self.left, *(x for s in (self.legacy, *self.streams, *self.threads.values()) for x in s.tail)]

    def __str__(self):
        return f"the {'primary ' if self.primary else ''}context of device {self.device}"


class Stream:
    def __init__(self, handle, context, kind, priority=0):
        self.handle, self.context, self.kind, self.priority = handle, context, kind, priority
        self.tail = []  # the last operations: what comes next waits for them
        self.capture = None
        self.nodes = []  # while it is captured: what its next node depends on

    def __str__(self):
        name = {LEGACY: "the legacy default stream", PER_THREAD: "a per-thread default stream"}
        return name.get(self.kind) or f"{self.kind} stream 0x{self.handle:x}"

    def before(self):
        """What an operation that is queued now comes after."""
        if self.kind == LEGACY:
            return [*self.tail, *self.context.left, *(x for s in self.context.blocking() for x in s.tail)]
        if self.kind == NON_BLOCKING:
            return self.tail
        return [*self.tail, *self.context.legacy.tail]


class Event:
    def __init__(self, handle, context, timing):
        self.handle, self.context, self.timing = handle, context, timing
        self.operation = None  # the mark in the stream that it was recorded on
        self.captured = None  # (capture, nodes) where it was recorded on a captured stream
        self.polls = 0


class Streams:
    """Queues operations on streams, or puts them into the graph that a stream is being captured into."""

    def __init__(self, engine):
        self.engine = engine

    def queue(self, stream, name, run=None, after=(), node=None):
        """`run()` does it and returns its footprint; `node` makes the same for each replay, where that differs."""
        name = f"{name} on {stream}" if run is not None else name
        if stream.capture is not None:
            return stream.capture.add(stream, name, node or (lambda: run))
        self.refuse_implicit(stream)
        operation = Operation(name, stream.context, run, [*stream.before(), *after])
        self.engine.add(operation)
        stream.tail = [operation]
        return operation

    @staticmethod
    def refuse_implicit(stream):
        """The legacy stream would wait for streams that are being captured."""
        if stream.kind != LEGACY:
            return
        captured = [s for s in stream.context.blocking() if s.capture is not None]
        if captured:
            for s in captured:
                s.capture.invalidate("a use of the legacy default stream, which would wait for a captured stream")
            raise CudaError("STREAM_CAPTURE_IMPLICIT", f"{captured[0]} is being captured")

    def record(self, event, stream):
        event.polls = 0
        if stream.capture is not None:
            stream.capture.check()
            event.captured = stream.capture, list(stream.nodes)
            event.operation = None
            return
        event.captured = None
        event.operation = self.queue(stream, f"record of event 0x{event.handle:x}")

    def wait_event(self, stream, event):
        if event.captured is not None:
            capture, nodes = event.captured
            if capture.ended:
                raise CudaError("CAPTURED_EVENT", "the event was recorded in a capture that has ended")
            if stream.capture is None:
                capture.join(stream)
            elif stream.capture is not capture:
                stream.capture.invalidate("a wait for an event of another capture")
                capture.invalidate("a wait for its event in another capture")
                raise CudaError("STREAM_CAPTURE_MERGE")
            stream.nodes = list({id(n): n for n in (*stream.nodes, *nodes)}.values())
            return
        if stream.capture is not None:
            if event.operation is not None:
                stream.capture.invalidate("a wait for an event that was recorded outside of the capture")
                raise CudaError("STREAM_CAPTURE_ISOLATION")
            return
        if event.operation is not None:
            self.queue(stream, f"wait for event 0x{event.handle:x}", after=[event.operation])
