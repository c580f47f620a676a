"""What bounds the cost of a page; `make bench-lists` counts its blocks among 5 million participants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from server.participants.listing import Filters, Listing
from server.participants.model import Upsert
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.participants import PostgresParticipants
from server.postgres.reading import PostgresReading
from tests.conftest import Tenant

TAGGED = 60


@pytest.fixture
async def reading(connections: Database, tenant: Tenant) -> PostgresReading:
    """The reads of an organization with participants who have a tag and are enrolled."""
    common: dict[str, Any] = {"attributes": {}, "tags": ["vip"], "program_id": tenant.program_id, "size": 100}
    await PostgresParticipants(connections).upsert(
        [Upsert(organization_id=tenant.organization_id, external_id=f"user-{n}", **common) for n in range(TAGGED)]
    )
    return PostgresReading(connections)


@pytest.mark.parametrize("filters", [{"tag": "vip"}, {"tag": "vip", "status": "ACTIVE"}, {"program_id": ""}])
async def test_a_page_that_a_label_leads_looks_at_fewer_than_it_may_list_and_goes_on(
    reading: PostgresReading, tenant: Tenant, filters: dict[str, Any]
) -> None:
    filters = {name: value or tenant.program_id for name, value in filters.items()}
    first = Listing(Filters(tenant.organization_id, **filters), "external_id", descending=False, page_size=50)
    page = await reading.list(first)
    assert len(page.participants) == 38
    rest = await reading.list(Listing(first.filters, "external_id", False, 50, page.end))
    assert len({each.id for each in (*page.participants, *rest.participants)}) == TAGGED
    assert rest.end is None


EARNED = {
    "counters": "INSERT INTO counters VALUES (%s, %s, 'points', 1)",
    "balances": "INSERT INTO balances VALUES (%s, %s, 'miles', 1, 2, 3)",
    "tiers": "INSERT INTO tiers VALUES (%s, %s, 'loyalty', 'gold', 1)",
}


@pytest.mark.parametrize("earned", EARNED)
async def test_a_participant_who_has_earned_of_one_kind_alone_is_listed(
    database: str, reading: PostgresReading, tenant: Tenant, earned: str
) -> None:
    page = await reading.list(Listing(Filters(tenant.organization_id), "external_id", descending=False, page_size=1))
    assert not any(getattr(page.participants[0], kind) for kind in EARNED)
    with psycopg.connect(database) as connection:
        connection.execute(EARNED[earned], (tenant.organization_id, page.participants[0].id))
    page = await reading.list(Listing(Filters(tenant.organization_id), "external_id", descending=False, page_size=1))
    assert [kind for kind in EARNED if getattr(page.participants[0], kind)] == [earned]


@pytest.mark.parametrize("lead", ["all", "status", "email", "tag", "program"])
def test_enrollments_are_read_once_for_the_filter_and_the_answer(database: str, lead: str) -> None:
    query = queries.LIST[lead, "created_at", False]
    with psycopg.connect(database) as connection:
        connection.execute(b"PREPARE list AS " + query.text)
        connection.execute("SET plan_cache_mode = force_generic_plan")
        row = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE list({', '.join(['NULL'] * 14)})").fetchone()
    assert row is not None
    scans = [node for node in nodes(row[0][0]["Plan"]) if node.get("Relation Name") == "enrollments"]
    assert len(scans) == 1


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)
