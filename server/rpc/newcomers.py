"""Newcomers who are gone before they are seen: whoever opens connections and closes them again, without a word."""

from __future__ import annotations

from collections.abc import Set
from contextlib import suppress
from pathlib import Path

# Of proc(5): the counters of this network namespace; of TCP their names, and then their values.
_COUNTERS, _TCP, _OPENED = Path("/proc/net/snmp"), b"Tcp:", b"PassiveOpens"
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
        opened = _opened()
        is_churn = not is_late and opened - self._opened - self._seen > UNSEEN_A_SECOND * elapsed
        self._since, self._opened, self._seen = now, opened, 0
        return is_churn


def _opened() -> int:
    """Returns how many connections were opened to this network namespace, 0 where the system does not tell."""
    with suppress(OSError, ValueError):
        names, values = (line.split() for line in _COUNTERS.read_bytes().splitlines() if line.startswith(_TCP))
        return int(values[names.index(_OPENED)])
    return 0
