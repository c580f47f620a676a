"""What the integration tests share: an organization, connections to its database, and a Postgres that they may stop,
freeze and kill."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from server.postgres import database as database_module
from server.postgres.database import Database
from server.postgres.participants import PostgresParticipants
from tests.conftest import Tenant, new_tenant
from tests.support.own_postgres import OwnPostgres
from tests.support.seed import Seed


@pytest.fixture
def tenant(database: str) -> Tenant:
    return new_tenant(database, "acme")


@pytest.fixture
async def connections(database: str) -> AsyncIterator[Database]:
    opened = Database(database)
    await opened.open()
    yield opened
    await opened.close()


@pytest.fixture
def soon_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has what cannot succeed be given up after a moment, for tests that would merely wait for that."""
    monkeypatch.setattr(database_module, "POOL_TIMEOUT", 1.0)


@pytest.fixture
def store(connections: Database) -> PostgresParticipants:
    return PostgresParticipants(connections)


@pytest.fixture(scope="session")
def own_postgres(seed: Seed) -> Iterator[OwnPostgres]:
    """A running Postgres, to be left running."""
    with seed.planted() as directory:
        postgres = OwnPostgres(directory)
        yield postgres
        postgres.stop()
