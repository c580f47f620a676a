"""Readiness: asks the database again and again whether it takes writes, and tells whoever wants to know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

# In seconds. While a probe fails the next one follows sooner, so that FAILURES of them fit in 5 s with their time
# limits.
CHECK_EVERY = 1.0
RETRY_EVERY = 0.2
# So many probes in a row have to fail: one that was lost says little.
FAILURES = 3


class Health:
    """Whether the service is ready. It is not before the first probe succeeded, nor while it is draining."""

    def __init__(self, is_up: Callable[[], Awaitable[bool]]) -> None:
        self._is_up = is_up
        self._failures = FAILURES
        self._changed = asyncio.Event()
        self.draining = False
        self.ready = False

    async def watch_forever(self) -> None:
        """Probes the database again and again; to be run as a task."""
        while True:
            await self.check()
            await asyncio.sleep(RETRY_EVERY if 0 < self._failures < FAILURES else CHECK_EVERY)

    async def check(self) -> None:
        """Probes the database once."""
        self._failures = 0 if await self._is_up() else self._failures + 1
        self._decide()

    def drain(self) -> None:
        """Is not ready from now on, so that no new calls are sent here."""
        self.draining = True
        self._decide()

    @property
    def changed(self) -> asyncio.Event:
        """Is set when `ready` becomes another, and is another event from then on."""
        return self._changed

    def _decide(self) -> None:
        ready = not self.draining and self._failures < FAILURES and (self.ready or not self._failures)
        if ready == self.ready:
            return
        logger.info("ready" if ready else "not ready")
        self.ready = ready
        # Whoever waits is woken, and nobody is waited for.
        self._changed.set()
        self._changed = asyncio.Event()
