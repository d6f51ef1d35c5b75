"""A ring of sockets beside the messages of a job: each process hears at once when a neighbour's process has ended.

Engines of messages are no help there: MPI waits for ever for a rank that is gone, or ends all without a word.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import select
import socket
from collections.abc import Iterator
from typing import Any

_SECONDS = 20.0  # to connect


class Ring:
    """Sockets to the rank before and the one after; built by all ranks of `comm` together.

    Raises `OSError` on all ranks where one of them could not connect.
    """

    def __init__(self, comm: Any) -> None:
        self._links: dict[int, _Link] = {}  # by file number; empty in a process that was forked later
        error: str | None = None
        token = comm.all_gather_object(secrets.token_bytes(16))[0]
        with contextlib.ExitStack() as opened:
            server: Any = None
            try:
                server = opened.enter_context(socket.create_server(("", 0), backlog=4))
                server.settimeout(_SECONDS)
                here = (socket.gethostname(), _address(), server.getsockname()[1])
            except OSError as caught:
                here, error = ("", "", 0), str(caught)
            everyone = comm.all_gather_object((here, error))
            if error is None and all(said is None for _, said in everyone):
                try:
                    host, address, port = everyone[(comm.rank + 1) % comm.size][0]
                    place = "127.0.0.1" if host == here[0] else address
                    after = opened.enter_context(socket.create_connection((place, port), _SECONDS))
                    after.sendall(token)
                    before = opened.enter_context(_accepted(server, token))
                    for x in (before, after):
                        x.settimeout(None)
                        x.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                        x.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that is gone says nothing
                        for name, value in (("TCP_KEEPIDLE", 5), ("TCP_KEEPINTVL", 1), ("TCP_KEEPCNT", 4)):
                            if hasattr(socket, name):
                                x.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
                except OSError as caught:
                    error = str(caught)
                everyone = comm.all_gather_object((here, error))
            failed = [f"rank {k}: {said}" for k, (_, said) in enumerate(everyone) if said is not None]
            if failed:
                raise OSError("; ".join(failed))
            opened.pop_all()
        server.close()
        self._links = {x.fileno(): _Link(x, rank) for x, rank in (
            (before, (comm.rank - 1) % comm.size),
            (after, (comm.rank + 1) % comm.size),
        )}  # fmt: skip

    def heard(self, wake: int, seconds: float) -> Iterator[tuple[int, dict[str, Any] | None, Any]]:
        """What neighbours say within so many seconds: `(neighbour, word, link)`; a word of None: it is gone.

        Returns sooner when something can be read from the file `wake`.
        """
        ready, _, _ = select.select([wake, *self._links], [], [], seconds)
        for file in ready:
            link = self._links.get(file)
            if link is None:
                continue
            for word in link.read():
                yield link.rank, word, link
            if link.closed:
                del self._links[file]
                yield link.rank, None, link

    def tell(self, word: dict[str, Any], but: Any = None) -> None:
        """Say something to both neighbours, or to all but the one that it came from."""
        for link in list(self._links.values()):
            if link is not but:
                link.say(word)

    def close(self) -> None:
        """Close the sockets; to be called as well in a process that was forked, which would keep them open."""
        links, self._links = self._links, {}
        for link in links.values():
            link.socket.close()


class _Link:
    """The socket to a neighbour; words are lines of JSON."""

    def __init__(self, socket_: socket.socket, rank: int) -> None:
        self.socket, self.rank, self.closed, self._rest = socket_, rank, False, b""

    def read(self) -> list[dict[str, Any]]:
        try:
            data = self.socket.recv(4096)
        except OSError:
            data = b""
        self.closed = not data
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def say(self, word: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # that it is gone is heard when reading
            self.socket.sendall(json.dumps(word).encode() + b"\n")


def _accepted(server: socket.socket, token: bytes) -> socket.socket:
    """The connection of the one who knows the token."""
    while True:
        connection, _ = server.accept()
        connection.settimeout(_SECONDS)
        said = connection.recv(len(token), socket.MSG_WAITALL)
        if hmac.compare_digest(said, token):
            return connection
        connection.close()


def _address() -> str:
    """The address of this machine for others; its own loop where it has none."""
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return "127.0.0.1"
