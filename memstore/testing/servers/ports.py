"""Free ports for test servers that restart at the same address."""

from __future__ import annotations

import secrets
import socket
from contextlib import suppress

_PORTS = range(15_000, 32_000)
"""Below the ephemeral ports of Linux and macOS."""


def free_port() -> int:
    """A free port of the loopback interface.

    It is no ephemeral port: the kernel could assign such a port to another socket before the server has started, or
    between a kill and a restart, also to a client that connects to it.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
