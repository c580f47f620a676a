"""One timer for many: it runs at the earliest of the moments that were asked for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class SharedTimer:
    """Calls back at the earliest moment that was asked for since it last did.

    One for each who waits would be made and cancelled for every upsert; to ask this one costs a comparison.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._loop = asyncio.get_running_loop()
        self._moment = math.inf
        self._handle: asyncio.TimerHandle | None = None

    def run_by(self, moment: float) -> None:
        """Asks for a call at a moment on the event loop's clock, or earlier; infinity asks for none."""
        if moment < self._moment:
            if self._handle is not None:
                self._handle.cancel()
            self._moment = moment
            self._handle = self._loop.call_at(moment, self._run)

    def _run(self) -> None:
        self._moment = math.inf
        self._handle = None
        self._callback()
