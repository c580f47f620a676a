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
AT_ONCE = 16
# So many may wait of key holders, and as many of strangers; each takes some kilobytes. Of an organization, or of a
# stranger's connection, as many may as are left free, and one in any case: so there is room for whoever comes.
MAX_WAITING = 4_000


class Intake:
    """The calls that are taken from grpcio, and wait to be begun."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._event_loop = asyncio.get_running_loop()
        # By organization, and by connection.
        self._holders, self._strangers = RoundRobin[asyncio.Future[None]](), RoundRobin[asyncio.Future[None]]()
        # How many were begun since the event loop came round.
        self._begun = 0

    def try_begin(self) -> bool:
        """Begins a call, unless it has to wait."""
        if self._begun >= AT_ONCE or self._holders.size or self._strangers.size:
            return False
        if not self._begun:
            self._event_loop.call_soon(self._come_round)
        self._begun += 1
        return True

    async def begin(self, peer: str) -> bool:
        """Waits until a call that could not begin has its turn; returns False at once where too many wait."""
        organization_id = self._ledger.organization(peer)
        waiting, caller = (self._strangers, peer) if organization_id is None else (self._holders, organization_id)
        own = waiting.of(caller)
        if own and own >= MAX_WAITING - waiting.size:
            return False
        turn = self._event_loop.create_future()
        waiting.add(caller, turn)
        await turn
        return True

    def _come_round(self) -> None:
        self._begun = 0
        for turn in self._next():
            # Whoever waits when the service ends is cancelled.
            if not turn.cancelled():
                turn.set_result(None)
                self._begun += 1
            if self._begun == AT_ONCE:
                break
        if self._begun:
            self._event_loop.call_soon(self._come_round)

    def _next(self) -> Iterator[asyncio.Future[None]]:
        """Yields the turns of those who wait, of key holders and of strangers alternately."""
        while self._holders.size or self._strangers.size:
            for waiting in (self._holders, self._strangers):
                if waiting.size:
                    yield waiting.take()
