"""The ends of calls, few each time the event loop comes round.

Whoever closes a connection ends all its calls at once, and what was refused to a flood is sent all at once when grpcio
comes to it. Thousands of calls would then end together, while everybody else waits for half a second.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from server.rpc.contexts import Sent

# Each time the event loop comes round. An end takes it some tens of microseconds; until then the call holds memory.
AT_ONCE = 96


class Endings:
    """What grpcio takes for the event loop while a call's answer is sent, and while it waits for the call to end.

    As this is not the event loop which hears that something has been sent, or ended, grpcio asks it to see to that.
    """

    def __init__(self) -> None:
        self._event_loop = asyncio.get_running_loop()
        self.create_task = self._event_loop.create_task
        self.create_future = partial(Sent, loop=self._event_loop)
        self._waiting: deque[Callable[[], object]] = deque()
        # How many were seen to since the event loop came round, and whether it is seen the next time.
        self._ended = 0
        self._will_come_round = False

    def call_soon_threadsafe(self, end: Callable[..., object], *of: Any) -> None:
        """Sees to an end. Called by the event loop, which hears of all that grpcio's threads have done."""
        if self._ended < AT_ONCE and not self._waiting:
            self._ended += 1
            end(*of)
        else:
            self._waiting.append(partial(end, *of))
        if not self._will_come_round:
            self._will_come_round = True
            self._event_loop.call_soon(self._come_round)

    def _come_round(self) -> None:
        self._ended = min(len(self._waiting), AT_ONCE)
        for _ in range(self._ended):
            self._waiting.popleft()()
        self._will_come_round = self._ended > 0
        if self._will_come_round:
            self._event_loop.call_soon(self._come_round)
