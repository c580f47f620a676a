"""Work that keeps the event loop for long, such as to decode a large request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from contextlib import closing
from typing import TypeVar

from server.api.turns import Turns
from server.deadline import within

# What has more bytes than this takes milliseconds to decode, and what has as many as it may takes dozens of them.
LARGE_BYTES = 64 << 10
# After this long others have the event loop; in seconds.
STINT = 0.005

T = TypeVar("T")


class Stints:
    """Has such work done one piece at a time, in stints, and lets the event loop rest from each for as long as it took,
    while several organizations call.

    A call takes several turns of the event loop, and each would have to wait for another stint. What is worked on holds
    many times what it came in as, so that the next begins when the last is done.
    """

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._working = asyncio.Lock()
        self._rested_at = 0.0

    async def run(self, steps: Generator[T | None], deadline: float) -> T:
        """Does work whose steps yield None, and the last what comes of it, which is returned.

        `deadline` is on the event loop's clock; after it, raises DeadlineExceeded.
        """
        with closing(steps):
            async with within(deadline), self._working:
                while True:
                    await self._rest()
                    result = self._stint(steps)
                    if result is not None:
                        return result
                    await asyncio.sleep(0)

    async def _rest(self) -> None:
        while self._turns.crowded and (rest := self._rested_at - time.monotonic()) > 0:  # noqa: ASYNC110  # time passes by itself
            await asyncio.sleep(rest)

    def _stint(self, steps: Generator[T | None]) -> T | None:
        began = time.monotonic()
        try:
            while True:
                result = next(steps)
                if result is not None or time.monotonic() - began > STINT:
                    return result
        finally:
            ended = time.monotonic()
            self._rested_at = ended + (ended - began)
