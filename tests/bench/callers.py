"""What the callers of all protocols share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench.workload import PARTICIPANTS


@dataclass(frozen=True)
class Target:
    """Whom to call and how. `address` is HOST:PORT; `items` is the number of upserts in one request. A call that is
    answered by an error ends the job, unless it `may_be_refused`."""

    address: str
    key: str
    callers: int
    participants: int = PARTICIPANTS
    items: int = 1
    may_be_refused: bool = False


@dataclass(slots=True)
class Calls:
    """The calls of a job: the numbers of those to come, the latencies of those that were answered, and how many were
    refused."""

    numbers: Iterator[int]
    latencies: list[float] = field(default_factory=list)
    refused: int = 0
    stopped: bool = False
    failure: asyncio.Future[None] = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def fail(self, error: Exception) -> None:
        """Ends the job: a system that does not answer has not taken part."""
        self.stopped = True
        if not self.failure.done():
            self.failure.set_exception(error)
