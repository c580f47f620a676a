"""Asks Postgres whether it takes writes, on a connection of its own: a busy pool must not look like a dead database.

When it does, and statements of others have been without an answer since it was last asked, it is asked of them,
too. A network that swallowed packets for a while leaves connections behind on which neither end ever hears of the other
again, and the kernel does not notice where something in between, a proxy, acknowledges what is sent. Through PgBouncer,
whose connections have process ids of their own, such statements are not found, and wait until their callers go.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

import psycopg
from psycopg import AsyncConnection

from server.config import ConfigurationError, Conninfo
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.errors import described
from server.postgres.prepared import PreparedConnection
from server.postgres.rows import array
from server.postgres.session import connection_options, session_conninfo

logger = logging.getLogger(__name__)

# Longer than a busy Postgres takes for an empty commit, and so short that three in a row, with the pauses between them,
# tell of a frozen one within 5 s; in seconds.
TIMEOUT = 1.0


class Probe:
    """One connection that is kept for asking, and made anew when it was lost.

    `database` has the connections on which lost answers are to be found.
    """

    def __init__(self, conninfo: Conninfo, database: Database | None = None) -> None:
        self._conninfo = conninfo
        self._database = database
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
                overdue = self._database.overdue() if self._database is not None else []
                connection = await self._connected()
                ((writable, *_),) = await connection.run(queries.CAN_WRITE, ())
                if overdue:
                    await self._lose(connection, overdue)
                return None if writable else "it is read-only"
        except TimeoutError:
            return f"no answer within {TIMEOUT} s"
        except psycopg.Error as error:
            return described(error)
        except ConfigurationError as error:
            return str(error)
        except OSError as error:
            return type(error).__name__

    async def _connected(self) -> PreparedConnection:
        if self._connection is None:
            connection = await AsyncConnection.connect(session_conninfo(self._conninfo), **connection_options())
            self._connection = PreparedConnection(connection)
            for query in (queries.CAN_WRITE, queries.IDLE_BACKENDS):
                await self._connection.prepare(query)
        return self._connection

    async def _lose(self, connection: PreparedConnection, overdue: Sequence[int]) -> None:
        """Has the database close its connections to those backends that have nothing to do."""
        assert self._database is not None
        idle = await connection.run(queries.IDLE_BACKENDS, [array([str(backend) for backend in overdue])])
        if idle:
            logger.warning("answers of the database are lost; its connections are made anew")
            await self._database.lose({pid for (pid,) in idle})
