"""Group commit: upserts that are in flight together go to the database in one statement and one commit.

An upsert goes one way: `submit` → order per key → queue, fair by organization → batcher → executor → repository. What
became of it comes back by `_settle`, whatever happened on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.errors import Conflict, DeadlineExceeded, Overloaded, Unavailable
from server.participants.model import Outcome, Rejected, Retry, Upsert
from server.participants.repository import ParticipantRepository
from server.writes.admission import Admission
from server.writes.batcher import TIMER_RESOLUTION, Batcher
from server.writes.deadlines import Deadlines
from server.writes.executor import RETRY_ALONE, Executor
from server.writes.key_order import KeyOrder
from server.writes.observer import Observer, current_trace
from server.writes.pending import PendingUpsert
from server.writes.timer import SharedTimer

# An upsert whose participant another transaction holds runs again after a pause, this often at the most.
RETRY_PAUSE = 0.005
MAX_RETRY_PAUSE = 0.1
MAX_RETRIES = 30
# How long what is held may take to end once the writer is closed, and then what is cancelled; in seconds.
CLOSE_TIMEOUT = 3.0
CANCEL_TIMEOUT = 3.0


class GroupCommit:
    """Writes upserts in shared statements; calls and bulk have queues of their own, so that calls go by an import.

    Invariants, which hold between any two turns of the event loop (a stateful test checks them after every step):

    1. Per key at most one upsert is active (queued, being written, or waiting to run again); the others of the key
       follow in order of arrival, through every retry.
    2. An upsert is held from `submit` until exactly one release; room, deadlines and order know just what is held.
    3. A future settles at most once, and at the latest when its upsert is released.
    4. A queue that is not empty has a start scheduled, a timer armed, or as many statements running as there may be.
    5. A statement is cancelled at most once, and only when nobody waits for it; its keys are released when it is over.
    6. What failed for reasons of its own is alone in that: an upsert fails for what the database says of it, or for
       what befalls the whole service, and never for the sake of another.
    """

    def __init__(
        self,
        repository: ParticipantRepository,
        observer: Observer | None = None,
        crowded: Callable[[], bool] = lambda: False,
    ) -> None:
        self._repository = repository
        self._observer = observer or Observer()
        self._crowded = crowded
        self._executor = Executor(repository)
        self._loop = asyncio.get_running_loop()
        self._admission = Admission()
        self._order = KeyOrder()
        # By route, and whether for bulk.
        self._batchers: dict[tuple[str, bool], Batcher] = {}
        self._held: set[PendingUpsert] = set()
        self._deadlines = Deadlines()
        self._expiry_timer = SharedTimer(self._expire)
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def submit(
        self, upsert: Upsert, deadline: float, *, bulk: bool = False, on_wait: Callable[[], None] | None = None
    ) -> asyncio.Future[Outcome]:
        """Queues one upsert, and returns the future of what becomes of it (see UpsertWriter).

        It is Rejected with Overloaded, at once, when its organization has its share of the room, or when the deadline
        would pass before its turn; with DeadlineExceeded, Conflict or Unavailable later.
        """
        key = (upsert.organization_id, upsert.external_id)
        pending = PendingUpsert(upsert, key, deadline, self._repository.route(upsert), bulk, self._loop.create_future())
        pending.trace, pending.on_wait = current_trace.get(), on_wait
        batcher = self._batcher(pending)
        refusal = self._refusal(pending, batcher)
        if refusal is not None:
            pending.outcome.set_result(Rejected(refusal))
            if bulk:
                self._observer.refused(refusal.reason)
            return pending.outcome
        if not self._held:
            self._is_empty.clear()
        self._held.add(pending)
        self._deadlines.add(pending)
        self._expiry_timer.run_by(deadline + TIMER_RESOLUTION)
        if self._order.enter(pending):
            batcher.add(pending)
        else:
            pending.waits()
        return pending.outcome

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more; to be called after futures were cancelled."""
        for batcher in self._batchers.values():
            batcher.withdraw()

    def load(self) -> tuple[int, int]:
        """Returns how many upserts are held, and their bytes."""
        return len(self._held), self._admission.held_bytes

    async def close(self) -> None:
        """Waits until every submitted upsert has settled, including those that run again, but not for ever: what is
        left is Rejected with Unavailable, and its statements are cancelled. Nothing may be submitted any more."""
        if not await self._empties_within(CLOSE_TIMEOUT):
            for pending in self._held:
                if not pending.outcome.done():
                    pending.outcome.set_result(Rejected(Unavailable()))
            self.withdraw()
            await self._empties_within(CANCEL_TIMEOUT)

    async def _empties_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._is_empty.wait()
        except TimeoutError:
            return False
        return True

    def _batcher(self, pending: PendingUpsert) -> Batcher:
        batcher = self._batchers.get((pending.route, pending.bulk))
        if batcher is None:
            batcher = self._batchers[pending.route, pending.bulk] = Batcher(
                self._executor, self._settle, self._observer, self._crowded
            )
        return batcher

    def _refusal(self, pending: PendingUpsert, batcher: Batcher) -> Overloaded | None:
        wait = batcher.expected_wait(pending, self._order.following(pending.key))
        if wait and self._loop.time() + wait > pending.deadline:
            message = "the deadline would pass before the upsert has its turn; retry"
            return Overloaded(message, reason="DEADLINE_BEFORE_TURN")
        if not self._admission.admit(pending):
            return Overloaded("too many upserts of this organization are waiting to be written; retry")
        return None

    def _expire(self) -> None:
        """Tells those whose deadline has passed, then re-arms for the next."""
        for pending in self._deadlines.passed(self._loop.time() + TIMER_RESOLUTION):
            if not pending.outcome.done():
                pending.outcome.set_result(Rejected(DeadlineExceeded()))
        self._expiry_timer.run_by(self._deadlines.next())
        self.withdraw()

    def _settle(self, pending: PendingUpsert, outcome: Outcome | Retry) -> None:
        if isinstance(outcome, Retry):
            self._run_again(pending, alone=outcome is RETRY_ALONE)
            return
        if not pending.outcome.done():
            pending.outcome.set_result(outcome)
        self._release(pending)

    def _run_again(self, pending: PendingUpsert, *, alone: bool) -> None:
        """Has an upsert run again that lost to another transaction. It keeps its key, so its successors wait."""
        pending.waits()
        if alone:
            pending.alone = True
            self._batcher(pending).add(pending)
            return
        pending.attempts += 1
        if pending.attempts > MAX_RETRIES:
            self._settle(pending, Rejected(Conflict("the participant is locked by another transaction; retry")))
            return
        self._observer.retried()
        pause = min(RETRY_PAUSE * (pending.attempts - 1), MAX_RETRY_PAUSE)
        self._loop.call_later(pause, self._again, pending)

    def _again(self, pending: PendingUpsert) -> None:
        self._batcher(pending).add(pending, first=True)

    def _release(self, pending: PendingUpsert) -> None:
        """Lets an upsert go, and the next of its key come forward; those that nobody waits for go with it."""
        self._forget(pending)
        following = self._order.leave(pending.key)
        while following is not None and following.outcome.done():
            self._forget(following)
            following = self._order.leave(following.key)
        if following is not None:
            self._batcher(following).add(following)
        if not self._held:
            self._is_empty.set()

    def _forget(self, pending: PendingUpsert) -> None:
        self._held.remove(pending)
        self._admission.release(pending)
        self._deadlines.discard(pending)
