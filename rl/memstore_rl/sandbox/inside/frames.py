"""Messages on the socket between a program and its judge: four bytes of length, then JSON.

For any input, reading ends with a JSON value, `BadFrame` or EOFError, and uses at most `MAX_BYTES` of memory.
"""

from __future__ import annotations

import json
import socket
from typing import Any

MAX_BYTES = 16 << 20
"""Longest message."""


class BadFrame(Exception):
    """The bytes are not a valid frame."""


def send(channel: socket.socket, message: object) -> None:
    """Write one message.

    Raises:
        BadFrame: the message is too long.
    """
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(body) > MAX_BYTES:
        raise BadFrame("a message too long")
    channel.sendall(len(body).to_bytes(4, "big") + body)


def receive(channel: socket.socket) -> Any:
    """Read one message.

    Raises:
        EOFError: the other side has closed the socket.
        BadFrame: the other side sent something else.
    """
    length = int.from_bytes(_exactly(channel, 4), "big")
    if length > MAX_BYTES:
        raise BadFrame("a message too long")
    try:
        return json.loads(_exactly(channel, length))
    except (ValueError, RecursionError):
        raise BadFrame("a message that is no JSON") from None


def _exactly(channel: socket.socket, length: int) -> bytes:
    received = bytearray()
    while len(received) < length:
        piece = channel.recv(min(1 << 16, length - len(received)))
        if not piece:
            raise EOFError
        received += piece
    return bytes(received)
