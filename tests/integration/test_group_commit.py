"""Shared writes on a real Postgres: what goes together, what waits, and what is kept apart."""

from __future__ import annotations

import asyncio
import math
import multiprocessing
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import psycopg
import pytest

from server.errors import Conflict, DeadlineExceeded, InvalidArgument, Overloaded, Unavailable
from server.participants.model import RETRY, Outcome, Participant, Rejected, Retry, Upsert
from server.participants.repository import Contention, ParticipantRepository
from server.postgres.database import Database
from server.postgres.participants import PostgresParticipants
from server.writes import batching, group_commit
from server.writes.admission import Admission
from server.writes.group_commit import GroupCommit
from server.writes.observer import Observer, current_trace
from tests.conftest import Tenant

MakeUpsert = Callable[..., Upsert]


def upsert_of(organization_id: str, external_id: str, attributes: Mapping[str, str], size: int = 100) -> Upsert:
    return Upsert(organization_id=organization_id, external_id=external_id, attributes=attributes, tags=[], size=size)


@dataclass
class Whole:
    """An upsert that was written: its result, and the whole participant."""

    result: str
    participant: Participant


def whole(outcome: Outcome) -> Whole:
    """Returns what was written, or raises what kept it from being written, as the use case does."""
    if isinstance(outcome, Rejected):
        raise outcome.error
    assert isinstance(outcome.participant, Participant)
    return Whole(outcome.result, outcome.participant)


# What becomes of upserts that were submitted together.
Outcomes = asyncio.Future[Sequence[Outcome]]


async def written(future: Outcomes) -> Whole:
    (outcome,) = await future
    return whole(outcome)


async def all_written(*futures: Outcomes) -> list[Whole]:
    return [await written(future) for future in futures]


class RecordingStore:
    """Writes through to a store, and keeps what went into each statement.

    A statement that has one of `held` in it waits until `released`.
    """

    def __init__(self, store: ParticipantRepository) -> None:
        self._store = store
        self.groups: list[list[str]] = []
        self.held: set[str] = set()
        self.reached = asyncio.Event()
        self.released = asyncio.Event()

    def route(self, upsert: Upsert) -> str:
        return self._store.route(upsert)

    async def upsert(self, upserts: Sequence[Upsert], *, insert: bool = True) -> Sequence[Outcome | Retry]:
        group = [upsert.external_id for upsert in upserts]
        self.groups.append(group)
        if self.held.intersection(group):
            self.reached.set()
            await self.released.wait()
        return await self._store.upsert(upserts, insert=insert)


class UnreliableStore:
    """A store in which statements meet other transactions at random."""

    def __init__(self, store: ParticipantRepository, chance: random.Random) -> None:
        self._store = store
        self._chance = chance

    def route(self, upsert: Upsert) -> str:
        return self._store.route(upsert)

    async def upsert(self, upserts: Sequence[Upsert], *, insert: bool = True) -> Sequence[Outcome | Retry]:
        if self._chance.random() < 0.2:
            raise Contention
        taken = [self._chance.random() < 0.8 for _ in upserts]
        chosen = [upsert for upsert, take in zip(upserts, taken, strict=True) if take]
        outcomes = iter(await self._store.upsert(chosen, insert=insert) if chosen else [])
        return [next(outcomes) if take else RETRY for take in taken]


@asynccontextmanager
async def opened(conninfo: str) -> AsyncIterator[PostgresParticipants]:
    database = Database(conninfo)
    await database.open()
    try:
        yield PostgresParticipants(database)
    finally:
        await database.close()


@pytest.fixture
def make(tenant: Tenant) -> MakeUpsert:
    """Makes upserts of the tenant's participants; keyword arguments are attributes."""

    def made(external_id: str, *, size: int = 100, **attributes: str) -> Upsert:
        return upsert_of(tenant.organization_id, external_id, attributes, size)

    return made


@pytest.fixture
async def store(database: str) -> AsyncIterator[RecordingStore]:
    async with opened(database) as postgres:
        yield RecordingStore(postgres)


@pytest.fixture
async def writer(store: RecordingStore) -> AsyncIterator[GroupCommit]:
    writer = GroupCommit(store)
    yield writer
    store.released.set()
    async with asyncio.timeout(10):
        await writer.close()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes no statement for stalled, however long a test holds it, and no callers for so few that none waits."""
    monkeypatch.setattr(batching, "STALLED_AFTER", 3600.0)
    monkeypatch.setattr(batching, "FEW_CALLERS", -1)


def soon(seconds: float = 20.0) -> float:
    """Returns a deadline on the event loop's clock."""
    return asyncio.get_running_loop().time() + seconds


