"""The functions of the driver API, by what they are about."""

from . import contexts, events, graphs, host, launches, memory, streams

__all__ = ["contexts", "events", "graphs", "host", "launches", "memory", "streams"]
