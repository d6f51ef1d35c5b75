"""Captures of streams into graphs, and graphs: what was recorded, to be run again."""

from .errors import CudaError
from .operations import Operation, place
from .streams import LEGACY

GLOBAL, THREAD_LOCAL, RELAXED = range(3)


class Node:
    """One operation of a graph; `make()` gives what runs in one replay of it."""

    def __init__(self, name, make, after, context):
        self.name, self.make, self.after, self.context = name, make, after, context
        self.place = place()


class Graph:
    def __init__(self, handle):
        self.handle, self.nodes = handle, []
        self.objects = []  # of the program, which live as long


class Capture:
    """A capture that goes on: a graph grows by what is queued on its streams."""

    def __init__(self, number, graph, stream, mode, thread):
        self.number, self.graph, self.origin, self.mode, self.thread = number, graph, stream, mode, thread
        self.invalid, self.ended = None, False
        self.streams = []
        self.join(stream)

    def join(self, stream):
        if stream.kind == LEGACY:
            raise CudaError("STREAM_CAPTURE_IMPLICIT", "the legacy default stream cannot be captured")
        stream.capture, stream.nodes = self, []
        self.streams.append(stream)

    def check(self):
        if self.invalid is not None:
            raise CudaError("STREAM_CAPTURE_INVALIDATED", self.invalid)

    def invalidate(self, why):
        self.invalid = self.invalid or why

    def add(self, stream, name, make):
        self.check()
        node = Node(name, make, list(stream.nodes), stream.context)
        self.graph.nodes.append(node)
        stream.nodes = [node]
        return node

    def end(self, stream, thread):
        """The graph; raises where the capture was spoiled."""
        if stream is not self.origin:
            self.invalidate("its end on another stream than its beginning")
            raise CudaError("STREAM_CAPTURE_UNMATCHED")
        if thread != self.thread and self.mode != RELAXED:
            raise CudaError("STREAM_CAPTURE_WRONG_THREAD")
        joined = set()
        stack = list(stream.nodes)
        while stack:
            node = stack.pop()
            if id(node) not in joined:
                joined.add(id(node))
                stack += node.after
        left = [n for n in self.graph.nodes if id(n) not in joined]
        self.ended = True
        for s in self.streams:
            s.capture, s.nodes = None, []
        self.check()
        if left:
            raise CudaError("STREAM_CAPTURE_UNJOINED", f"nothing in the first stream waits for: {left[0].name}")
        return self.graph


class Executable:
    """A graph that can be launched: a copy of the nodes that there were."""

    def __init__(self, handle, graph):
        self.handle, self.nodes, self.objects = handle, list(graph.nodes), list(graph.objects)
        self.last = []

    def launch(self, streams, stream):
        """Queue all nodes; one launch of it comes after the other."""
        if stream.capture is not None:
            self._into(stream)
            return
        streams.refuse_implicit(stream)
        made, where = {}, place()
        begin = [*stream.before(), *self.last]
        for node in self.nodes:
            after = [made[id(n)] for n in node.after] or begin
            operation = Operation(f"{node.name} (captured at {node.place})", node.context, node.make(), after)
            operation.place = where
            made[id(node)] = streams.engine.add(operation)
        end = Operation("the end of a graph", stream.context, None, list(made.values()) or begin)
        streams.engine.add(end)
        stream.tail = self.last = [end]

    def _into(self, stream):
        """A graph launched while its stream is captured becomes part of that graph."""
        stream.capture.check()
        made, begin = {}, list(stream.nodes)
        for node in self.nodes:
            copy = Node(node.name, node.make, [made[id(n)] for n in node.after] or begin, node.context)
            made[id(node)] = copy
            stream.capture.graph.nodes.append(copy)
        followed = {id(n) for node in self.nodes for n in node.after}
        stream.nodes = [made[id(n)] for n in self.nodes if id(n) not in followed] or begin


class Captures:
    """Which captures go on, and which calls they forbid."""

    def __init__(self):
        self.going, self.modes = [], {}

    def begin(self, number, graph, stream, mode, thread):
        if stream.capture is not None:
            raise CudaError("ILLEGAL_STATE", "the stream is being captured already")
        if stream.kind == LEGACY:
            raise CudaError("STREAM_CAPTURE_UNSUPPORTED", "the legacy default stream cannot be captured")
        self.going = [c for c in self.going if not c.ended]
        self.going.append(Capture(number, graph, stream, mode, thread))

    def forbid(self, call, thread):
        """Refuse a call that may synchronise or allocate while a capture goes on that does not allow it."""
        own = self.modes.get(thread, GLOBAL)
        if own == RELAXED or not self.going:
            return
        for capture in self.going:
            mine = capture.thread == thread and capture.mode != RELAXED
            if not capture.ended and (mine or (own == GLOBAL and capture.mode == GLOBAL)):
                capture.invalidate(f"{call} at {place()}")
                raise CudaError("STREAM_CAPTURE_UNSUPPORTED", f"{call} while a stream is captured")

    def within(self, context):
        """Captures of a context's streams."""
        return [c for c in self.going if not c.ended and c.origin.context is context]
