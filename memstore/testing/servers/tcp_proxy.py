"""TCP proxy for tests of network failures: it forwards connections to a server until it is cut.

`cut` closes all connections at both ends, also in the middle of a message, and refuses new ones until `restore`; the
server keeps running. `break_after` closes a connection when the client sends given bytes: the server receives them, and
its response is lost.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

from memstore.testing.servers.ports import free_port

_CHUNK = 1 << 18


class TcpProxy:
    """Listens on a free port of 127.0.0.1; keeps that port when it is cut and restored."""

    def __init__(self, target_port: int) -> None:
        """Forward to `target_port` of 127.0.0.1, which need not listen yet."""
        self._target = ("127.0.0.1", target_port)
        self._cut_after: bytes | None = None
        self._lock = threading.Lock()
        self._live: set[socket.socket] = set()
        self.port = free_port()
        self._listener: socket.socket | None = None
        self.restore()

    def restore(self) -> None:
        """Accept connections again; does nothing if the proxy is not cut."""
        with self._lock:
            if self._listener is not None:
                return
            self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def cut(self) -> None:
        """Close all connections and refuse new ones; does nothing if the proxy is cut."""
        with self._lock:
            listener, self._listener = self._listener, None
            live, self._live = self._live, set()
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()
        for connection in live:
            _close(connection)

    def break_after(self, word: bytes) -> None:
        """Close the next connection in which the client sends these bytes, after forwarding them."""
        self._cut_after = word

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                _close(client)
                continue
            with self._lock:
                carried = self._listener is listener
                if carried:
                    self._live |= {client, server}
            if not carried:
                _close(client)
                _close(server)
                return
            for source, target in ((client, server), (server, client)):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._carry, args=(source, target, source is client), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket, to_server: bool) -> None:
        """Copy until the source closes; then shut down the target. The last of the two threads closes both sockets."""
        matched = False
        with suppress(OSError):
            while not matched and (chunk := source.recv(_CHUNK)):
                matched = to_server and self._cut_after is not None and self._cut_after in chunk
                if matched:
                    self._cut_after = None
                    _close(source)  # before the server can respond
                target.sendall(chunk)
        if not matched:  # else the server might see the end of the connection before it acts on the message
            with suppress(OSError):
                target.shutdown(socket.SHUT_WR)
        with self._lock:
            last = target not in self._live
            self._live.discard(source)
        if last:
            source.close()
            target.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()


def _close(connection: socket.socket) -> None:
    """Close a connection and wake the threads that wait on it."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
