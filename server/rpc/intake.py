"""Which call is begun next: of each caller's in turn, few each time the event loop comes round.

Calls are taken from grpcio as they come, for there they would wait in one line, behind whoever floods; and were the
line too long, grpcio would refuse some by chance.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Iterator

from server.rpc.guard.ledger import Ledger

# Each time the event loop comes round: few enough for all else that it has to see to, and enough to share statements.
AT_ONCE = 16
# So many may wait of key holders, and as many of strangers; each takes some kilobytes. Of an organization, or of a
# stranger's connection, as many may as are left free: so there is room for whoever comes.
MAX_WAITING = 4_000


class Intake:
    """The calls that are taken from grpcio, and wait to be begun."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._event_loop = asyncio.get_running_loop()
        self._holders, self._strangers = _Line(), _Line()
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
        line = self._strangers if organization_id is None else self._holders
        turn = line.join(organization_id or peer)
        if turn is None:
            return False
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
            for line in (self._holders, self._strangers):
                if line.size:
                    yield line.take()


class _Line:
    """Turns of several callers, of whom each has one in turn."""

    def __init__(self) -> None:
        # By caller, in the order of their turns. None of these is empty.
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.size = 0

    def join(self, caller: str) -> asyncio.Future[None] | None:
        """Returns what will be a caller's turn, or None where too many of its calls wait."""
        if len(self._queues.get(caller, ())) >= MAX_WAITING - self.size:
            return None
        turn = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(turn)
        self.size += 1
        return turn

    def take(self) -> asyncio.Future[None]:
        """Takes out whose turn it is."""
        caller, queue = next(iter(self._queues.items()))
        turn = queue.popleft()
        self.size -= 1
        if queue:
            self._queues.move_to_end(caller)
        else:
            del self._queues[caller]
        return turn
