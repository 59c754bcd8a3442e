"""Relay between the tests and a Milvus server in a network namespace, which keeps the server off the network.

Milvus 2.3 listens on all interfaces, and no setting changes that. This process runs in a network namespace that has
only a loopback interface, and starts the server there. It inherits a listening socket on 127.0.0.1 that was created
outside and stays in its namespace, and forwards its connections to the server.

Called by `memstore.testing.servers.milvus`:  python -m memstore.testing.servers.milvus_relay LISTENER_FD COMMAND...
It writes a line when the server is ready, and ends when the server ends. It kills the server when its standard input
closes, which also happens when the parent dies.
"""

from __future__ import annotations

import fcntl
import http.client
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

SERVING = b"serving\n"
_PORT, _HEALTH_PORT = 19530, 9091
_SIOCSIFFLAGS, _IFF_UP, _IFF_LOOPBACK = 0x8914, 0x1, 0x8
_CHUNK = 1 << 18
_LOOPBACK = "127.0.0.1"


def raise_loopback() -> None:
    """Bring up the loopback interface, which is down in a new namespace."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP | _IFF_LOOPBACK))


def wait_for_health() -> None:
    """Return when the server's health check succeeds."""
    while True:
        connection = http.client.HTTPConnection(_LOOPBACK, _HEALTH_PORT, timeout=10)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthz")
            if connection.getresponse().status == http.client.OK:
                return
        connection.close()
        time.sleep(0.1)


def serve(listener: socket.socket) -> None:
    """Forward each connection to the server once it is healthy."""
    wait_for_health()
    sys.stdout.buffer.write(SERVING)
    sys.stdout.buffer.flush()
    while True:
        client, _ = listener.accept()
        try:
            server = socket.create_connection((_LOOPBACK, _PORT))
        except OSError:
            client.close()
            continue
        for source, target in ((client, server), (server, client)):
            source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=carry, args=(source, target), daemon=True).start()


def carry(source: socket.socket, target: socket.socket) -> None:
    """Copy until one side closes its connection; then close the other."""
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def end_with_parent(server: subprocess.Popen[bytes]) -> None:
    """Kill the server when standard input is closed."""
    sys.stdin.buffer.read()
    server.kill()


def main() -> int:
    """Forward connections until the server ends; return its exit status."""
    descriptor, *command = sys.argv[1:]
    listener = socket.socket(fileno=int(descriptor))
    raise_loopback()
    # The server inherits standard output, so its reader gets the end of file when both processes have ended.
    held = os.dup(sys.stdout.fileno())
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, pass_fds=[held])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    threading.Thread(target=end_with_parent, args=(server,), daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
