"""The calls that are under way, and how they are let finish."""

from __future__ import annotations

import asyncio

# No call arrived for this long: those who wait for an answer have all called. In seconds, as is how long it may take.
QUIET, MAX_QUIET_WAIT = 0.1, 0.5


class Calls:
    """Counts the calls under way, and can hold back what they answer."""

    def __init__(self) -> None:
        self.under_way = 0
        self._arrived = 0
        self._idle = asyncio.Event()
        # While answers are held back, what lets them go.
        self.hold: asyncio.Event | None = None

    def begin(self) -> None:
        """Counts a call that arrived."""
        self.under_way += 1
        self._arrived += 1

    def end(self) -> None:
        """Counts a call off that has its answer."""
        self.under_way -= 1
        if not self.under_way and self.hold is not None:
            self._idle.set()

    async def quiet(self) -> None:
        """Holds answers back, and waits until no more calls arrive: a caller who waits for an answer makes none."""
        self.hold = asyncio.Event()
        for _ in range(round(MAX_QUIET_WAIT / QUIET)):
            arrived = self._arrived
            await asyncio.sleep(QUIET)
            if arrived == self._arrived:
                return

    def release(self) -> None:
        """Lets the answers go."""
        if self.hold is not None:
            self.hold.set()

    async def idle(self) -> None:
        """Waits until no call is under way; to be called once answers have been held back."""
        while self.under_way:
            self._idle.clear()
            await self._idle.wait()
