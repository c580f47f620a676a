"""The API keys in Postgres, as the authenticator reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from server.auth.keys import KeyReference, digest
from server.postgres import administration, queries
from server.postgres.database import Database
from server.postgres.keys import PostgresKeys
from server.postgres.queries.query import Query
from tests.conftest import Tenant, new_tenant

UNKNOWN = KeyReference("00000000-0000-0000-0000-000000000000", "0" * 16)


@pytest.fixture
def store(connections: Database) -> PostgresKeys:
    return PostgresKeys(connections)


def reference(tenant: Tenant) -> KeyReference:
    return KeyReference(tenant.organization_id, tenant.key_id)


async def test_keys_of_one_organization_and_of_several_are_found(store: PostgresKeys, database: str) -> None:
    one, other = new_tenant(database, "acme"), new_tenant(database, "globex")
    for tenants in ([one], [one, other]):
        found = await store.find([*map(reference, tenants), UNKNOWN])
        assert {key: record.digest for key, record in found.items()} == {
            reference(tenant): digest(tenant.key) for tenant in tenants
        }


async def test_a_key_is_found_under_its_own_organization_alone(store: PostgresKeys, database: str) -> None:
    one, other = new_tenant(database, "acme"), new_tenant(database, "globex")
    swapped = [KeyReference(one.organization_id, other.key_id), KeyReference(other.organization_id, one.key_id)]
    assert await store.find(swapped) == {}
    assert await store.find(swapped[:1]) == {}


async def test_when_a_key_was_used_moves_forward_and_waits_for_nobody(store: PostgresKeys, database: str) -> None:
    one, other = new_tenant(database, "acme"), new_tenant(database, "globex")
    early, late = datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 2, tzinfo=UTC)
    await store.mark_used({reference(one): late, reference(other): early, UNKNOWN: late})
    await store.mark_used({reference(one): early})
    with psycopg.connect(database) as connection:
        connection.execute("SELECT FROM api_keys WHERE key_id = %s FOR UPDATE", (other.key_id,))
        await store.mark_used({reference(one): late, reference(other): late})
    assert last_used(database) == {"acme": late, "globex": early}


@pytest.mark.usefixtures("soon_given_up")
async def test_a_database_that_cannot_be_written_to_is_let_go(store: PostgresKeys, database: str) -> None:
    tenant = new_tenant(database, "acme")
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE api_keys RENAME COLUMN last_used_at TO gone")
        await store.mark_used({reference(tenant): datetime.now(UTC)})


def last_used(database: str) -> dict[str, datetime | None]:
    with psycopg.connect(database, autocommit=True) as connection:
        return {key.organization: key.last_used_at for key in administration.list_keys(connection, None)}


@pytest.mark.parametrize("query", [queries.FIND_KEYS, queries.FIND_KEYS_OF_MANY], ids=lambda query: query.name.decode())
def test_a_look_up_goes_by_the_primary_key_even_where_the_plan_was_made_on_an_empty_table(
    database: str, query: Query
) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        connection.execute("SET enable_seqscan = off")
        connection.execute("ANALYZE api_keys")
        connection.execute(b"PREPARE look_up AS " + query.text)
        plan = connection.execute("EXPLAIN (FORMAT JSON) EXECUTE look_up (NULL, NULL)").fetchone()
    assert plan is not None
    conditions = [node.get("Index Cond", "") for node in nodes(plan[0][0]["Plan"])]
    assert any("organization_id" in condition and "key_id" in condition for condition in conditions), json.dumps(plan)


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from nodes(inner)
