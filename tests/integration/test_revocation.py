"""When a revoked key stops working: within 10 seconds, whether the database can be asked or not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from server.auth import authenticator as module
from server.auth.authenticator import Authenticator
from server.errors import Unauthenticated, Unavailable
from server.postgres import administration
from server.postgres.database import Database
from server.postgres.keys import PostgresKeys
from tests.conftest import Tenant

# What is promised, in seconds.
PROMISE = 10.0


class Clock:
    """The authenticator's clock, which the test moves."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    monkeypatch.setattr("server.auth.lookups.time", made)
    return made


@pytest.fixture
async def authenticator(connections: Database, clock: Clock) -> AsyncIterator[Authenticator]:
    made = Authenticator(PostgresKeys(connections))
    yield made
    await made.close()


def authenticate(authenticator: Authenticator, key: str) -> Coroutine[Any, Any, str]:
    return authenticator.authenticate(key, asyncio.get_running_loop().time() + 10)


@contextmanager
def out_of_reach(conninfo: str) -> Iterator[psycopg.Connection[Any]]:
    """Keeps the service from its keys, and yields a transaction that can change them; it ends with the block."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("LOCK TABLE api_keys IN ACCESS EXCLUSIVE MODE")
        yield connection


async def test_a_key_in_use_is_refused_at_the_next_refresh(
    authenticator: Authenticator, tenant: Tenant, database: str
) -> None:
    await authenticate(authenticator, tenant.key)
    with psycopg.connect(database, autocommit=True) as connection:
        administration.revoke_key(connection, tenant.key_id)
    await authenticator.refresh()
    with pytest.raises(Unauthenticated):
        await authenticate(authenticator, tenant.key)


async def test_a_key_revoked_while_the_database_is_away_is_not_trusted_beyond_ten_seconds(
    authenticator: Authenticator, tenant: Tenant, database: str, clock: Clock
) -> None:
    await authenticate(authenticator, tenant.key)
    with out_of_reach(database) as connection:
        administration.revoke_key(connection, tenant.key_id)
        with pytest.raises(Unavailable):
            await authenticator.refresh()
        clock.now += module.MAX_AGE - 0.1
        # The database cannot be asked, and what it said last is young enough.
        assert await authenticate(authenticator, tenant.key) == tenant.organization_id
        clock.now += 0.2
        with pytest.raises(Unavailable):
            await authenticate(authenticator, tenant.key)
    with pytest.raises(Unauthenticated):
        await authenticate(authenticator, tenant.key)


async def test_a_good_key_works_again_as_soon_as_the_database_answers(
    authenticator: Authenticator, tenant: Tenant, database: str, clock: Clock
) -> None:
    await authenticate(authenticator, tenant.key)
    clock.now += 1_000
    with out_of_reach(database), pytest.raises(Unavailable):
        await authenticate(authenticator, tenant.key)
    assert await authenticate(authenticator, tenant.key) == tenant.organization_id


def test_no_record_is_trusted_for_as_long_as_is_promised() -> None:
    assert module.MAX_AGE < PROMISE