async def hold(writer: GroupCommit, store: RecordingStore, upsert: Upsert) -> Outcomes:
    """Submits an upsert, and returns once its statement is under way, which waits there until it is released."""
    store.held = {upsert.external_id}
    outcome = writer.submit([upsert], soon())
    await store.reached.wait()
    return outcome


def rows(conninfo: str) -> dict[str, dict[str, str]]:
    """Returns the attributes of the participants that are committed, by external_id."""
    with psycopg.connect(conninfo) as connection:
        return dict(connection.execute("SELECT external_id, attributes FROM participants").fetchall())


async def test_an_idle_writer_writes_what_arrives_in_one_turn_as_one_statement(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    keys = [f"key-{number}" for number in range(10)]
    outcomes = await all_written(*(writer.submit([make(key)], soon()) for key in keys))
    assert [outcome.participant.external_id for outcome in outcomes] == keys
    assert store.groups == [keys]


@pytest.mark.usefixtures("patient")
async def test_what_arrives_while_a_statement_is_under_way_goes_into_the_next(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    futures = [await hold(writer, store, make("first"))]
    for key in ("second", "third", "fourth"):
        futures.append(writer.submit([make(key)], soon()))
        await asyncio.sleep(0)
    assert store.groups == [["first"]]
    store.released.set()
    await all_written(*futures)
    assert store.groups == [["first"], ["second", "third", "fourth"]]


async def test_a_stalled_statement_does_not_hold_up_others(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    stalled = await hold(writer, store, make("stalled"))
    assert (await written(writer.submit([make("other")], soon()))).result == "CREATED"
    assert not stalled.done()


async def test_a_full_group_is_written_beside_the_first(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_STATEMENT_UPSERTS", 2)
    monkeypatch.setattr(batching, "STALLED_AFTER", 60.0)
    store.held = {"0"}
    futures = [writer.submit([make(str(number))], soon()) for number in range(4)]
    await all_written(*futures[2:])
    assert not futures[0].done()
    assert store.groups == [["0", "1"], ["2", "3"]]


async def test_stalled_statements_do_not_hold_up_a_full_group(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_STATEMENT_UPSERTS", 2)
    store.held = {"0", "2"}
    futures = [writer.submit([make(str(number))], soon()) for number in range(6)]
    await all_written(*futures[4:])
    assert not any(future.done() for future in futures[:4])


async def test_the_next_statement_waits_for_most_of_the_callers_and_not_for_the_last(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "GATHERING_FACTOR", math.inf)
    monkeypatch.setattr(batching, "MAX_GATHERING", 10.0)
    await all_written(*(writer.submit([make(str(number))], soon()) for number in range(8)))
    for group in (2, 3):
        futures = [writer.submit([make(str(number), group=str(group))], soon()) for number in range(5)]
        await asyncio.sleep(0.05)
        assert len(store.groups) == group - 1
        futures.append(writer.submit([make("5")], soon()))
        await all_written(*futures)
        assert len(store.groups) == group
        assert len(store.groups[-1]) == 6


async def test_callers_who_have_left_are_waited_for_once(
    writer: GroupCommit, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "GATHERING_FACTOR", math.inf)
    monkeypatch.setattr(batching, "MAX_GATHERING", 0.5)
    await all_written(*(writer.submit([make(str(number))], soon()) for number in range(8)))
    waits = []
    for _ in range(2):
        started = time.monotonic()
        await written(writer.submit([make("left")], soon()))
        waits.append(time.monotonic() - started)
    assert waits[0] > 0.3 > waits[1]


@pytest.mark.usefixtures("patient")
async def test_a_call_goes_by_items_of_batches_in_a_statement_of_its_own(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_STATEMENT_UPSERTS", 2)
    store.held = {"0"}
    items = [writer.submit([make(str(number))], soon(), bulk=True) for number in range(20)]
    await store.reached.wait()
    assert (await written(writer.submit([make("call")], soon()))).result == "CREATED"
    assert ["call"] in store.groups
    assert not items[0].done()
    store.released.set()
    assert {outcome.result for outcome in await all_written(*items)} == {"CREATED"}


async def test_upserts_of_one_key_apply_in_order_of_arrival_whether_called_or_in_batches(
    writer: GroupCommit, make: MakeUpsert, database: str
) -> None:
    futures = [
        writer.submit([make("key", n=str(number), **{str(number): ""})], soon(), bulk=number % 2 == 0)
        for number in range(9)
    ]
    outcomes = await all_written(*futures)
    assert [outcome.participant.attributes["n"] for outcome in outcomes] == [str(number) for number in range(9)]
    assert rows(database)["key"] == {"n": "8", **dict.fromkeys(map(str, range(9)), "")}


async def test_what_was_submitted_together_is_told_together_each_in_its_place(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    store.held = {"held"}
    future = writer.submit([make(key) for key in ("same", "held", "same")], soon(), bulk=True)
    await store.reached.wait()
    assert await written(writer.submit([make("another")], soon()))
    assert not future.done()
    store.released.set()
    outcomes = [whole(outcome) for outcome in await future]
    assert [(outcome.participant.external_id, outcome.result) for outcome in outcomes] == [
        ("same", "CREATED"),
        ("held", "CREATED"),
        ("same", "UNCHANGED"),
    ]


async def test_a_lone_upsert_does_not_wait_for_company_after_a_slow_statement(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    store.held = {"0"}
    slow = [writer.submit([make(str(number))], soon()) for number in range(10)]
    loop = asyncio.get_running_loop()
    loop.call_later(0.6, store.released.set)
    await all_written(*slow)
    started = loop.time()
    await written(writer.submit([make("lone")], soon()))
    assert loop.time() - started < 0.3


async def test_a_statement_takes_no_more_upserts_than_its_limit(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_STATEMENT_UPSERTS", 4)
    await all_written(*(writer.submit([make(str(number))], soon()) for number in range(10)))
    assert [len(group) for group in store.groups] == [4, 4, 2]


async def test_a_statement_takes_no_more_bytes_than_its_limit(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batching, "MAX_STATEMENT_BYTES", 1000)
    await all_written(*(writer.submit([make(str(number), size=500)], soon()) for number in range(5)))
    assert [len(group) for group in store.groups] == [2, 2, 1]


async def test_upserts_of_one_key_apply_in_order_of_arrival(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    futures = [writer.submit([make("same", **{"last": str(n), f"n{n}": ""})], soon()) for n in range(10)]
    other = writer.submit([make("other")], soon())
    outcomes = await all_written(*futures)
    assert [outcome.result for outcome in outcomes] == ["CREATED"] + ["UPDATED"] * 9
    assert [outcome.participant.attributes["last"] for outcome in outcomes] == [str(n) for n in range(10)]
    assert [len(outcome.participant.attributes) for outcome in outcomes] == list(range(2, 12))
    await other
    assert store.groups[0] == ["same", "other"]
    assert all(group == ["same"] for group in store.groups[1:])


@pytest.mark.usefixtures("patient")
async def test_an_upsert_that_is_withdrawn_before_its_write_began_is_not_written(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, database: str
) -> None:
    first = await hold(writer, store, make("first"))
    withdrawn, behind = (writer.submit([make("withdrawn", n=n)], soon()) for n in ("1", "2"))
    withdrawn.cancel()
    writer.withdraw()
    store.released.set()
    assert (await written(first)).result == "CREATED"
    assert (await written(behind)).participant.attributes == {"n": "2"}
    assert store.groups == [["first"], ["withdrawn"]]
    assert (await written(behind)).result == "CREATED"
    assert rows(database) == {"first": {}, "withdrawn": {"n": "2"}}


async def test_an_upsert_that_is_withdrawn_as_its_statement_is_made_is_not_written_and_blocks_nothing(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    withdrawn = writer.submit([make("key", n="1")], soon())
    # The statement is made in this turn of the event loop, and would start in the next.
    await asyncio.sleep(0)
    withdrawn.cancel()
    writer.withdraw()
    async with asyncio.timeout(2):
        outcome = await written(writer.submit([make("key", n="2")], soon()))
    assert outcome.result == "CREATED"
    assert store.groups == [["key"]]


async def test_a_statement_for_which_nobody_waits_any_more_is_stopped_and_blocks_nothing(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    store.held = {"key"}
    withdrawn = [writer.submit([make(key)], soon()) for key in ("key", "beside")]
    await store.reached.wait()
    for future in withdrawn:
        future.cancel()
    writer.withdraw()
    store.held = set()
    async with asyncio.timeout(2):
        outcomes = await all_written(*(writer.submit([make(key)], soon()) for key in ("key", "beside")))
    assert [outcome.result for outcome in outcomes] == ["CREATED", "CREATED"]


async def test_a_statement_for_which_one_still_waits_goes_on(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    store.held = {"key"}
    withdrawn, wanted = (writer.submit([make(key)], soon()) for key in ("key", "beside"))
    await store.reached.wait()
    withdrawn.cancel()
    writer.withdraw()
    store.released.set()
    assert (await written(wanted)).result == "CREATED"


@pytest.mark.usefixtures("patient")
async def test_an_upsert_whose_deadline_passed_before_its_write_began_is_not_written(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, database: str
) -> None:
    first = await hold(writer, store, make("first"))
    late = writer.submit([make("late")], soon(0.01))
    asyncio.get_running_loop().call_later(0.02, store.released.set)
    await first
    with pytest.raises(DeadlineExceeded):
        await written(late)
    assert store.groups == [["first"]]
    assert rows(database) == {"first": {}}


@pytest.mark.usefixtures("patient")
async def test_everyone_who_waits_is_told_at_the_own_deadline(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    held = await hold(writer, store, make("held"))
    started = asyncio.get_running_loop().time()
    # The earliest is neither the first nor the last to be asked for.
    waits = {"third": 1.2, "first": 0.4, "second": 0.8}
    told: dict[str, float] = {}

    async def wait(key: str) -> None:
        with pytest.raises(DeadlineExceeded):
            await written(writer.submit([make(key)], started + waits[key]))
        told[key] = asyncio.get_running_loop().time() - started

    async with asyncio.timeout(5):
        await asyncio.gather(*(wait(key) for key in waits))
    assert list(told) == ["first", "second", "third"]
    # Before the next one's, and as late as a busy machine may make it.
    assert all(-0.002 < told[key] - waits[key] < 0.39 for key in waits), told
    store.released.set()
    assert (await written(held)).result == "CREATED"


async def test_an_upsert_that_the_database_refuses_fails_alone(
    writer: GroupCommit, make: MakeUpsert, database: str
) -> None:
    with psycopg.connect(database) as connection:
        connection.execute("ALTER TABLE participants ADD CHECK (external_id NOT LIKE 'guilty%')")
    keys = [f"innocent-{number}" for number in range(20)]
    keys[3], keys[4], keys[17] = "guilty-1", "guilty-2", "guilty-3"
    outcomes = await writer.submit([make(key) for key in keys], soon())
    for key, outcome in zip(keys, outcomes, strict=True):
        if key.startswith("guilty"):
            assert isinstance(outcome, Rejected)
            assert isinstance(outcome.error, InvalidArgument)
        else:
            assert whole(outcome).result == "CREATED"
    assert set(rows(database)) == {key for key in keys if key.startswith("innocent")}


async def test_a_statement_that_loses_the_database_fails_and_the_next_is_written(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert, database: str
) -> None:
    # Not in the transaction that holds the lock: there pg_stat_activity stays as it was seen first.
    with psycopg.connect(database) as holder, psycopg.connect(database, autocommit=True) as admin:
        holder.execute("LOCK TABLE participants IN ACCESS EXCLUSIVE MODE")
        lost = writer.submit([make("key")], soon())
        terminate = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        while not admin.execute(terminate.encode()).fetchall():  # noqa: ASYNC110  # Postgres announces no waiting
            await asyncio.sleep(0.005)
        with pytest.raises(Unavailable):
            await written(lost)
        holder.commit()
    assert (await written(writer.submit([make("key")], soon()))).result == "CREATED"


class Lock:
    """Another transaction, which holds a participant."""

    def __init__(self, conninfo: str, statement: str, parameters: Sequence[str]) -> None:
        self._connection = psycopg.connect(conninfo)
        self._connection.execute(statement.encode(), parameters)

    def release(self) -> None:
        if self._connection.closed:
            return
        self._connection.commit()
        self._connection.close()


@pytest.fixture
async def locked(writer: GroupCommit, make: MakeUpsert, database: str) -> AsyncIterator[Lock]:
    """A lock on the row of the participant `locked`."""
    await written(writer.submit([make("locked")], soon()))
    lock = Lock(database, "SELECT * FROM participants WHERE external_id = %s FOR UPDATE", ["locked"])
    yield lock
    lock.release()


async def test_a_locked_participant_holds_up_no_other_and_is_written_when_it_is_released(
    writer: GroupCommit, make: MakeUpsert, locked: Lock
) -> None:
    held_up = writer.submit([make("locked", plan="premium")], soon())
    others = [writer.submit([make(f"other-{number}")], soon()) for number in range(10)]
    assert [(await written(other)).result for other in others] == ["CREATED"] * 10
    assert not held_up.done()
    locked.release()
    assert (await written(held_up)).result == "UPDATED"


@pytest.mark.usefixtures("locked")
async def test_a_participant_that_stays_locked_is_a_conflict(
    writer: GroupCommit, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "MAX_RETRIES", 3)
    with pytest.raises(Conflict) as error:
        await written(writer.submit([make("locked", plan="premium")], soon()))
    assert error.value.retry_after is not None


@pytest.mark.usefixtures("locked")
async def test_a_deadline_passes_while_a_participant_is_locked(writer: GroupCommit, make: MakeUpsert) -> None:
    with pytest.raises(DeadlineExceeded):
        await written(writer.submit([make("locked", plan="premium")], soon(0.2)))


@pytest.mark.usefixtures("locked")
async def test_an_upsert_that_changes_nothing_of_a_locked_participant_is_answered(
    writer: GroupCommit, make: MakeUpsert
) -> None:
    assert (await written(writer.submit([make("locked")], soon()))).result == "UNCHANGED"


async def test_a_key_that_another_transaction_is_creating_holds_up_no_other_and_is_updated_in_the_end(
    writer: GroupCommit, make: MakeUpsert, tenant: Tenant, database: str
) -> None:
    creation = Lock(
        database,
        "INSERT INTO participants (organization_id, participant_id, external_id, status, attributes, tags) "
        "VALUES (%s, gen_random_uuid(), 'taken', 'ACTIVE', '{\"theirs\": \"\"}', '{}')",
        [tenant.organization_id],
    )
    held_up = writer.submit([make("taken", ours="")], soon())
    other = writer.submit([make("other")], soon())
    assert (await written(other)).result == "CREATED"
    assert not held_up.done()
    creation.release()
    outcome = await written(held_up)
    assert outcome.result == "UPDATED"
    assert outcome.participant.attributes == {"theirs": "", "ours": ""}


async def test_whoever_observes_is_told_of_statements_and_of_what_a_batch_is_refused(
    store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorder(Observer):
        told: ClassVar[list[object]] = []

        def statement(self, upserts: int, seconds: float, traces: Sequence[Any]) -> None:
            self.told.append((upserts, seconds > 0, traces))

        def refused(self, reason: str) -> None:
            self.told.append(reason)

    monkeypatch.setattr(group_commit, "Admission", partial(Admission, max_upserts=2))
    writer = GroupCommit(store, Recorder())
    current_trace.set("a trace")
    futures = [
        writer.submit([make(key) for key in keys], soon(), bulk=True) for keys in (["first"], ["second", "third"])
    ]
    assert all(isinstance(outcome, Rejected) for outcome in futures[1].result())
    await futures[0]
    await writer.close()
    assert Recorder.told == ["QUEUE_FULL", "QUEUE_FULL", (1, True, ["a trace"])]


async def test_of_what_was_submitted_together_only_what_is_locked_runs_into_its_deadline(
    writer: GroupCommit, make: MakeUpsert, locked: Lock
) -> None:
    outcomes = await writer.submit([make("other"), make("locked", plan="premium")], soon(0.3), bulk=True)
    assert whole(outcomes[0]).result == "CREATED"
    assert isinstance(outcomes[1], Rejected)
    assert isinstance(outcomes[1].error, DeadlineExceeded)
    locked.release()
    # The one that ran into its deadline holds its key no longer.
    assert (await written(writer.submit([make("locked")], soon()))).result == "UNCHANGED"


async def test_a_submission_for_which_there_is_no_room_is_refused_as_a_whole(
    store: RecordingStore, make: MakeUpsert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group_commit, "Admission", partial(Admission, max_upserts=4))
    writer = GroupCommit(store)
    outcomes = await writer.submit([make(key) for key in "abc"], soon(), bulk=True)
    assert [isinstance(outcome, Rejected) and type(outcome.error) for outcome in outcomes] == [Overloaded] * 3
    assert store.groups == []
    outcomes = await writer.submit([make(key) for key in "ab"], soon(), bulk=True)
    assert [whole(outcome).result for outcome in outcomes] == ["CREATED", "CREATED"]
    assert writer.load() == (0, 0)


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("limit", [{"max_upserts": 6}, {"max_bytes": 600}], ids=["upserts", "bytes"])
async def test_a_full_queue_refuses_at_once_and_takes_more_when_it_has_emptied(
    writer: GroupCommit,
    store: RecordingStore,
    make: MakeUpsert,
    monkeypatch: pytest.MonkeyPatch,
    limit: Mapping[str, int],
) -> None:
    monkeypatch.setattr(group_commit, "Admission", partial(Admission, **limit))
    writer = GroupCommit(store)
    store.held = {"first"}
    futures = [writer.submit([make(key)], soon()) for key in ("first", "second", "third")]
    with pytest.raises(Overloaded) as error:
        await written(writer.submit([make("fourth")], soon()))
    assert error.value.retry_after is not None
    store.released.set()
    await all_written(*futures)
    assert (await written(writer.submit([make("fourth")], soon()))).result == "CREATED"


async def test_closing_waits_for_the_statement_under_way(
    writer: GroupCommit, store: RecordingStore, make: MakeUpsert
) -> None:
    future = await hold(writer, store, make("key"))
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0)
    assert not closing.done()
    store.released.set()
    await closing
    assert (await written(future)).result == "CREATED"


async def test_closing_waits_for_an_upsert_that_is_to_run_again(
    writer: GroupCommit, make: MakeUpsert, locked: Lock
) -> None:
    future = writer.submit([make("locked", plan="premium")], soon())
    closing = asyncio.create_task(writer.close())
    await asyncio.sleep(0.2)
    assert not closing.done()
    locked.release()
    await closing
    assert (await written(future)).result == "UPDATED"


@pytest.mark.parametrize("seed", range(3))
async def test_under_failures_at_random_each_key_ends_as_if_its_upserts_had_run_one_by_one(
    store: RecordingStore, make: MakeUpsert, database: str, seed: int
) -> None:
    chance = random.Random(seed)
    writer = GroupCommit(UnreliableStore(store, chance))
    model: dict[str, dict[str, str]] = {}

    async def call(number: int) -> None:
        for _ in range(20):
            key, attributes = f"key-{chance.randrange(6)}", {f"a{chance.randrange(3)}": str(chance.randrange(3))}
            before = model.get(key)
            after = model[key] = {**(before or {}), **attributes}
            outcome = await written(writer.submit([make(key, **attributes)], soon()))
            expected = "CREATED" if before is None else "UNCHANGED" if before == after else "UPDATED"
            assert (outcome.result, outcome.participant.attributes) == (expected, after)

    await asyncio.gather(*(call(number) for number in range(12)))
    await writer.close()
    assert rows(database) == model


KEYS, ROUNDS, PROCESSES = 200, 3, 4


async def upsert_every_key(conninfo: str, organization_id: str, process: int) -> list[tuple[str, str, str]]:
    """Upserts the same keys as the other processes, in an order of its own, several times."""
    chance = random.Random(process)
    came_of_it: list[tuple[str, str, str]] = []
    async with opened(conninfo) as store:
        writer = GroupCommit(store)
        for number in range(ROUNDS):
            keys = chance.sample(range(KEYS), KEYS)
            upserts = [upsert_of(organization_id, str(key), {f"{process}-{number}": ""}) for key in keys]
            outcomes = await all_written(*(writer.submit([upsert], soon()) for upsert in upserts))
            came_of_it += [
                (outcome.participant.external_id, outcome.participant.id, outcome.result) for outcome in outcomes
            ]
        await writer.close()
    return came_of_it


def in_process(conninfo: str, organization_id: str, process: int) -> list[tuple[str, str, str]]:
    return asyncio.run(upsert_every_key(conninfo, organization_id, process))


def test_four_processes_that_upsert_the_same_keys_lose_nothing_and_meet_no_deadlock(
    tenant: Tenant, database: str
) -> None:
    with ProcessPoolExecutor(PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(in_process, database, tenant.organization_id, process) for process in range(PROCESSES)]
        came_of_it = [entry for future in running for entry in future.result()]
    created = [external_id for external_id, _, result in came_of_it if result == "CREATED"]
    assert sorted(created) == sorted(str(key) for key in range(KEYS))
    assert len({(external_id, participant_id) for external_id, participant_id, _ in came_of_it}) == KEYS
    everything = {f"{process}-{number}": "" for process in range(PROCESSES) for number in range(ROUNDS)}
    assert all(attributes == everything for attributes in rows(database).values())
    with psycopg.connect(database) as connection:
        statistics = connection.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert statistics.fetchone() == (0,)
