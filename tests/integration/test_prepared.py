"""The driver calls that are not documented as public, on a real Postgres: this says when one of them changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import psutil
import psycopg
import pytest

from server.errors import Unavailable
from server.postgres import prepared as prepared_module
from server.postgres.errors import translated_errors
from server.postgres.prepared import PreparedConnection
from server.postgres.queries.query import Query
from tests.support.own_postgres import OwnPostgres

SLEEP = Query(b"sleep", b"SELECT pg_sleep($1::float)")
ECHO = Query(b"echo", b"SELECT $1::text, $2::int, ARRAY[$1::text]")
SERIES = Query(b"series", b"SELECT n, $1::text FROM generate_series(1, 20000) AS n")
INSERT = Query(b"insert", b"INSERT INTO late VALUES (1) RETURNING 1")


@pytest.fixture
async def connection(database: str) -> AsyncIterator[PreparedConnection]:
    opened = await psycopg.AsyncConnection.connect(database, autocommit=True)
    prepared = PreparedConnection(opened)
    for query in (SLEEP, ECHO, SERIES):
        await prepared.prepare(query)
    yield prepared
    prepared.detach()
    await opened.close()


async def test_rows_come_as_python_values(connection: PreparedConnection) -> None:
    assert await connection.run(ECHO, (b"a", b"1")) == [("a", 1, ["a"])]
    assert await connection.run(ECHO, ("\U0001f600".encode(), None)) == [("\U0001f600", None, ["\U0001f600"])]


async def test_what_is_larger_than_a_socket_takes_at_once_goes_both_ways(connection: PreparedConnection) -> None:
    large = "x" * (1 << 20)
    assert await connection.run(ECHO, (large.encode(), b"1")) == [(large, 1, [large])]
    rows = await connection.run(SERIES, (b"y" * 100,))
    assert [number for number, _ in rows] == list(range(1, 20_001))


async def test_a_connection_goes_on_after_a_statement_that_failed(connection: PreparedConnection) -> None:
    with pytest.raises(psycopg.errors.InvalidTextRepresentation):
        await connection.run(ECHO, (b"a", b"no number"))
    assert connection.is_idle
    assert await connection.run(ECHO, (b"a", b"1")) == [("a", 1, ["a"])]


async def test_a_statement_that_is_cancelled_is_over_before_cancel_returns(connection: PreparedConnection) -> None:
    running = asyncio.create_task(connection.run(SLEEP, (b"60",)))
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert not connection.is_idle
    await connection.cancel()
    assert connection.is_idle
    assert await connection.run(ECHO, (b"a", b"1")) == [("a", 1, ["a"])]


async def test_a_statement_that_does_not_end_when_it_is_cancelled_has_its_connection_closed(
    own_postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepared_module, "CANCEL_TIMEOUT", 0.1)
    opened = await psycopg.AsyncConnection.connect(own_postgres.conninfo, autocommit=True)
    prepared = PreparedConnection(opened)
    with own_postgres.frozen():
        running = asyncio.create_task(prepared.prepare(SLEEP))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        await prepared.cancel()
    assert not prepared.is_idle
    await opened.close()


async def test_a_server_that_has_gone_is_noticed_before_the_next_statement(
    connection: PreparedConnection, database: str
) -> None:
    with psycopg.connect(database, autocommit=True) as other:
        pid = connection.connection.pgconn.backend_pid
        other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    # The event loop has not come round since.
    assert not connection.is_alive()


async def test_rows_that_come_with_a_failure_are_no_answer(connection: PreparedConnection, database: str) -> None:
    """As from a backend that is terminated just as it answers: the rows come, and then that nothing was committed."""
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("CREATE TABLE late (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        other.execute("INSERT INTO late VALUES (1)")
    await connection.prepare(INSERT)
    with pytest.raises(psycopg.errors.UniqueViolation):
        await connection.run(INSERT, ())


async def test_a_statement_whose_backend_is_terminated_is_unavailable(
    connection: PreparedConnection, database: str
) -> None:
    running = asyncio.create_task(connection.run(SLEEP, (b"60",)))
    await asyncio.sleep(0.05)
    with psycopg.connect(database, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (connection.connection.pgconn.backend_pid,))
        with pytest.raises(Unavailable), translated_errors:
            await running
    assert not connection.is_idle


async def test_a_backend_that_ends_without_reading_the_statement_is_noticed(own_postgres: OwnPostgres) -> None:
    """Its last words and the socket's error come together then, and the event loop tells of such a socket once."""
    opened = await psycopg.AsyncConnection.connect(own_postgres.conninfo, autocommit=True)
    prepared = PreparedConnection(opened)
    backend = psutil.Process(opened.info.backend_pid)
    backend.suspend()
    running = asyncio.create_task(prepared.prepare(SLEEP))
    await asyncio.sleep(0)
    with psycopg.connect(own_postgres.conninfo, autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(%s)", (backend.pid,))
    backend.resume()
    # The event loop does not come round meanwhile.
    backend.wait(20)
    with pytest.raises(psycopg.OperationalError):
        async with asyncio.timeout(10):
            await running
    await opened.close()
