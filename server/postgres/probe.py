"""Asks Postgres whether it answers, on a connection of its own: a busy pool must not look like a dead database."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
from psycopg import AsyncConnection

from server.postgres.session import connection_options

# Longer than a busy Postgres takes for an empty query, and short enough for a health check to wait for; in seconds.
TIMEOUT = 2.0


class Probe:
    """One connection that is kept for asking, and made anew when it was lost."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: AsyncConnection[Any] | None = None

    async def is_up(self) -> bool:
        """Tells whether Postgres answered within TIMEOUT."""
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._ask()
        except (psycopg.Error, OSError, TimeoutError):
            await self.close()
            return False
        return True

    async def close(self) -> None:
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    async def _ask(self) -> None:
        if self._connection is None:
            self._connection = await AsyncConnection.connect(self._conninfo, **connection_options())
        await self._connection.execute("SELECT 1")
