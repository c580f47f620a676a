"""Shared writes: upserts that are in flight together go to the database as one statement and one commit."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from server.errors import Conflict, DeadlineExceeded, FieldViolation, InvalidArgument, Overloaded, ServiceError
from server.participants.model import Outcome, Upsert
from server.participants.store import Contention, ParticipantStore, Refused
from server.participants.timer import SharedTimer

# A statement takes what waits, up to this many upserts and about this many bytes. Bulk work gains a third by this size
# over 128, and next to nothing beyond it, while the first upsert of a statement waits for the last.
MAX_STATEMENT_UPSERTS = 500
MAX_STATEMENT_BYTES = 4 << 20
# What may wait before callers are sent away: seconds of work, and a bounded amount of memory.
MAX_WAITING_UPSERTS = 20_000
MAX_WAITING_BYTES = 128 << 20
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
# Whose deadlines have passed is looked for no more often than this, among all who wait; in seconds.
EXPIRY_INTERVAL = 0.01
# An upsert whose participant another transaction holds runs again after a pause, this often at the most.
CONTENDED_PAUSE = 0.005
MAX_CONTENDED_PAUSE = 0.1
MAX_CONTENDED_ATTEMPTS = 30


@dataclass(slots=True, eq=False)
class _Waiting:
    """An upsert, and the caller who waits for what comes of it."""

    upsert: Upsert
    deadline: float
    outcome: asyncio.Future[Outcome]
    attempts: int = 0


@dataclass(slots=True, eq=False)
class _Statement:
    """A group of upserts that is being written."""

    group: list[_Waiting]
    started: float
    task: asyncio.Task[None] = field(init=False)
    # A task that is cancelled before its first step never runs, and would never let go of its keys.
    running: bool = False


class SharedWriter:
    """Groups upserts into statements; an idle writer starts at once, a busy one gathers what arrives meanwhile.

    After a statement the next one starts when GATHERED_SHARE of the callers wait who were lately around, or when
    GATHERING_FACTOR times as long has passed as it took, but MAX_GATHERING at the most. So groups grow with the load,
    and share a statement's fixed cost; a lone caller never waits.

    A statement never has two upserts with one key: those with the same key wait for each other in order of arrival,
    through every retry. An upsert whose caller has gone or whose deadline has passed before its statement started
    is dropped unwritten. A statement that fails is split until the cause is alone, so that no upsert fails for the
    sake of another.
    """

    def __init__(self, store: ParticipantStore) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._ready: deque[_Waiting] = deque()
        # For every key that is waiting or being written: those that wait behind it, None while there are none.
        self._behind: dict[tuple[str, str], deque[_Waiting] | None] = {}
        self._statements: set[_Statement] = set()
        self._waiting: set[_Waiting] = set()
        self._waiting_bytes = 0
        self._start_scheduled = False
        # The most that waited or were written at the end of a statement since it was last in vain to wait for so many.
        self._callers = 0
        # How many upserts the next statement may wait for, and until when.
        self._expected = 0
        self._gather_until = 0.0
        self._start_timer = SharedTimer(self._start)
        self._expiry_timer = SharedTimer(self._expire)

    def submit(self, upsert: Upsert, deadline: float) -> asyncio.Future[Outcome]:
        """Queues one upsert, and returns the future of what comes of it once it is committed.

        `deadline` is on the event loop's clock, and a write does not begin after it. The future fails with what the
        store says of this upsert, or with DeadlineExceeded or Conflict; cancelling it withdraws the upsert unless it
        is being written. Raises Overloaded, at once, when too much is waiting.
        """
        if len(self._waiting) >= MAX_WAITING_UPSERTS or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise Overloaded("too many upserts are waiting to be written; retry")
        waiting = _Waiting(upsert, deadline, self._loop.create_future())
        self._waiting.add(waiting)
        self._waiting_bytes += upsert.size
        self._expiry_timer.run_by(deadline)
        self._enqueue(waiting)
        return waiting.outcome

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more; to be called after futures were settled."""
        for statement in self._statements:
            if statement.running and all(waiting.outcome.done() for waiting in statement.group):
                statement.task.cancel()

    async def close(self) -> None:
        """Waits for the statements under way, and for what is to run again. Nothing may be submitted any more."""
        while self._waiting or self._statements:
            if self._statements:
                await asyncio.wait([statement.task for statement in self._statements])
            else:
                await asyncio.sleep(CONTENDED_PAUSE)

    def _expire(self) -> None:
        """Tells those whose deadline has passed, and comes again for the next."""
        now = self._loop.time() + TIMER_RESOLUTION
        following = math.inf
        for waiting in self._waiting:
            if waiting.outcome.done():
                continue
            if waiting.deadline <= now:
                waiting.outcome.set_exception(DeadlineExceeded())
            elif waiting.deadline < following:
                following = waiting.deadline
        self._expiry_timer.run_by(max(following, now + EXPIRY_INTERVAL))
        self.withdraw()

    def _enqueue(self, waiting: _Waiting) -> None:
        key = waiting.upsert.key
        if key in self._behind:
            behind = self._behind[key]
            if behind is None:
                behind = self._behind[key] = deque()
            behind.append(waiting)
        else:
            self._behind[key] = None
            self._ready.append(waiting)
            self._schedule_start()

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

    def _next_group(self) -> list[_Waiting]:
        group: list[_Waiting] = []
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

    async def _write(self, group: Sequence[_Waiting]) -> None:
        group = self._still_wanted(group)
        if not group:
            return
        try:
            outcomes = await self._store.upsert([waiting.upsert for waiting in group])
        except asyncio.CancelledError:
            for waiting in group:
                self._release(waiting)
            raise
        except ServiceError as error:
            for waiting in group:
                self._fail(waiting, error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it goes to the one who caused it
            await self._isolate(group, error)
        else:
            for waiting, outcome in zip(group, outcomes, strict=True):
                self._settle(waiting, outcome)

    def _still_wanted(self, group: Sequence[_Waiting]) -> list[_Waiting]:
        now = self._loop.time()
        wanted = []
        for waiting in group:
            if waiting.outcome.done():
                self._release(waiting)
            elif waiting.deadline <= now:
                self._fail(waiting, DeadlineExceeded())
            else:
                wanted.append(waiting)
        return wanted

    async def _isolate(self, group: Sequence[_Waiting], error: Exception) -> None:
        """Runs a group that failed as two halves, until what is at fault is alone."""
        if len(group) > 1:
            middle = len(group) // 2
            try:
                await self._write(group[:middle])
            finally:
                await self._write(group[middle:])
        elif isinstance(error, Contention):
            self._postpone(group[0])
        elif isinstance(error, Refused):
            violation = FieldViolation("external_id", "VALUE_REFUSED", "the database refuses a value of this upsert")
            self._fail(group[0], InvalidArgument((violation,)))
        else:
            self._fail(group[0], error)

    def _settle(self, waiting: _Waiting, outcome: Outcome | ServiceError | None) -> None:
        if outcome is None:
            self._postpone(waiting)
        elif isinstance(outcome, ServiceError):
            self._fail(waiting, outcome)
        else:
            if not waiting.outcome.done():
                waiting.outcome.set_result(outcome)
            self._release(waiting)

    def _postpone(self, waiting: _Waiting) -> None:
        """Has an upsert run again that lost to another transaction. It keeps its key, so its successors wait."""
        waiting.attempts += 1
        if waiting.attempts > MAX_CONTENDED_ATTEMPTS:
            self._fail(waiting, Conflict("the participant is locked by another transaction; retry"))
        else:
            pause = min(CONTENDED_PAUSE * (waiting.attempts - 1), MAX_CONTENDED_PAUSE)
            self._loop.call_later(pause, self._resume, waiting)

    def _resume(self, waiting: _Waiting) -> None:
        self._ready.appendleft(waiting)
        self._schedule_start()

    def _fail(self, waiting: _Waiting, error: Exception) -> None:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(error)
        self._release(waiting)

    def _release(self, waiting: _Waiting) -> None:
        """Forgets an upsert, and lets the next one with the same key come forward."""
        self._waiting.remove(waiting)
        self._waiting_bytes -= waiting.upsert.size
        key = waiting.upsert.key
        behind = self._behind[key]
        if behind:
            self._ready.append(behind.popleft())
            self._schedule_start()
        else:
            del self._behind[key]
