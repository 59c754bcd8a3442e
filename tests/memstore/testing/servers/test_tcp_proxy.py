"""The proxy carries what it is given, both ways, and when it is cut it is a network that is gone."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator

import pytest

from memstore.testing.servers.tcp_proxy import TcpProxy


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of a server that sends back what it gets, and says goodbye when the client has said all."""

    def answer(connection: socket.socket) -> None:
        with connection:
            try:
                while data := connection.recv(65536):
                    connection.sendall(data)
                connection.sendall(b"goodbye")
            except OSError:
                return  # the proxy was cut

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(200)


def said(connection: socket.socket, data: bytes) -> bytes:
    """Everything that comes back for this, until the other side ends."""
    sender = threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR)))
    sender.start()
    parts = list(iter(lambda: connection.recv(65536), b""))
    sender.join(200)
    return b"".join(parts)


def test_it_carries_both_ways_to_the_end(echo: int) -> None:
    data = os.urandom(3_000_000)
    with TcpProxy(echo) as proxy, socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
        assert said(connection, data) == data + b"goodbye"


def test_cut_it_ends_and_refuses_connections_and_restored_it_serves_on_its_port(echo: int) -> None:
    with TcpProxy(echo) as proxy:
        port = proxy.port
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            connection.sendall(b"a")
            assert connection.recv(1) == b"a"
            proxy.cut()
            proxy.cut()
            assert connection.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10)
        proxy.restore()
        proxy.restore()
        with socket.create_connection(("127.0.0.1", port), 10) as connection:
            assert said(connection, b"again") == b"againgoodbye"


def test_a_last_word_is_heard_and_its_answer_is_not() -> None:
    """However fast the server answers; and it has not been hung up on when it does."""
    heard: list[bytes] = []

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            heard.append(connection.recv(65536))
            connection.sendall(b"heard")
            heard.append(connection.recv(65536))

    with socket.create_server(("127.0.0.1", 0)) as listener, TcpProxy(listener.getsockname()[1]) as proxy:
        server = threading.Thread(target=answer, daemon=True)
        server.start()
        proxy.break_after(b"commit")
        with socket.create_connection(("127.0.0.1", proxy.port)) as connection:
            connection.sendall(b"commit this")
            assert connection.recv(65536) == b""
        server.join()
    assert heard == [b"commit this", b""]


def test_without_a_server_behind_it_a_connection_ends() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with (
            TcpProxy(unused.getsockname()[1]) as proxy,
            socket.create_connection(("127.0.0.1", proxy.port), 10) as connection,
        ):
            assert connection.recv(1) == b""
