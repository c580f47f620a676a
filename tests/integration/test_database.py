"""The connections to a real Postgres: which are thrown away, and what settings they have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import psycopg
import pytest

from server.errors import Unavailable
from server.participants.model import Upsert
from server.postgres import pool as pool_module
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.participants import PostgresParticipants
from server.postgres.pool import MIN_CONNECTIONS
from tests.conftest import PREFIX, fresh_database, new_tenant
from tests.support.own_postgres import OwnPostgres


def upsert(organization_id: str) -> Upsert:
    return Upsert(organization_id=organization_id, external_id="user", attributes={}, tags=[], size=100)


def read_only(conninfo: str, *, on: bool) -> None:
    """Has the sessions that begin from now on be read-only, as those on a demoted server are, or not."""
    with psycopg.connect(conninfo, autocommit=True, options="-c default_transaction_read_only=off") as admin:
        name = admin.info.dbname
        admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {"on" if on else "off"}'.encode())


@pytest.fixture
async def opened(database: str) -> AsyncIterator[Database]:
    """Connections that were all made while the database was read-only, which it is no longer."""
    read_only(database, on=True)
    connections = Database(database)
    await connections.open()
    await connections._pool.wait()
    read_only(database, on=False)
    yield connections
    await connections.close()


async def test_a_connection_that_met_a_read_only_server_is_thrown_away(database: str, opened: Database) -> None:
    tenant = new_tenant(database, "acme")
    participants = PostgresParticipants(opened)
    outcomes: list[str] = []
    while not outcomes or outcomes[-1] != "written":
        try:
            await participants.upsert([upsert(tenant.organization_id)])
            outcomes.append("written")
        except Unavailable:
            outcomes.append("unavailable")
        assert len(outcomes) <= MIN_CONNECTIONS + 1
    assert outcomes[0] == "unavailable"


async def test_no_call_fails_when_postgres_has_closed_every_connection(database: str) -> None:
    opened = Database(database, 10)
    await opened.open()
    taken = [await opened._take() for _ in range(10)]
    # Half of them are kept here, half are back in the pool.
    for prepared in taken[:5]:
        assert opened._keeps(prepared)
    for prepared in taken[5:]:
        await opened._pool.putconn(prepared.detach())
    with psycopg.connect(database, autocommit=True) as admin:
        closed = admin.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'participants'"
            " AND datname = current_database()"
        ).fetchall()
    assert closed == [(True,)] * 10
    nobody = str(UUID(int=0)).encode()
    for calls in (1, 30):
        assert await asyncio.gather(*(opened.read(queries.GET, nobody, nobody) for _ in range(calls))) == [[]] * calls
    await opened.close()


async def test_there_are_no_more_connections_than_were_asked_for(database: str) -> None:
    opened = Database(database, 1)
    await opened.open()
    nobody = str(UUID(int=0)).encode()
    await asyncio.gather(*(opened.read(queries.GET, nobody, nobody) for _ in range(10)))
    with psycopg.connect(database) as connection:
        count = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert count == (1,)
    await opened.close()


async def test_a_new_connection_on_which_nothing_answers_is_given_up(
    own_postgres: OwnPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "CONNECT_TIMEOUT", 0.1)
    connection = await psycopg.AsyncConnection.connect(own_postgres.conninfo, autocommit=True)
    with own_postgres.frozen(), pytest.raises(psycopg.OperationalError):
        await pool_module._set_up(connection)
    assert connection.closed


@pytest.mark.usefixtures("soon_given_up")
async def test_a_schema_without_our_tables_is_logged_without_our_statements(
    postgres: str, caplog: pytest.LogCaptureFixture
) -> None:
    with fresh_database(postgres, f"{PREFIX}_unmigrated") as conninfo:
        database = Database(conninfo)
        await database.open()
        with pytest.raises(Unavailable):
            await database.read(queries.GET, b"", b"")
        await database.close()
    assert "UndefinedTable" in caplog.text
    assert "SELECT" not in caplog.text
