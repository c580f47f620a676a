"""Which call is begun next: of each caller's in turn, few each time the event loop comes round.

Calls are taken from grpcio as they come, for there they would wait in one line, behind whoever floods; and were the
line too long, grpcio would refuse some by chance.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from server.round_robin import RoundRobin
from server.rpc.guard.ledger import Ledger

# Each time the event loop comes round: few enough for all else that it has to see to, and enough to share statements.
AT_ONCE = 32
# Of strangers so few begin where the event loop takes longer than this to come round, in seconds: until its metadata is
# known, which may be megabytes, nobody can tell how long a call takes.
STRANGERS_AT_ONCE, SLOW = 2, 0.01
# So many may wait of key holders, and as many of strangers; each takes some kilobytes, of which Python keeps some for
# ever. Of an organization, or of a stranger's connection, as many may as are left free, and one in any case: so there
# is room for whoever comes.
MAX_WAITING = 2_000


class Intake:
    """The calls that are taken from grpcio, and wait to be begun."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._event_loop = asyncio.get_running_loop()
        # By organization, and by connection.
        self._holders, self._strangers = RoundRobin[asyncio.Future[None]](), RoundRobin[asyncio.Future[None]]()
        # How many were begun since the event loop came round, when that was, whether it had taken long, and whether it
        # is seen the next time.
        self._begun = 0
        self._came_round = 0.0
        self._is_slow = self._will_come_round = False

    def try_begin(self) -> bool:
        """Begins a call, whosever it is, unless it has to wait."""
        return not (self._is_slow or self._strangers.size) and self._try_begin()

    async def begin(self, peer: str) -> bool:
        """Waits until a call that could not begin at once has its turn; returns False at once where too many wait."""
        organization_id = self._ledger.organization(peer)
        if organization_id is None:
            waiting, caller = self._strangers, peer
        elif self._try_begin():
            return True
        else:
            waiting, caller = self._holders, organization_id
        if waiting.of(caller) and not waiting.has_room(caller, MAX_WAITING):
            return False
        turn = self._event_loop.create_future()
        waiting.add(caller, turn)
        await turn
        return True

    def _try_begin(self) -> bool:
        if self._begun >= AT_ONCE or self._holders.size:
            return False
        if not self._will_come_round:
            self._will_come_round = True
            self._came_round = self._event_loop.time()
            self._event_loop.call_soon(self._come_round)
        self._begun += 1
        return True

    def _come_round(self) -> None:
        now = self._event_loop.time()
        self._is_slow, self._came_round = now - self._came_round > SLOW, now
        self._begun = 0
        for turn in self._next(STRANGERS_AT_ONCE if self._is_slow else AT_ONCE):
            # Whoever waits when the service ends is cancelled.
            if not turn.cancelled():
                turn.set_result(None)
                self._begun += 1
            if self._begun == AT_ONCE:
                break
        self._will_come_round = bool(self._begun or self._holders.size or self._strangers.size)
        if self._will_come_round:
            self._event_loop.call_soon(self._come_round)
        else:
            self._is_slow = False

    def _next(self, strangers: int) -> Iterator[asyncio.Future[None]]:
        """Yields the turns of those who wait, of key holders and of so many strangers alternately."""
        while self._holders.size or (self._strangers.size and strangers):
            if self._holders.size:
                yield self._holders.take()
            if self._strangers.size and strangers:
                strangers -= 1
                yield self._strangers.take()
