"""Health: asks the database again and again, and tells grpc.health.v1 and /readyz what it said."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from grpc_health.v1 import health, health_pb2

logger = logging.getLogger(__name__)

# In seconds. A probe adds at most its own time limit, so health flips within a few seconds.
CHECK_EVERY = 1.0
# The names that follow the database. `liveness` does not: a failover must not restart every pod.
DATABASE_NAMES = ("", "participants.v1.ParticipantService", "readiness")
LIVENESS = "liveness"


class Health:
    """What the service says of itself. Not ready until the first probe answered."""

    def __init__(self, is_up: Callable[[], Awaitable[bool]]) -> None:
        self._is_up = is_up
        self.draining = False
        self.ready = False
        self.servicer = health.aio.HealthServicer()

    async def watch_forever(self) -> None:
        """Probes the database again and again; to be run as a task."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_EVERY)

    async def check(self) -> None:
        """Probes the database once, and says what it found."""
        up = await self._is_up()
        if not self.draining:
            await self._say(up)

    async def drain(self) -> None:
        """Says NOT_SERVING from now on, so that no new calls are sent here."""
        self.draining = True
        await self._say(False)

    async def _say(self, ready: bool) -> None:
        if ready != self.ready:
            logger.info("ready" if ready else "not ready")
        self.ready = ready
        status = health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING
        for name in DATABASE_NAMES:
            await self.servicer.set(name, status)
        await self.servicer.set(LIVENESS, health_pb2.HealthCheckResponse.SERVING)
