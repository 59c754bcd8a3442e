"""Structured logs: one JSON object per line on stderr.

Warnings and errors are limited by the line of code that logs them, so that no client and no lack of a resource can fill
the disk: a few lines an interval for memstore's own loggers, and one for those of asyncio and uvicorn. The next line
after an interval has the number of lines left out.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import threading
import time
from collections.abc import Callable

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}


INTERVAL_S = 60.0
"""Seconds of an interval."""
BURST = 10
"""Lines in an interval that one line of memstore's code may log."""


class FloodFilter(logging.Filter):
    """Drops warnings and errors of a line of code beyond its number in an interval."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._windows: dict[tuple[str, int], list[float]] = {}
        """Start of the interval, lines logged, lines dropped; by file and line of the code."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged."""
        if record.levelno < logging.WARNING:
            return True
        now, most = self._clock(), BURST if record.name.startswith("memstore") else 1
        with self._lock:
            window = self._windows.setdefault((record.pathname, record.lineno), [now, 0, 0])
            if now - window[0] >= INTERVAL_S:
                if window[2]:
                    record.left_out = int(window[2])
                window[:] = [now, 0, 0]
            logged = window[1] < most
            window[1 if logged else 2] += 1
        return logged


class JsonFormatter(logging.Formatter):
    """Formats a log record as JSON: time (UTC), level, logger, message, the `extra` fields, and any traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the JSON line of a record."""
        line: dict[str, object] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name, value in vars(record).items() if name not in _OWN},
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stderr(level: str = "INFO") -> None:
    """Log memstore, uvicorn and asyncio to stderr as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    handler.addFilter(FloodFilter())
    for name in ("memstore", "memstore_gnn", "memstore_rl", "uvicorn", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(level)
    # The metrics cover individual requests.
    logging.getLogger("uvicorn.access").disabled = True
