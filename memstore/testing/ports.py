"""Free ports for test servers that restart at the same address."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

_PORTS = range(15_000, 32_000)
"""Below those that Linux and macOS choose from."""


def free_port() -> int:
    """A free port of the loopback interface.

    Not one that the kernel would choose: those it gives to any other socket before the server has come up, or while it
    is down between a kill and its next start, and a client that asks for such a port may be given it as its own.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
