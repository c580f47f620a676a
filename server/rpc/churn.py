"""Newcomers who are gone before they are seen: whoever opens connections and closes them again, without a word."""

from __future__ import annotations

import os
from collections.abc import Set

# Of proc(5): the counters of this network namespace; of TCP their names, and then their values.
_COUNTERS, _TCP, _OPENED = "/proc/net/snmp", b"Tcp:", b"PassiveOpens"
# So many a second are more than clients leave who make a new connection for each call.
UNSEEN_A_SECOND = 400
# Over how long they are counted, at the least; and from one look to the next, at the most; in seconds.
COUNTED_FOR, LATELY = 0.1, 0.2


class Churn:
    """Counts them, for one thread: what the kernel says was opened, less who was seen.

    The kernel counts all ports together, so this tells nothing by itself; but where the threads that read for everybody
    have nothing else to do, they do this.
    """

    def __init__(self) -> None:
        self._file = os.open(_COUNTERS, os.O_RDONLY | os.O_CLOEXEC)
        self._peers: Set[str] = frozenset()
        self._looked = 0.0
        # Since when it is counted, what the kernel said then, and how many were seen.
        self._since, self._opened, self._seen = 0.0, 0, 0

    def goes_on(self, now: float, peers: Set[str]) -> bool:
        """Looks again, and tells whether there were many lately. `peers` are those who are there, or have called."""
        self._seen += len(peers - self._peers)
        is_late, self._looked, self._peers = now > self._looked + LATELY, now, peers
        elapsed = now - self._since
        if not is_late and elapsed < COUNTED_FOR:
            return False
        opened = _opened(self._file)
        is_churn = not is_late and opened - self._opened - self._seen > UNSEEN_A_SECOND * elapsed
        self._since, self._opened, self._seen = now, opened, 0
        return is_churn

    def close(self) -> None:
        """Closes what it reads."""
        os.close(self._file)


def _opened(file: int) -> int:
    names, values = (line.split() for line in os.pread(file, 1 << 16, 0).splitlines() if line.startswith(_TCP))
    return int(values[names.index(_OPENED)])
