"""Group commit: upserts that are in flight together go to the database in one statement and one commit.

An upsert goes one way: `submit` → order per key → queue, fair by organization → batcher → executor → repository. What
became of it comes back by `_settle`, whatever happened on the way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from server.errors import Conflict, DeadlineExceeded, Overloaded, Unavailable
from server.participants.model import Outcome, Rejected, Retry, Upsert
from server.participants.repository import ParticipantRepository
from server.participants.retries import MAX_RETRIES, pause_before
from server.writes.admission import Admission
from server.writes.batcher import TIMER_RESOLUTION, Batcher
from server.writes.deadlines import Deadlines
from server.writes.executor import RETRY_ALONE, Executor
from server.writes.key_order import KeyOrder
from server.writes.observer import Observer, current_trace
from server.writes.pending import PendingUpsert, Submission
from server.writes.timer import SharedTimer

# How long what is held may take to end once the writer is closed, and then what is cancelled; in seconds.
CLOSE_TIMEOUT = 3.0
CANCEL_TIMEOUT = 3.0


class GroupCommit:
    """Writes upserts in shared statements; calls and bulk have queues of their own, so that calls go by an import.

    Invariants, which hold between any two turns of the event loop (a stateful test checks them after every step):

    1. Per key at most one upsert is active (queued, being written, or waiting to run again); the others of the key
       follow in order of arrival, through every retry.
    2. An upsert is held from `submit` until exactly one release, and a submission until its last upsert is released;
       room, deadlines and order know just what is held.
    3. A future settles at most once, and at the latest when the last upsert of its submission is released.
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
        self._held: set[Submission] = set()
        self._deadlines = Deadlines()
        self._expiry_timer = SharedTimer(self._expire)
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def submit(
        self,
        upserts: Sequence[Upsert],
        deadline: float,
        *,
        bulk: bool = False,
        keep: Callable[[Outcome], Any] | None = None,
        on_wait: Callable[[], None] | None = None,
    ) -> asyncio.Future[Sequence[Any]]:
        """Queues upserts of one organization, and returns the future of what becomes of each (see UpsertWriter).

        They are Rejected with Overloaded, at once, all of them when their organization has its share of the room, and
        one whose turn would come after the deadline; with DeadlineExceeded, Conflict or Unavailable later.
        """
        organization_id, count = upserts[0].organization_id, len(upserts)
        size = upserts[0].size if count == 1 else sum([upsert.size for upsert in upserts])
        submission = Submission(
            organization_id, [None] * count, size, deadline, bulk, self._loop.create_future(), keep, on_wait,
            current_trace.get(), count,
        )  # fmt: skip
        if not self._admission.admit(organization_id, count, size):
            full = Overloaded("too many upserts of this organization are waiting to be written; retry")
            submission.finish(Rejected(full))
            for _ in upserts:
                self._observe_refusal(full, submission)
            return submission.future
        if not self._held:
            self._is_empty.clear()
        self._held.add(submission)
        self._deadlines.add(submission)
        self._expiry_timer.run_by(deadline + TIMER_RESOLUTION)
        for position, upsert in enumerate(upserts):
            key = (organization_id, upsert.external_id)
            self._enter(PendingUpsert(upsert, key, self._repository.route(upsert), submission, position))
        return submission.future

    def withdraw(self) -> None:
        """Stops the statements for which nobody waits any more; to be called after futures were cancelled."""
        for batcher in self._batchers.values():
            batcher.withdraw()

    def load(self) -> tuple[int, int]:
        """Returns how many upserts are held, and their bytes."""
        return self._admission.held

    async def close(self) -> None:
        """Waits until every submitted upsert has settled, including those that run again, but not for ever: what is
        left is Rejected with Unavailable, and its statements are cancelled. Nothing may be submitted any more."""
        if not await self._empties_within(CLOSE_TIMEOUT):
            for submission in self._held:
                submission.finish(Rejected(Unavailable()))
            self.withdraw()
            await self._empties_within(CANCEL_TIMEOUT)

    async def _empties_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._is_empty.wait()
        except TimeoutError:
            return False
        return True

    def _enter(self, pending: PendingUpsert) -> None:
        """Has an upsert queued, or follow those of its key, unless its turn would come too late."""
        batcher = self._batcher(pending)
        if batcher.would_be_late(pending, self._order.following(pending.key)):
            message = "the deadline would pass before the upsert has its turn; retry"
            refusal = Overloaded(message, reason="DEADLINE_BEFORE_TURN")
            self._observe_refusal(refusal, pending.submission)
            pending.submission.settle(pending.position, Rejected(refusal))
            self._leave(pending.submission)
        elif self._order.enter(pending):
            batcher.add(pending)
        else:
            pending.waits()

    def _batcher(self, pending: PendingUpsert) -> Batcher:
        queue = pending.route, pending.submission.bulk
        batcher = self._batchers.get(queue)
        if batcher is None:
            batcher = self._batchers[queue] = Batcher(self._executor, self._settle, self._observer, self._crowded)
        return batcher

    def _observe_refusal(self, refusal: Overloaded, submission: Submission) -> None:
        if submission.bulk:
            self._observer.refused(refusal.reason)

    def _expire(self) -> None:
        """Tells those whose deadline has passed, then re-arms for the next."""
        for submission in self._deadlines.passed(self._loop.time() + TIMER_RESOLUTION):
            submission.finish(Rejected(DeadlineExceeded()))
        self._expiry_timer.run_by(self._deadlines.next())
        self.withdraw()

    def _settle(self, pending: PendingUpsert, outcome: Outcome | Retry) -> None:
        if isinstance(outcome, Retry):
            self._run_again(pending, alone=outcome is RETRY_ALONE)
            return
        pending.submission.settle(pending.position, outcome)
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
        self._loop.call_later(pause_before(pending.attempts), self._again, pending)

    def _again(self, pending: PendingUpsert) -> None:
        self._batcher(pending).add(pending, first=True)

    def _release(self, pending: PendingUpsert) -> None:
        """Lets an upsert go, and the next of its key come forward; those that nobody waits for go with it."""
        following = self._order.leave(pending.key)
        while following is not None and not following.submission.is_awaited:
            self._leave(following.submission)
            following = self._order.leave(following.key)
        if following is not None:
            self._batcher(following).add(following)
        self._leave(pending.submission)

    def _leave(self, submission: Submission) -> None:
        """Counts an upsert of a submission off, and lets the submission go with the last."""
        submission.left -= 1
        if submission.left:
            return
        if not submission.future.done():
            # Each has an outcome: an upsert is released once it is settled, or once nobody waits for it.
            submission.future.set_result(submission.outcomes)
        self._held.remove(submission)
        self._deadlines.discard(submission)
        self._admission.release(submission.organization_id, len(submission.outcomes), submission.size)
        if not self._held:
            self._is_empty.set()
