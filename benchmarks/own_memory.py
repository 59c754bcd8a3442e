"""Samples the memory of the process without mapped files, which the system can drop at any time."""

from __future__ import annotations

import threading
import time
from pathlib import Path


class OwnMemory(threading.Thread):
    """Samples until the process ends; `peak` is the largest so far, in bytes."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0

    def run(self) -> None:
        while True:
            status = Path("/proc/self/status").read_text()
            kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
            self.peak = max(self.peak, 1024 * kilobytes)
            time.sleep(0.01)
