"""The parts that must run as long as the service does: when one ends, the service ends, rather than go on half dead."""

from __future__ import annotations

import asyncio
import logging

logger = logging.getLogger(__name__)


class PartFailed(Exception):
    """A part of the service ended by itself. The message says which, in one line."""


class Parts:
    """The tasks of those parts, by what the log calls them."""

    def __init__(self) -> None:
        self._names: dict[asyncio.Task[None], str] = {}

    def watch(self, name: str, task: asyncio.Task[None]) -> None:
        """Counts a task among the parts."""
        self._names[task] = name

    async def run_until(self, stop: asyncio.Event) -> None:
        """Waits for the event. Raises PartFailed as soon as a part ends, for whatever reason."""
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([stopping, *self._names], return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            return
        stopping.cancel()
        part = next(task for task in self._names if task.done())
        cause = None if part.cancelled() else part.exception()
        logger.error("%s ended", self._names[part], exc_info=cause)
        why = f" ({type(cause).__name__})" if cause else ""
        raise PartFailed(f"{self._names[part]} ended unexpectedly{why}, and the service with it")
