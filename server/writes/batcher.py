"""A lane: which of the upserts that wait go together into a statement, and when it starts."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from server.participants.model import Upsert, UpsertResult
from server.writes.timer import SharedTimer

# A statement takes what waits, up to this many upserts and about this many bytes. Bulk work gains a third by this size
# over 128, while the first upsert of a statement waits for the last.
MAX_STATEMENT_UPSERTS = 500
MAX_STATEMENT_BYTES = 4 << 20
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
# The event loop's timers may run this much early; in seconds.
TIMER_RESOLUTION = 0.001


@dataclass(slots=True, eq=False)
class Waiting:
    """An upsert, the lane it goes by, and the caller who waits for what comes of it."""

    upsert: Upsert
    deadline: float
    lane: Lane
    outcome: asyncio.Future[UpsertResult]
    attempts: int = 0


@dataclass(slots=True, eq=False)
class _Statement:
    """A group of upserts that is being written."""

    group: list[Waiting]
    started: float
    task: asyncio.Task[None] = field(init=False)
    # A task that is cancelled before its first step never runs, and would never let go of its keys.
    running: bool = False


class Lane:
    """Groups upserts into statements; an idle lane starts at once, a busy one gathers what arrives meanwhile.

    After a statement the next one starts when GATHERED_SHARE of the callers wait who were lately around, or when
    GATHERING_FACTOR times as long has passed as it took, but MAX_GATHERING at the most. So groups grow with the load,
    and share a statement's fixed cost; a lone caller never waits. `write` writes a group.
    """

    def __init__(self, write: Callable[[Sequence[Waiting]], Awaitable[None]]) -> None:
        self._write = write
        self._loop = asyncio.get_running_loop()
        self._ready: deque[Waiting] = deque()
        self._statements: set[_Statement] = set()
        self._start_scheduled = False
        # The most that waited or were written at the end of a statement since it was last in vain to wait for so many.
        self._callers = 0
        # How many upserts the next statement may wait for, and until when.
        self._expected = 0
        self._gather_until = 0.0
        self._start_timer = SharedTimer(self._start)

    def add(self, waiting: Waiting) -> None:
        """Takes an upsert in, behind the others."""
        self._ready.append(waiting)
        self._schedule_start()

    def add_first(self, waiting: Waiting) -> None:
        """Takes an upsert in that was here before."""
        self._ready.appendleft(waiting)
        self._schedule_start()

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more."""
        for statement in self._statements:
            if statement.running and all(waiting.outcome.done() for waiting in statement.group):
                statement.task.cancel()

    def _schedule_start(self) -> None:
        # Not at once: what else arrived in this turn of the event loop comes along.
        if not self._start_scheduled:
            self._start_scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_scheduled = False
        while self._ready:
            # The event loop's own clock stands still for a turn of the loop, and uvloop's counts whole milliseconds.
            now = time.monotonic()
            start = self._earliest_start()
            if start > now:
                self._start_timer.run_by(start + TIMER_RESOLUTION)
                return
            if len(self._ready) < self._expected:
                self._callers = len(self._ready)
            statement = _Statement(self._next_group(), now)
            self._statements.add(statement)
            statement.task = self._loop.create_task(self._run(statement))

    def _earliest_start(self) -> float:
        """Returns when the next statement may start, if nothing more arrives or ends before."""
        if len(self._statements) >= MAX_STATEMENTS:
            return math.inf
        if len(self._ready) >= MAX_STATEMENT_UPSERTS:
            return 0.0
        if self._statements:
            return max(statement.started for statement in self._statements) + STALLED_AFTER
        return self._gather_until if len(self._ready) < self._expected else 0.0

    def _next_group(self) -> list[Waiting]:
        group: list[Waiting] = []
        size = 0
        while self._ready and len(group) < MAX_STATEMENT_UPSERTS and size < MAX_STATEMENT_BYTES:
            waiting = self._ready.popleft()
            group.append(waiting)
            size += waiting.upsert.size
        return group

    async def _run(self, statement: _Statement) -> None:
        statement.running = True
        try:
            await self._write(statement.group)
        finally:
            self._statements.discard(statement)
            self._gather(statement)
            self._schedule_start()

    def _gather(self, last: _Statement) -> None:
        """Says how many upserts the statement after this one may wait for, and until when."""
        self._callers = max(self._callers, len(last.group) + len(self._ready))
        self._expected = min(math.ceil(GATHERED_SHARE * self._callers), MAX_STATEMENT_UPSERTS)
        now = time.monotonic()
        self._gather_until = now + min(GATHERING_FACTOR * (now - last.started), MAX_GATHERING)
