"""When the next statement starts. Pure: it is told the time and what happened, and says what to do."""

from __future__ import annotations

import math

# A statement takes what waits, up to this many upserts and about this many bytes. Bulk work gains a third by this size
# over 128, while the first upsert of a statement waits for the last.
MAX_STATEMENT_UPSERTS = 500
MAX_STATEMENT_BYTES = 4 << 20
# While several organizations call, whose calls wait for the processor while a statement is encoded, run and answered.
MAX_UPSERTS_AMONG_OTHERS = 50
# One statement at a time makes the largest groups. Where a full group waits, it goes beside those under way, so that
# the database writes some while we read the answers of others; and where one is stalled, so do the next.
MAX_STATEMENTS = 4
STALLED_AFTER = 0.05
# The next statement waits until this share of the callers has come: the database writes their upserts while we answer
# and read those of the others. Between a half and all, two thirds and three quarters measured best.
GATHERED_SHARE = 0.75
# After a statement the next one may gather for so many times as long as it took, and this long at the most; in seconds.
GATHERING_FACTOR = 4
MAX_GATHERING = 0.01
# How much the last statement counts in what statements took lately.
RECENT = 0.1
# So few callers gain more from not waiting for each other than from sharing.
FEW_CALLERS = 2


class BatchingPolicy:
    """Decides for one queue. An idle queue starts at once; a busy one gathers what arrives meanwhile.

    After a statement the next one starts when GATHERED_SHARE of the callers wait who were lately around, or when
    GATHERING_FACTOR times as long has passed as it took, but MAX_GATHERING at the most. So groups grow with the load
    and share a statement's fixed cost. Callers who left are waited for once: when a window ends unfilled, only those
    who are there count. FEW_CALLERS do not wait at all: their statements go beside each other.
    """

    def __init__(self) -> None:
        # When each of the statements under way started, and how many upserts they write in all.
        self._running: list[float] = []
        self._writing = 0
        # Estimated concurrent callers: peak of group plus queue, reset when a gather window ends unfilled.
        self._callers = 0
        # How many upserts the next statement may wait for, and until when.
        self._expected = 0
        self._gather_until = 0.0
        # What statements took lately; in seconds.
        self.seconds_per_statement = 0.0
        self.seconds_per_upsert = 0.0

    @property
    def running(self) -> int:
        """How many statements are under way."""
        return len(self._running)

    def start_at(self, ready: int) -> float:
        """Returns when the next statement may start, if nothing more arrives or ends before; 0 is now."""
        running = self._running
        if len(running) >= MAX_STATEMENTS:
            return math.inf
        if ready >= MAX_STATEMENT_UPSERTS:
            return 0.0
        if running:
            if self._callers <= FEW_CALLERS:
                return 0.0
            return max(running) + STALLED_AFTER
        return self._gather_until if ready < self._expected else 0.0

    def started(self, now: float, upserts: int, ready: int) -> None:
        """Is told that a statement of so many upserts starts, and how many others stay ready."""
        if upserts + ready < self._expected:
            self._callers = upserts + ready
        self._running.append(now)
        self._writing += upserts

    def ended(self, now: float, started: float, upserts: int, ready: int, *, is_written: bool) -> None:
        """Is told that a statement of so many upserts has ended, while so many others are ready.

        How long one took that was not written, because the database is away, says nothing of the next.
        """
        self._callers = max(self._callers, self._writing + ready)
        took = now - started
        if is_written:
            self.seconds_per_statement += RECENT * (took - self.seconds_per_statement)
            self.seconds_per_upsert += RECENT * (took / upserts / len(self._running) - self.seconds_per_upsert)
        self._running.remove(started)
        self._writing -= upserts
        self._expected = min(math.ceil(GATHERED_SHARE * self._callers), MAX_STATEMENT_UPSERTS)
        self._gather_until = now + min(GATHERING_FACTOR * took, MAX_GATHERING)
