"""Work that keeps the event loop for long, such as to decode a large request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from server.api.turns import Turns

# What has more bytes than this takes milliseconds to decode, and what has as many as it may takes dozens of them.
LARGE_BYTES = 64 << 10

T = TypeVar("T")


class Stints:
    """Lets the event loop rest from such work for as long as it took, while several organizations call.

    A call takes several turns of the event loop, and each would have to wait for another stint.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._rested_at = 0.0

    async def run(self, work: Callable[[], T]) -> T:
        """Does the work once the event loop has rested from the last, and returns what comes of it."""
        while self._turns.crowded and (rest := self._rested_at - time.monotonic()) > 0:  # noqa: ASYNC110  # time passes by itself
            await asyncio.sleep(rest)
        began = time.monotonic()
        try:
            return work()
        finally:
            ended = time.monotonic()
            self._rested_at = ended + (ended - began)
