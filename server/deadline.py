"""A call's deadline, kept where the call waits."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.errors import DeadlineExceeded


@asynccontextmanager
async def within(deadline: float) -> AsyncIterator[None]:
    """Runs its block until a deadline on the event loop's clock, and not at all where that has passed.

    Raises DeadlineExceeded. A timeout alone would let the block run up to where it first waits: a statement is sent by
    then. And the event loop's own clock stands still for a turn of the loop, and uvloop's counts whole milliseconds.
    """
    if deadline <= time.monotonic():
        raise DeadlineExceeded
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise DeadlineExceeded from None
