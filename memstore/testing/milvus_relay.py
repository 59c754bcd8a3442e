"""Relay between a Milvus server in a network namespace and the tests, so that it is not reachable from outside.

Milvus 2.3 listens on every interface and has no setting against it. This process runs in a network namespace of its
own, where there is no interface but loopback, and starts the server there. The one socket that connects the two
worlds was made outside, on 127.0.0.1, and is inherited: a socket stays in the namespace it was made in. What comes
in over it is carried to the server.

Called by `memstore.testing.milvus_server`:  python -m memstore.testing.milvus_relay LISTENER_FD COMMAND...
It writes a line when the server serves, and ends when the server ends. It ends the server when its standard input
closes, as it does when the parent dies.
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
    """Bring the namespace's loopback interface up; a new namespace has it down."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP | _IFF_LOOPBACK))


def wait_for_health() -> None:
    """Return when the server says that all its parts are healthy."""
    while True:
        asked = http.client.HTTPConnection(_LOOPBACK, _HEALTH_PORT, timeout=10)
        with suppress(OSError, http.client.HTTPException):
            asked.request("GET", "/healthz")
            if asked.getresponse().status == http.client.OK:
                return
        asked.close()
        time.sleep(0.1)


def serve(listener: socket.socket) -> None:
    """Once the server is healthy, carry each connection to it."""
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
    """Copy until one side ends; then the other side learns of it."""
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            target.sendall(chunk)
    for side in (source, target):
        with suppress(OSError):
            side.shutdown(socket.SHUT_RDWR)


def end_with_parent(server: subprocess.Popen[bytes]) -> None:
    """Kill the server when nobody holds our standard input any more."""
    sys.stdin.buffer.read()
    server.kill()


def main() -> int:
    """Serve until the server ends; its exit status."""
    descriptor, *command = sys.argv[1:]
    listener = socket.socket(fileno=int(descriptor))
    raise_loopback()
    # The server holds our standard output open too: whoever reads it to the end knows that both are gone.
    held = os.dup(sys.stdout.fileno())
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, pass_fds=[held])
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    threading.Thread(target=serve, args=(listener,), daemon=True).start()
    threading.Thread(target=end_with_parent, args=(server,), daemon=True).start()
    return server.wait()


if __name__ == "__main__":
    sys.exit(main())
