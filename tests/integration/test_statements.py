"""One meaning, whichever statement writes an upsert: each does what a plain model does, and writes no row in vain."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
import pytest

from server.participants.model import (
    RETRY,
    Outcome,
    Participant,
    ParticipantNames,
    Rejected,
    Retry,
    Upsert,
    Written,
)
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.participants import PostgresParticipants
from server.postgres.prepared import PreparedConnection
from server.postgres.queries.query import Query
from server.postgres.reading import PostgresReading
from tests.conftest import Tenant

PROFILE = ("display_name", "email", "first_name", "last_name", "phone")
# One of the tags and one of the values would break a literal that is not escaped.
TAGS: tuple[list[str], ...] = ([], ["vip"], ["vip", 'a "quoted", {\\} one'], ["b"])
# What means something to an array or to JSON.
TEXTS = (
    "null",
    "NULL",
    "a,b",
    "{a}",
    "{",
    "[a]",
    "]",
    '"',
    "\\",
    "\\n",
    "\n",
    "\t\x01\x7f",
    '"\\\n',
    "é\u2028\U0001f600",
    " ",
)
VALUES = ("", "1", 'a "quoted" \\ one')


# How an upsert is brought to each of the statements: what goes with it, and whether its caller wants all of the answer.
Companion = Callable[[Tenant, int], Sequence[Upsert]]


def nobody(tenant: Tenant, number: int) -> Sequence[Upsert]:  # the shape of a Companion
    return []


def another(tenant: Tenant, number: int) -> Sequence[Upsert]:
    return [upsert(tenant, f"companion-{number}")]


def another_that_enrolls(tenant: Tenant, number: int) -> Sequence[Upsert]:
    return [upsert(tenant, f"companion-{number}", program_id=tenant.program_id)]


def upsert(tenant: Tenant, external_id: str, **fields: Any) -> Upsert:
    given: dict[str, Any] = {"attributes": {}, "tags": [], "size": 100, **fields}
    return Upsert(organization_id=tenant.organization_id, external_id=external_id, **given)


def chosen(chance: random.Random) -> dict[str, Any]:
    """Returns the fields of an upsert, at random, of few values, so that many change nothing."""
    fields: dict[str, Any] = {name: chance.choice([None, "", "x", "y"]) for name in PROFILE if chance.random() < 0.4}
    if chance.random() < 0.3:
        fields["status"] = chance.choice(["ACTIVE", "SUSPENDED"])
    fields["attributes"] = {f"k{chance.randrange(3)}": chance.choice(VALUES) for _ in range(chance.randrange(3))}
    fields["tags"] = chance.choice(TAGS)
    return fields


def applied(before: dict[str, Any] | None, fields: dict[str, Any]) -> dict[str, Any]:
    """Returns what a participant is after an upsert: the model."""
    state = before or {"status": "ACTIVE", "attributes": {}, "tags": [], **dict.fromkeys(PROFILE)}
    after = {**state, "attributes": {**state["attributes"], **fields["attributes"]}}
    after |= {name: fields[name] or None for name in PROFILE if fields.get(name) is not None}
    after |= {name: fields[name] for name in ("status", "tags") if fields.get(name)}
    return after


def row_version(connection: psycopg.Connection, external_id: str) -> Any:
    query = "SELECT ctid::text, xmin::text FROM participants WHERE external_id = %s"
    return connection.execute(query, (external_id,)).fetchone()


def written(outcome: Outcome | Retry) -> Written:
    assert isinstance(outcome, Written), outcome
    return outcome


@pytest.fixture
def look(database: str) -> Iterator[psycopg.Connection]:
    """A connection that sees what the statements leave."""
    with psycopg.connect(database, autocommit=True) as opened:
        yield opened


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "names"])
@pytest.mark.parametrize("companion", [nobody, another, another_that_enrolls])
async def test_each_statement_does_what_the_model_does(
    connections: Database, tenant: Tenant, look: psycopg.Connection, companion: Companion, whole: bool
) -> None:
    store, reading = PostgresParticipants(connections), PostgresReading(connections)
    chance = random.Random(7)
    model: dict[str, Any] | None = None
    revision = 0
    for number in range(80):
        fields = chosen(chance)
        before, after = model, applied(model, fields)
        row = row_version(look, "key")
        group = [upsert(tenant, "key", whole=whole, **fields), *companion(tenant, number)]
        for other in group[1:]:
            other.whole = whole
        result, participant = written((await store.upsert(group))[0])
        assert result == ("CREATED" if before is None else "UNCHANGED" if before == after else "UPDATED")
        assert (row_version(look, "key") == row) == (result == "UNCHANGED")
        revision += result != "UNCHANGED"
        assert participant.revision == revision
        assert isinstance(participant, Participant if whole else ParticipantNames)
        read = await reading.get(tenant.organization_id, participant.id)
        assert read is not None
        assert {name: getattr(read, name) for name in after} == after
        if whole:
            assert participant == read
        model = after
    assert revision > 20


@pytest.mark.parametrize("companion", [nobody, another])
async def test_any_text_is_written_as_it_is(store: PostgresParticipants, tenant: Tenant, companion: Companion) -> None:
    for number, text in enumerate(TEXTS):
        fields: dict[str, Any] = {"display_name": text, "attributes": {text: text, "b": ""}, "tags": [text, "b"]}
        outcomes = await store.upsert([upsert(tenant, f"{number}{text}", **fields), *companion(tenant, number)])
        participant = written(outcomes[0]).participant
        assert isinstance(participant, Participant)
        assert participant.external_id == f"{number}{text}"
        assert {name: getattr(participant, name) for name in fields} == fields


async def updated_last(store: PostgresParticipants, tenant: Tenant) -> None:
    """Has the store take the next lone upsert for one that changes a participant."""
    for number in range(2):
        outcome = written((await store.upsert([upsert(tenant, "updated", display_name=str(number))]))[0])
    assert outcome.result == "UPDATED"


async def test_a_lone_upsert_taken_for_a_change_may_be_none(store: PostgresParticipants, tenant: Tenant) -> None:
    for expected in ("CREATED", "UNCHANGED", "UNCHANGED"):
        await updated_last(store, tenant)
        assert written((await store.upsert([upsert(tenant, "another", display_name="x")]))[0]).result == expected


async def test_a_lone_upsert_taken_for_a_change_does_not_wait_for_a_lock(
    store: PostgresParticipants, tenant: Tenant, database: str
) -> None:
    await updated_last(store, tenant)
    with psycopg.connect(database) as holder:
        holder.execute("SELECT FROM participants WHERE external_id = 'updated' FOR UPDATE")
        assert await store.upsert([upsert(tenant, "updated", display_name="later")]) == [RETRY]
    assert written((await store.upsert([upsert(tenant, "updated", display_name="later")]))[0]).result == "UPDATED"


async def test_lone_upserts_of_one_participant_write_nothing_over_each_other(
    connections: Database, tenant: Tenant
) -> None:
    stores = [PostgresParticipants(connections) for _ in range(4)]
    keys = [f"key-{number}" for number in range(120)]

    async def write(store: PostgresParticipants, mine: Sequence[str]) -> None:
        for key in mine:
            while await store.upsert([upsert(tenant, "shared", attributes={key: key})]) == [RETRY]:
                pass

    for store in stores:
        await updated_last(store, tenant)
    await asyncio.gather(*(write(store, keys[number::4]) for number, store in enumerate(stores)))
    outcome = written((await stores[0].upsert([upsert(tenant, "shared")]))[0])
    assert isinstance(outcome.participant, Participant)
    assert outcome.participant.attributes == {key: key for key in keys}
    assert outcome.participant.revision == len(keys)


async def test_both_statements_look_at_the_limits_of_what_is_large(store: PostgresParticipants, tenant: Tenant) -> None:
    large = {"key": "x" * 65_000}
    for companions in ([], [upsert(tenant, "companion")]):
        outcomes = await store.upsert([upsert(tenant, f"large-{len(companions)}", attributes=large), *companions])
        assert written(outcomes[0]).result == "CREATED"
        await updated_last(store, tenant)
        more = upsert(tenant, f"large-{len(companions)}", attributes={"more": "x" * 1000})
        assert isinstance((await store.upsert([more, *companions]))[0], Rejected)


@pytest.mark.parametrize(
    "query", [queries.UPSERT_ONE, queries.UPDATE_ONE, queries.UPSERT[True, True], queries.UPSERT[False, True]]
)
async def test_the_columns_of_an_answer_are_named_and_ordered_as_a_participant_is(database: str, query: Query) -> None:
    assert await columns(database, query) == ["n", "outcome", *Participant._fields]


async def test_the_columns_of_the_other_queries_are_too(database: str) -> None:
    for query in (queries.GET, queries.LOOKUP):
        assert await columns(database, query) == list(Participant._fields)
    for query in (queries.UPDATE, queries.ENROLL):
        assert await columns(database, query) == ["outcome", *Participant._fields]
    for query in queries.LIST.values():
        assert await columns(database, query) == ["examined", "position", "found", *Participant._fields]
    for names_program in (True, False):
        names = await columns(database, queries.UPSERT[names_program, False])
        assert names == ["n", "outcome", *ParticipantNames._fields]


async def columns(conninfo: str, query: Query) -> list[str]:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        prepared = PreparedConnection(connection)
        await prepared.prepare(query)
        prepared.detach()
        result = connection.pgconn.describe_prepared(query.name)
        return [(result.fname(number) or b"").decode() for number in range(result.nfields)]
