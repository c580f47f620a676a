"""Runs the statements of one queue: what goes into the next, when it starts, and when it is cancelled."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from server.errors import DeadlineExceeded, Internal, Unavailable
from server.participants.model import Outcome, Rejected, Retry
from server.writes import batching
from server.writes.batching import BatchingPolicy
from server.writes.executor import Executor, Outcomes
from server.writes.fair_queue import FairQueue
from server.writes.observer import Observer
from server.writes.pending import PendingUpsert
from server.writes.timer import SharedTimer

# The event loop's timers may run this much early; in seconds.
TIMER_RESOLUTION = 0.001
# Of the statements at a time, so many may be of an upsert alone: such a one may wait for a lock.
MAX_ALONE = batching.MAX_STATEMENTS // 2

# Is told what became of an upsert.
Settle = Callable[[PendingUpsert, Outcome | Retry], None]


@dataclass(slots=True, eq=False)
class _Statement:
    """A group of upserts that is being written."""

    group: Sequence[PendingUpsert]
    started: float
    task: asyncio.Task[None] = field(init=False)
    is_running: bool = False
    is_cancelled: bool = False

    def is_wanted(self) -> bool:
        return any(pending.submission.is_awaited for pending in self.group)


class Batcher:
    """Groups the upserts of one queue into statements, as its policy says, and has them executed."""

    def __init__(self, executor: Executor, settle: Settle, observer: Observer, crowded: Callable[[], bool]) -> None:
        self._executor = executor
        self._settle = settle
        self._observer = observer
        self._crowded = crowded
        self._loop = asyncio.get_running_loop()
        self._queue = FairQueue()
        self._policy = BatchingPolicy()
        self._statements: set[_Statement] = set()
        self._start_is_scheduled = False
        self._start_timer = SharedTimer(self._start)

    def add(self, pending: PendingUpsert, *, first: bool = False) -> None:
        """Queues an active upsert."""
        self._queue.add(pending, first=first)
        self._schedule_start()

    def withdraw(self) -> None:
        """Cancels the statements for which nobody waits, each once."""
        for statement in self._statements:
            # A task that is cancelled before its first step never runs, and would never let go of its upserts.
            if statement.is_running and not statement.is_cancelled and not statement.is_wanted():
                statement.is_cancelled = True
                statement.task.cancel()

    def would_be_late(self, pending: PendingUpsert, following: int) -> bool:
        """Returns whether a new upsert would have its turn after its deadline, behind so many others of its key.

        One that has none before it never is, however late it comes: it runs into its deadline itself.
        """
        policy, queue = self._policy, self._queue
        time_left = max(0.0, pending.submission.deadline - self._loop.time())
        if following:
            return following * policy.seconds_per_statement > time_left
        # To count whose turn comes first takes longer than to see that it does not matter.
        if queue.size * policy.seconds_per_upsert <= time_left:
            return False
        return queue.ahead(pending.key[0]) * policy.seconds_per_upsert > time_left

    def _schedule_start(self) -> None:
        # Not at once: what else arrives in this turn of the event loop comes along.
        if not self._start_is_scheduled:
            self._start_is_scheduled = True
            self._loop.call_soon(self._start)

    def _start(self) -> None:
        self._start_is_scheduled = False
        while self._queue.alone and self._may_write_alone():
            self._begin([self._queue.take_alone()])
        while self._queue.size:
            start = self._policy.start_at(self._queue.size)
            # The event loop's own clock stands still for a turn of the loop, and uvloop's counts whole milliseconds.
            if start > time.monotonic():
                self._start_timer.run_by(start + TIMER_RESOLUTION)
                return
            most = batching.MAX_UPSERTS_AMONG_OTHERS if self._crowded() else batching.MAX_STATEMENT_UPSERTS
            self._begin(self._queue.take(most, batching.MAX_STATEMENT_BYTES))

    def _may_write_alone(self) -> bool:
        alone = sum(statement.group[0].alone for statement in self._statements)
        return alone < MAX_ALONE and self._policy.running < batching.MAX_STATEMENTS

    def _begin(self, group: Sequence[PendingUpsert]) -> None:
        statement = _Statement(group, time.monotonic())
        self._statements.add(statement)
        self._policy.started(statement.started, len(group), self._queue.size)
        statement.task = self._loop.create_task(self._run(statement))

    async def _run(self, statement: _Statement) -> None:
        statement.is_running = True
        taken = len(statement.group)
        group = statement.group = self._still_wanted(statement.group)
        outcomes: Outcomes | None = None
        try:
            if group:
                outcomes = await self._executor.execute([pending.upsert for pending in group])
        finally:
            self._statements.discard(statement)
            now = time.monotonic()
            is_written = not _is_unavailable(outcomes)
            self._policy.ended(now, statement.started, taken, self._queue.size, is_written=is_written)
            self._schedule_start()
            # It was cancelled, so nobody waits any more.
            self._settle_all(group, outcomes or [Rejected(Unavailable())] * len(group))
        if group:
            traces = [pending.submission.trace for pending in group if pending.submission.trace is not None]
            self._observer.statement(len(group), now - statement.started, traces)

    def _settle_all(self, group: Sequence[PendingUpsert], outcomes: Outcomes) -> None:
        """Settles a group; whatever is raised on the way, nothing of it stays held."""
        left = deque(group)
        try:
            for outcome in outcomes:
                self._settle(left.popleft(), outcome)
        finally:
            for pending in left:
                self._settle(pending, Rejected(Internal()))

    def _still_wanted(self, group: Sequence[PendingUpsert]) -> Sequence[PendingUpsert]:
        """Returns whom somebody waits for who still has time, and drops the others."""
        now = time.monotonic()
        wanted = [pending for pending in group if pending.submission.is_wanted(now)]
        if len(wanted) < len(group):
            for pending in group:
                if not pending.submission.is_wanted(now):
                    self._settle(pending, Rejected(DeadlineExceeded()))
        return wanted


def _is_unavailable(outcomes: Outcomes | None) -> bool:
    """Returns whether the database was away, or nothing came of a statement at all: that is the same for its group."""
    if not outcomes:
        return True
    first = outcomes[0]
    return isinstance(first, Rejected) and isinstance(first.error, Unavailable)
