"""The connections to Postgres: the pool, how each is set up and checked, and what its errors mean."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.pq import ConnStatus
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from server.errors import Unavailable
from server.participants.repository import Contention, Refused
from server.postgres import queries
from server.postgres.prepared import PreparedConnection, Row
from server.postgres.queries import Query

logger = logging.getLogger(__name__)

MIN_CONNECTIONS = 2
MAX_CONNECTIONS = 10
# How long a request waits for a connection, and the service for a new one, before it says UNAVAILABLE; in seconds.
POOL_TIMEOUT = 3.0
CONNECT_TIMEOUT = 3
# A network that swallows packets is noticed this soon; in milliseconds.
TCP_USER_TIMEOUT = 5_000

# Upserts wait for other transactions' locks only where two insert the same key, and then briefly. The plans of our
# statements are all look-ups by key, made once per connection: planning each execution anew would cost more than
# running it, and a plan made while a table was small must not scan it when it has grown.
SESSION: tuple[LiteralString, ...] = (
    "SET timezone = 'UTC'",
    "SET lock_timeout = '200ms'",
    "SET statement_timeout = '15s'",
    "SET idle_in_transaction_session_timeout = '30s'",
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET jit = off",
)

# How long a connection stays out of the pool, in seconds: the pool looks at its age only when it comes back.
LEASE = 60.0


class Database:
    """The connections that requests use, each with our queries prepared.

    The pool connects, replaces and counts. A connection taken from it is kept for LEASE, idle between statements: to
    check one out and in for each statement would cost more than a small statement does.
    """

    def __init__(self, conninfo: str) -> None:
        self._pool = AsyncConnectionPool(
            conninfo,
            kwargs=connection_options(),
            min_size=MIN_CONNECTIONS,
            max_size=MAX_CONNECTIONS,
            timeout=POOL_TIMEOUT,
            # Short, so that an attempt that began while Postgres was away does not back off past its return.
            reconnect_timeout=CONNECT_TIMEOUT,
            configure=_set_up,
            check=_check,
            open=False,
        )
        self._idle: list[PreparedConnection] = []
        # How many wait for the pool: what is given back goes to them first.
        self._waiting = 0
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        if self._background:
            await asyncio.wait(self._background)
        while self._idle:
            await self._pool.putconn(self._idle.pop().detach())
        await self._pool.close(timeout=1.0)

    async def write(self, query: Query, *parameters: bytes | None) -> Sequence[Row]:
        """Runs one query in a commit of its own, and returns its rows. Parameters are in Postgres' text format.

        When it is cancelled it has the statement cancelled, and returns only when that is over: whatever is run after
        it comes after it. Raises Unavailable, Contention and Refused in place of the driver's errors.
        """
        with translated_errors():
            prepared = await self._take()
            try:
                return await prepared.run(query, parameters)
            finally:
                await self._end(prepared)

    async def read(self, query: Query, *parameters: bytes | None) -> Sequence[Row]:
        """Runs one query that writes nothing, as `write` does, and raises Unavailable and Refused.

        When it is cancelled it returns at once, and the statement is cancelled in the background.
        """
        try:
            with translated_errors():
                prepared = await self._take()
                try:
                    return await prepared.run(query, parameters)
                finally:
                    if prepared.is_idle:
                        await self._give_back(prepared)
                    else:
                        self._run_in_background(self._end(prepared))
        except Contention:
            # A reader waits for a table only, which a migration holds.
            raise Unavailable from None

    async def _take(self) -> PreparedConnection:
        while self._idle:
            prepared = self._idle.pop()
            if prepared.is_idle:
                return prepared
            await self._pool.putconn(prepared.detach())
        self._waiting += 1
        try:
            return PreparedConnection(await self._pool.getconn())
        finally:
            self._waiting -= 1

    async def _end(self, prepared: PreparedConnection) -> None:
        try:
            await prepared.cancel()
        finally:
            await self._give_back(prepared)

    async def _give_back(self, prepared: PreparedConnection) -> None:
        if prepared.is_idle and not self._waiting and time.monotonic() - prepared.taken < LEASE:
            self._idle.append(prepared)
        else:
            await self._pool.putconn(prepared.detach())

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def connection_options() -> dict[str, Any]:
    """Returns what every connection of the service is opened with."""
    return {
        "autocommit": True,
        "application_name": "participants",
        "connect_timeout": CONNECT_TIMEOUT,
        "tcp_user_timeout": TCP_USER_TIMEOUT,
        "keepalives_idle": 30,
    }


@contextmanager
def translated_errors() -> Iterator[None]:
    """Says in the service's words what a driver's error means. Other errors are faults and pass unchanged."""
    try:
        yield
    except (psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure):
        raise Contention from None
    except psycopg.errors.QueryCanceled as error:
        logger.warning("a statement was cancelled: %s", error.diag.message_primary)
        raise Unavailable from None
    except (psycopg.DataError, psycopg.IntegrityError) as error:
        # Nothing of the value itself: it is the caller's data.
        logger.warning("the database refused a value: %s %s", error.sqlstate, error.diag.constraint_name)
        raise Refused from None
    except (psycopg.OperationalError, PoolTimeout, PoolClosed) as error:
        logger.warning("the database is not available: %s", type(error).__name__)
        raise Unavailable from error


async def _set_up(connection: AsyncConnection) -> None:
    set_json_loads(orjson.loads, connection)
    for statement in SESSION:
        await connection.execute(statement)
    prepared = PreparedConnection(connection)
    try:
        for query in queries.ALL:
            await prepared.prepare(query)
    finally:
        prepared.detach()


async def _check(connection: AsyncConnection) -> None:
    """Finds a connection that Postgres closed while it was idle, without a round trip: its socket says so."""
    # What Postgres said in parting may come first, and the end of the stream only then.
    connection.pgconn.consume_input()
    connection.pgconn.consume_input()
    if connection.pgconn.status != ConnStatus.OK:
        raise psycopg.OperationalError("the connection was closed")
