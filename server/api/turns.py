"""Whose call is worked on next, so that nobody waits for what another organization sends.

One event loop works on everybody's calls, on a part of each of those begun in turn: a call takes as long as all that is
begun beside it. So no more of an organization's calls are begun than their kind allows `at_once`, and far fewer while
several organizations call; the others wait here, in the order in which they came. So what stands before somebody who
calls little is bounded, however much anybody else sends.

A call that waits for something other than the event loop gives its turn up, and others of its organization need not
wait with it: one whose participant is locked or busy, by `Turn.end`, and any other that is not done when its lease has
ended, such as one whose message does not arrive, which needs another turn once it has. But a batch that is here keeps
its turn, by `Turn.keep`: were more of them begun while the database is slow, they would take all room that their
organization has, also from its calls.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field

from server.errors import Overloaded
from server.writes.timer import SharedTimer

# Who called within this time, or twice as long, calls lately; in seconds.
PERIOD = 1.0
# So many may wait in all, and of an organization as many as are still free.
MAX_WAITING = 4_096
# How much the last wait counts in what waits took lately.
RECENT = 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """How many calls of a kind are begun at once, for an organization that calls alone and for one among others, and
    for how long each counts as such, in seconds."""

    at_once: float
    at_once_among_others: int
    lease: float


# Few, for they are what another organization's call has beside it, and enough to share statements. Of batches as many
# as keep the database busy: beside more of them, calls of the same organization would wait, and find no room.
CALL = Kind(at_once=math.inf, at_once_among_others=4, lease=0.1)
BATCH = Kind(at_once=8, at_once_among_others=1, lease=1.0)


@dataclass(slots=True, eq=False)
class _Queue:
    """The calls of one organization and kind, in the order in which they came."""

    kind: Kind
    begun: dict[Turn, None] = field(default_factory=dict)
    # Those begun that have no lease any more.
    kept: set[Turn] = field(default_factory=set)
    waiting: dict[Turn, None] = field(default_factory=dict)
    # When the last of those that waited began, and how long it took from one to the next lately; in seconds.
    last_begin: float = -math.inf
    pace: float = 0.0

    def is_full(self, *, crowded: bool) -> bool:
        return len(self.begun) + len(self.kept) >= (self.kind.at_once_among_others if crowded else self.kind.at_once)

    @property
    def lease_ends(self) -> float:
        """When the oldest call with a lease stops counting."""
        oldest = next(iter(self.begun), None)
        return math.inf if oldest is None else oldest.since + self.kind.lease


class Turn:
    """A call that has its turn, or waits for it. `since` is when it began, or came."""

    __slots__ = ("_queue", "_turns", "begins", "since")

    def __init__(self, turns: Turns, queue: _Queue, since: float, begins: asyncio.Future[None] | None = None) -> None:
        self._turns = turns
        self._queue = queue
        self.since = since
        self.begins = begins

    def end(self) -> None:
        """Gives the turn up, or the place; once it has been given up this does nothing."""
        self._turns.end(self, self._queue)

    @property
    def has_lapsed(self) -> bool:
        """Whether its lease has ended, and another has its place."""
        return self not in self._queue.begun and self not in self._queue.kept

    def keep(self) -> None:
        """Has the call count until it ends, however long it takes, also where its lease has ended."""
        self._queue.begun.pop(self, None)
        self._queue.kept.add(self)


class Turns:
    """The calls that are begun and that wait. `clock` is the event loop's."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock or asyncio.get_running_loop().time
        self._queues: dict[tuple[str, Kind], _Queue] = {}
        # How many calls wait.
        self.waiting = 0
        # Who called since the period began, and who in the one before.
        self._present: set[str] = set()
        self._before: set[str] = set()
        self._period_ends = -math.inf
        self._timer = SharedTimer(self.look)
        # Whether several organizations called lately.
        self.crowded = False

    def try_begin(self, organization_id: str, kind: Kind) -> Turn | None:
        """Begins a call, or returns None where it has to wait."""
        now = self._clock()
        if now >= self._period_ends:
            self._begin_period(now)
        if organization_id not in self._present:
            self._present.add(organization_id)
            self._count_organizations()
        queue = self._queues.get((organization_id, kind))
        if queue is None:
            queue = self._queues[organization_id, kind] = _Queue(kind)
        elif queue.waiting or queue.is_full(crowded=self.crowded):
            return None
        turn = Turn(self, queue, now)
        queue.begun[turn] = None
        return turn

    async def begin(self, organization_id: str, kind: Kind, deadline: float) -> Turn:
        """Waits until a call that could not begin has its turn. `deadline` is on the event loop's clock.

        Raises Overloaded: at once where the turn would come too late or too many wait, else at the deadline.
        """
        queue, now = self._queues[organization_id, kind], self._clock()
        if now + (len(queue.waiting) + 1) * queue.pace > deadline:
            raise _too_late()
        if len(queue.waiting) >= MAX_WAITING - self.waiting:
            raise Overloaded("too many calls of this organization are waiting; retry")
        begins: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        turn = Turn(self, queue, now, begins)
        queue.waiting[turn] = None
        self.waiting += 1
        self._timer.run_by(max(now, min(queue.lease_ends, self._period_ends)))
        try:
            async with asyncio.timeout_at(deadline):
                await begins
        except TimeoutError:
            turn.end()
            raise _too_late() from None
        except asyncio.CancelledError:
            turn.end()
            raise
        return turn

    def end(self, turn: Turn, queue: _Queue) -> None:
        """See Turn.end."""
        if turn in queue.begun or turn in queue.kept:
            queue.begun.pop(turn, None)
            queue.kept.discard(turn)
            if queue.waiting:
                self._let_in(queue, self._clock())
        elif turn in queue.waiting:
            del queue.waiting[turn]
            self.waiting -= 1

    def look(self) -> None:
        """Lets those in who need not wait any more, because a lease has ended or their organization calls alone."""
        now = self._clock()
        if now >= self._period_ends:
            self._begin_period(now)
        again = math.inf
        for queue in self._queues.values():
            while queue.waiting and queue.lease_ends <= now:
                del queue.begun[next(iter(queue.begun))]
                self._let_in(queue, now)
            self._let_in(queue, now)
            if queue.waiting:
                again = min(again, queue.lease_ends, self._period_ends)
        self._timer.run_by(again)

    def _let_in(self, queue: _Queue, now: float) -> None:
        while queue.waiting and not queue.is_full(crowded=self.crowded):
            turn = next(iter(queue.waiting))
            del queue.waiting[turn]
            self.waiting -= 1
            queue.pace += RECENT * (now - max(turn.since, queue.last_begin) - queue.pace)
            queue.last_begin = turn.since = now
            queue.begun[turn] = None
            if turn.begins is not None and not turn.begins.done():
                turn.begins.set_result(None)

    def _begin_period(self, now: float) -> None:
        self._before = self._present if now < self._period_ends + PERIOD else set()
        self._period_ends = now + PERIOD
        self._queues = {key: queue for key, queue in self._queues.items() if queue.begun or queue.kept or queue.waiting}
        # Who has calls from before still calls.
        self._present = {organization_id for organization_id, _ in self._queues}
        self._count_organizations()

    def _count_organizations(self) -> None:
        self.crowded = len(self._present | self._before) > 1


def _too_late() -> Overloaded:
    return Overloaded("the deadline would pass before the call has its turn; retry", reason="DEADLINE_BEFORE_TURN")
