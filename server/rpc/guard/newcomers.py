"""How many newcomers there are, also those who are gone before they are seen, with or without a word."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Set

# Of proc(5): the counters of this network namespace; of TCP their names, and then their values.
_COUNTERS, _TCP, _OPENED = "/proc/net/snmp", b"Tcp:", b"PassiveOpens"
# What came within this time came lately; in seconds.
LATELY = 0.1
# So many who came lately are many; and so many of them who went unseen are more than clients are who make a new
# connection for each call.
MANY, UNSEEN = 16, 40
# So many who came lately are a flood, if fewer than half of them are there.
VERY_MANY = 400
# Who is there is looked at at least this often, where it matters who went unseen; in seconds.
LOOK_EVERY = 0.2


class Newcomers:
    """Counts them, for one thread, by what the kernel says was opened.

    The kernel counts all ports together, and those of other processes: so this tells nothing by itself, but where
    something else is amiss it says whether newcomers may be why. Where the kernel does not tell, they always may be.
    """

    def __init__(self) -> None:
        try:
            # To open a file lets all other threads run, so this one stays open.
            self._file = os.open(_COUNTERS, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._file = -1
        # When it was looked, how many had come, and how many of them had been seen; the first is not lately any more.
        self._came: deque[tuple[float, int, int]] = deque()
        self._peers: Set[str] = frozenset()
        self._looked, self._seen = 0.0, 0
        # Since when it is counted who went unseen, and how many had gone so until then.
        self._since, self._unseen = 0.0, 0
        # How many were there when they were counted, and how many had come until then.
        self._there = self._came_until_then = 0

    @property
    def are_many(self) -> bool:
        """Whether many came lately."""
        return self._file < 0 or self._came_lately >= MANY

    @property
    def are_very_many(self) -> bool:
        """Whether very many came lately."""
        return self._came_lately >= VERY_MANY

    @property
    def most_there(self) -> float:
        """How many may be there by now, at the most: those who were when they were counted, and who came since."""
        return self._there + self._came[-1][1] - self._came_until_then if self._file >= 0 else math.inf

    @property
    def _came_lately(self) -> int:
        return self._came[-1][1] - self._came[0][1]

    def look(self, now: float) -> None:
        """Counts those who have come."""
        came = self._came
        came.append((now, self._opened(), self._seen))
        while len(came) > 2 and came[1][0] <= now - LATELY:
            came.popleft()

    def count(self, there: int) -> None:
        """Remembers how many are there, also those who wait to be accepted, of those who had come at the last look."""
        self._there, self._came_until_then = there, self._came[-1][1]

    def go_unseen(self, now: float, peers: Set[str], waiting: int) -> bool:
        """Tells whether many went unseen lately, or most of very many.

        `peers` are those who are there, or have called, and `waiting` is how many are not accepted yet.
        """
        self._seen += len(peers - self._peers)
        is_late, self._looked, self._peers = now > self._looked + LOOK_EVERY, now, peers
        _, opened_before, seen_before = self._came[0]
        accepted = self._came[-1][1] - waiting
        lately = accepted - opened_before
        if lately >= VERY_MANY and self._seen - seen_before < lately / 2:
            return True
        elapsed = now - self._since
        if not is_late and elapsed < LATELY:
            return False
        are_many = not is_late and accepted - self._seen - self._unseen > UNSEEN * elapsed / LATELY
        # Whoever has come while it was looked who is there counts for neither.
        self._since, self._unseen = now, self._opened() - waiting - self._seen
        return are_many

    def close(self) -> None:
        """Closes what it reads."""
        if self._file >= 0:
            os.close(self._file)

    def _opened(self) -> int:
        if self._file < 0:
            return 0
        lines = os.pread(self._file, 1 << 16, 0).splitlines()
        names, values = (line.split() for line in lines if line.startswith(_TCP))
        return int(values[names.index(_OPENED)])
