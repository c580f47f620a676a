"""The store on a real Postgres: what comes of one statement's upserts, and what its errors mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from server.errors import InvalidArgument, NotFound, Unavailable
from server.participants.model import RETRY, Rejected, Upsert, Written
from server.participants.repository import Contention, Refused
from server.postgres.database import Database
from server.postgres.participants import PostgresParticipants
from server.postgres.reading import PostgresReading
from tests.conftest import Tenant

MakeUpsert = Callable[..., Upsert]


@pytest.fixture
def make(tenant: Tenant) -> MakeUpsert:
    def made(external_id: str, **changes: Any) -> Upsert:
        nothing: dict[str, Any] = {"attributes": {}, "tags": [], "size": 100}
        return Upsert(organization_id=tenant.organization_id, external_id=external_id, **{**nothing, **changes})

    return made


@pytest.fixture
def reading(connections: Database) -> PostgresReading:
    return PostgresReading(connections)


async def written(store: PostgresParticipants, upsert: Upsert) -> Written:
    (outcome,) = await store.upsert([upsert])
    assert isinstance(outcome, Written)
    return outcome


def row_versions(conninfo: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(conninfo) as connection:
        return connection.execute("SELECT ctid::text, xmin::text FROM participants ORDER BY external_id").fetchall()


async def test_each_upsert_of_a_statement_has_an_answer_of_its_own_in_order(
    store: PostgresParticipants, make: MakeUpsert
) -> None:
    await written(store, make("changed"))
    await written(store, make("same", phone="1"))
    outcomes = await store.upsert(
        [
            make("unknown program", program_id=str(uuid4())),
            make("changed", phone="2"),
            make("same", phone="1"),
            make("new", attributes={str(n): "" for n in range(256)}),
        ]
    )
    assert isinstance(outcomes[0], Rejected)
    assert isinstance(outcomes[0].error, NotFound)
    assert [outcome.result for outcome in outcomes[1:] if isinstance(outcome, Written)] == [
        "UPDATED",
        "UNCHANGED",
        "CREATED",
    ]
    (refused,) = await store.upsert([make("new", attributes={"256": ""})])
    assert isinstance(refused, Rejected)
    assert isinstance(refused.error, InvalidArgument)


async def test_an_upsert_that_changes_nothing_writes_no_row(
    store: PostgresParticipants, make: MakeUpsert, tenant: Tenant, database: str
) -> None:
    upsert = make("key", phone="1", tags=["vip"], attributes={"plan": "premium"}, program_id=tenant.program_id)
    created = await written(store, upsert)
    before = row_versions(database)
    repeated = await written(store, upsert)
    assert repeated.result == "UNCHANGED"
    assert repeated.participant == created.participant
    assert row_versions(database) == before


async def test_an_unknown_program_writes_nothing_at_all(
    store: PostgresParticipants, make: MakeUpsert, database: str
) -> None:
    await written(store, make("existing", phone="1"))
    before = row_versions(database)
    outcomes = await store.upsert([make(key, phone="2", program_id=str(uuid4())) for key in ("existing", "new")])
    errors = [outcome.error for outcome in outcomes if isinstance(outcome, Rejected)]
    assert [type(error) for error in errors] == [NotFound, NotFound]
    assert row_versions(database) == before


async def test_what_was_written_is_what_is_read(
    store: PostgresParticipants, reading: PostgresReading, make: MakeUpsert, tenant: Tenant
) -> None:
    created = await written(store, make("key", email="jane@example.com", program_id=tenant.program_id))
    assert await reading.get(tenant.organization_id, created.participant.id) == created.participant
    assert await reading.get(str(uuid4()), created.participant.id) is None


async def test_a_participant_that_is_locked_is_left_for_later_and_spoils_no_other(
    store: PostgresParticipants, make: MakeUpsert, database: str
) -> None:
    await written(store, make("locked"))
    with psycopg.connect(database) as other:
        other.execute("SELECT * FROM participants WHERE external_id = 'locked' FOR UPDATE")
        outcomes = await store.upsert([make("locked", phone="1"), make("free", phone="1")])
    assert outcomes[0] is RETRY
    assert isinstance(outcomes[1], Written)
    assert (await written(store, make("locked", phone="1"))).result == "UPDATED"


async def test_a_key_that_another_transaction_is_creating_is_contention_and_nothing_is_written(
    store: PostgresParticipants, make: MakeUpsert, tenant: Tenant, database: str
) -> None:
    with psycopg.connect(database) as other:
        other.execute(
            "INSERT INTO participants (organization_id, participant_id, external_id, status, attributes, tags) "
            "VALUES (%s, gen_random_uuid(), 'taken', 'ACTIVE', '{}', '{}')",
            (tenant.organization_id,),
        )
        with pytest.raises(Contention):
            await store.upsert([make("taken"), make("free")])
        other.rollback()
    assert row_versions(database) == []


async def test_a_value_that_the_database_does_not_take_is_refused_and_nothing_is_written(
    store: PostgresParticipants, make: MakeUpsert, database: str
) -> None:
    with pytest.raises(Refused):
        await store.upsert([make("innocent"), make("x" * 256)])
    assert row_versions(database) == []


@pytest.mark.usefixtures("soon_given_up")
async def test_reading_a_locked_table_is_unavailable(reading: PostgresReading, tenant: Tenant, database: str) -> None:
    with psycopg.connect(database) as other:
        other.execute("LOCK TABLE participants IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(Unavailable):
            await reading.get(tenant.organization_id, str(uuid4()))


async def test_an_import_into_empty_tables_reads_no_more_for_the_last_than_for_the_first(
    database: str, make: MakeUpsert, tenant: Tenant
) -> None:
    connections = Database(database, 1)
    await connections.open()
    store = PostgresParticipants(connections)
    groups, size = 20, 50
    for group in range(groups):
        # Plans are made by the first, alone, and are the connection's from then on.
        numbers = range(group * size, (group + 1) * size) if group else range(1)
        await store.upsert([make(f"user-{n}", tags=["vip"], program_id=tenant.program_id) for n in numbers])
    await connections.close()
    upserts = (groups - 1) * size + 1
    indexes: list[tuple[str, int, int]] = []
    # The backend tells what it has done when it ends.
    while not any(name == "enrollments_pkey" and scans >= upserts for name, scans, _ in indexes):
        with psycopg.connect(database) as connection:
            indexes = connection.execute(
                "SELECT indexrelname, idx_scan, idx_tup_read FROM pg_stat_user_indexes"
            ).fetchall()
    assert [(name, read) for name, _, read in indexes if read > 5 * upserts] == []
