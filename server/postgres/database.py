"""The connections to Postgres: the pool, how each is set up and checked, and what its errors mean."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, LiteralString

import orjson
import psycopg
from psycopg import AsyncConnection, generators
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from server.errors import Unavailable
from server.participants.repository import Contention, Refused
from server.postgres import queries
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

Row = Sequence[Any]


class Database:
    """The pool of connections that requests use."""

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

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        await self._pool.close(timeout=1.0)

    async def fetch(self, query: Query, *parameters: bytes) -> Sequence[Row]:
        """Runs one query in a commit of its own, and returns its rows. Parameters are in Postgres' text format.

        Raises Unavailable, Contention and Refused in place of the driver's errors.
        """
        with translated_errors():
            connection = await self._pool.getconn()
            try:
                return await _execute(connection, query, parameters)
            finally:
                await self._pool.putconn(connection)

    async def read(self, query: Query, *parameters: bytes) -> Sequence[Row]:
        """Runs one query that writes nothing, as `fetch` does, and raises Unavailable and Refused."""
        try:
            return await self.fetch(query, *parameters)
        except Contention:
            # A reader waits for a table only, which a migration holds.
            raise Unavailable from None


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
    for query in queries.ALL:
        connection.pgconn.send_prepare(query.name, query.text)
        await _result(connection, ExecStatus.COMMAND_OK)


async def _execute(connection: AsyncConnection, query: Query, parameters: Sequence[bytes]) -> Sequence[Row]:
    # What a cursor does beyond this, such as reading the query for placeholders, choosing the parameters' types and
    # looking for a prepared statement, takes longer than all the rest, and is the same at every execution.
    connection.pgconn.send_query_prepared(query.name, parameters, result_format=Format.BINARY)
    result = await _result(connection, ExecStatus.TUPLES_OK)
    transformer = Transformer(connection)
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)


async def _result(connection: AsyncConnection, expected: ExecStatus) -> PGresult:
    result: PGresult
    (result,) = await connection.wait(generators.execute(connection.pgconn))
    if result.status != expected:
        raise psycopg.errors.error_from_result(result)
    return result


async def _check(connection: AsyncConnection) -> None:
    """Finds a connection that Postgres closed while it was idle, without a round trip: its socket says so."""
    # What Postgres said in parting may come first, and the end of the stream only then.
    connection.pgconn.consume_input()
    connection.pgconn.consume_input()
    if connection.pgconn.status != ConnStatus.OK:
        raise psycopg.OperationalError("the connection was closed")
