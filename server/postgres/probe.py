"""Asks Postgres whether it takes writes, on a connection of its own: a busy pool must not look like a dead database."""

from __future__ import annotations

import asyncio
import logging

import psycopg
from psycopg import AsyncConnection

from server.config import ConfigurationError, Conninfo
from server.postgres import queries
from server.postgres.errors import described
from server.postgres.prepared import PreparedConnection
from server.postgres.session import connection_options, session_conninfo

logger = logging.getLogger(__name__)

# Longer than a busy Postgres takes for an empty commit, and so short that three in a row, with the pauses between them,
# tell of a frozen one within 5 s; in seconds.
TIMEOUT = 1.0


class Probe:
    """One connection that is kept for asking, and made anew when it was lost."""

    def __init__(self, conninfo: Conninfo) -> None:
        self._conninfo = conninfo
        self._connection: PreparedConnection | None = None
        self._failure: str | None = None

    async def can_write(self) -> bool:
        """Tells whether Postgres committed a write within TIMEOUT. Never takes longer, also when Postgres is frozen."""
        failure = await self._try()
        if failure is not None:
            await self.close()
            if failure != self._failure:
                logger.warning("the database takes no writes: %s", failure)
        self._failure = failure
        return failure is None

    async def close(self) -> None:
        """Closes the connection, and waits for nothing: what is under way on it is left to Postgres."""
        if self._connection is not None:
            connection, self._connection = self._connection.detach(), None
            await connection.close()

    async def _try(self) -> str | None:
        """Returns what is in the way of a write, if there is something."""
        try:
            async with asyncio.timeout(TIMEOUT):
                return None if await self._write() else "it is read-only"
        except TimeoutError:
            return f"no answer within {TIMEOUT} s"
        except psycopg.Error as error:
            return described(error)
        except ConfigurationError as error:
            return str(error)
        except OSError as error:
            return type(error).__name__

    async def _write(self) -> bool:
        if self._connection is None:
            connection = await AsyncConnection.connect(session_conninfo(self._conninfo), **connection_options())
            self._connection = PreparedConnection(connection)
            await self._connection.prepare(queries.CAN_WRITE)
        ((writable, *_),) = await self._connection.run(queries.CAN_WRITE, ())
        return bool(writable)
