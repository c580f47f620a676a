"""Lines that repeat: the first of each second is printed, the others are counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Hashable
from copy import copy
from dataclasses import dataclass

# In seconds.
WINDOW = 1.0


@dataclass(slots=True)
class _Line:
    record: logging.LogRecord | None = None
    more: int = 0


class Repeats(logging.Filter):
    """Lets a handler print a line once within WINDOW, and then say how many others there were.

    Lines are alike that have the same logger, message and arguments, or, where a record has one, the same `key`. Who
    logs much asks `repeats` first and so makes no record of what will not be printed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._handler: logging.Handler | None = None
        self._lines: dict[Hashable, _Line] = {}
        self._ends = 0.0
        self._timer: threading.Timer | None = None

    def attach(self, handler: logging.Handler) -> None:
        """Filters what a handler is given, and uses it to say how often lines repeated."""
        handler.addFilter(self)
        self._handler = handler

    def filter(self, record: logging.LogRecord) -> bool:
        key: Hashable = getattr(record, "key", None)
        if key is None:
            # An exception may say something else each time; where it was caught is what counts.
            key = (record.name, record.msg, None if record.exc_info else str(record.args))
            if self.repeats(key):
                return False
        with self._lock:
            line = self._lines.get(key)
            if line is not None:
                line.record = record
        return True

    def repeats(self, key: Hashable) -> bool:
        """Counts a line, and tells whether one like it was printed lately."""
        now = time.monotonic()
        if now >= self._ends:
            self.flush()
        with self._lock:
            line = self._lines.get(key)
            if line is None:
                if not self._lines:
                    self._ends = now + WINDOW
                self._lines[key] = _Line()
                return False
            line.more += 1
            if self._timer is None:
                # Should nothing else be logged, somebody must say how many there were.
                self._timer = threading.Timer(WINDOW, self.flush)
                self._timer.daemon = True
                self._timer.start()
            return True

    def flush(self) -> None:
        """Says how often lines repeated, and begins anew."""
        with self._lock:
            lines, self._lines = self._lines, {}
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        for line in lines.values():
            if line.more and line.record is not None and self._handler is not None:
                self._handler.acquire()
                try:
                    self._handler.emit(_summary(line.record, line.more))
                finally:
                    self._handler.release()


def _summary(record: logging.LogRecord, more: int) -> logging.LogRecord:
    summary = copy(record)
    summary.created = time.time()
    summary.exc_info = summary.exc_text = None
    # Of what was printed only what all of them share is said again.
    summary.__dict__["fields"] = {**getattr(record, "shared_fields", {}), "repeated": more}
    return summary
