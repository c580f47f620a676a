"""Shared writes: upserts that are in flight together go to the database as one statement and one commit."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence

from server.errors import Conflict, DeadlineExceeded, FieldViolation, InvalidArgument, Overloaded, ServiceError
from server.participants.model import Upsert, UpsertResult
from server.participants.repository import Contention, ParticipantRepository, Refused
from server.writes.batcher import TIMER_RESOLUTION, Lane, Waiting
from server.writes.timer import SharedTimer

# What may wait before callers are sent away: seconds of work, and a bounded amount of memory.
MAX_WAITING_UPSERTS = 20_000
MAX_WAITING_BYTES = 128 << 20
# Whose deadlines have passed is looked for no more often than this, among all who wait; in seconds.
EXPIRY_INTERVAL = 0.01
# An upsert whose participant another transaction holds runs again after a pause, this often at the most.
CONTENDED_PAUSE = 0.005
MAX_CONTENDED_PAUSE = 0.1
MAX_CONTENDED_ATTEMPTS = 30


class GroupCommit:
    """Writes upserts in the statements of two lanes: one for calls, and one for the items of batches.

    So a call waits neither behind thousands of items nor for a statement full of them to be written.

    A statement never has two upserts with one key: those with the same key wait for each other in order of arrival,
    through every retry. An upsert whose caller has gone or whose deadline has passed before its statement started
    is dropped unwritten. A statement that fails is split until the cause is alone, so that no upsert fails for the
    sake of another.
    """

    def __init__(self, store: ParticipantRepository) -> None:
        self._store = store
        self._loop = asyncio.get_running_loop()
        self._calls = Lane(self._write)
        self._items = Lane(self._write)
        # For every key that is waiting or being written: those that wait behind it, None while there are none.
        self._behind: dict[tuple[str, str], deque[Waiting] | None] = {}
        self._waiting: set[Waiting] = set()
        self._waiting_bytes = 0
        self._released = asyncio.Event()
        self._expiry_timer = SharedTimer(self._expire)

    def submit(self, upsert: Upsert, deadline: float, *, of_batch: bool = False) -> asyncio.Future[UpsertResult]:
        """Queues one upsert, and returns the future of what comes of it once it is committed.

        `deadline` is on the event loop's clock, and a write does not begin after it. The future fails with what the
        store says of this upsert, or with DeadlineExceeded or Conflict; cancelling it withdraws the upsert unless it
        is being written. Raises Overloaded, at once, when too much is waiting.
        """
        if len(self._waiting) >= MAX_WAITING_UPSERTS or self._waiting_bytes >= MAX_WAITING_BYTES:
            raise Overloaded("too many upserts are waiting to be written; retry")
        waiting = Waiting(upsert, deadline, self._items if of_batch else self._calls, self._loop.create_future())
        self._waiting.add(waiting)
        self._waiting_bytes += upsert.size
        self._expiry_timer.run_by(deadline)
        self._enqueue(waiting)
        return waiting.outcome

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more; to be called after futures were settled."""
        self._calls.withdraw()
        self._items.withdraw()

    async def close(self) -> None:
        """Waits for what is being written and for what is to run again. Nothing may be submitted any more."""
        while self._waiting:
            self._released.clear()
            await self._released.wait()

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

    def _enqueue(self, waiting: Waiting) -> None:
        key = waiting.upsert.key
        if key in self._behind:
            behind = self._behind[key]
            if behind is None:
                behind = self._behind[key] = deque()
            behind.append(waiting)
        else:
            self._behind[key] = None
            waiting.lane.add(waiting)

    async def _write(self, group: Sequence[Waiting]) -> None:
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

    def _still_wanted(self, group: Sequence[Waiting]) -> list[Waiting]:
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

    async def _isolate(self, group: Sequence[Waiting], error: Exception) -> None:
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

    def _settle(self, waiting: Waiting, outcome: UpsertResult | ServiceError | None) -> None:
        if outcome is None:
            self._postpone(waiting)
        elif isinstance(outcome, ServiceError):
            self._fail(waiting, outcome)
        else:
            if not waiting.outcome.done():
                waiting.outcome.set_result(outcome)
            self._release(waiting)

    def _postpone(self, waiting: Waiting) -> None:
        """Has an upsert run again that lost to another transaction. It keeps its key, so its successors wait."""
        waiting.attempts += 1
        if waiting.attempts > MAX_CONTENDED_ATTEMPTS:
            self._fail(waiting, Conflict("the participant is locked by another transaction; retry"))
        else:
            pause = min(CONTENDED_PAUSE * (waiting.attempts - 1), MAX_CONTENDED_PAUSE)
            self._loop.call_later(pause, waiting.lane.add_first, waiting)

    def _fail(self, waiting: Waiting, error: Exception) -> None:
        if not waiting.outcome.done():
            waiting.outcome.set_exception(error)
        self._release(waiting)

    def _release(self, waiting: Waiting) -> None:
        """Forgets an upsert, and lets the next one with the same key come forward."""
        self._waiting.remove(waiting)
        self._released.set()
        self._waiting_bytes -= waiting.upsert.size
        key = waiting.upsert.key
        behind = self._behind[key]
        if behind:
            following = behind.popleft()
            following.lane.add(following)
        else:
            del self._behind[key]
