"""How keys are looked up: in groups, so that no flood of unknown keys delays a good one. And how their use is noted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from server.auth import keys, lookups
from server.auth.authenticator import Authenticator
from server.auth.keys import KeyRecord, KeyReference, digest, new_key
from server.errors import DeadlineExceeded, Unauthenticated, Unavailable

ORGANIZATION = str(uuid4())


class Store:
    """A store whose queries end when the test lets them: `queries` are those it was asked, `turn` lets one end."""

    def __init__(self) -> None:
        self.records: dict[KeyReference, KeyRecord] = {}
        self.queries: list[Sequence[KeyReference]] = []
        self.turn = asyncio.Semaphore(0)
        self.asked = asyncio.Event()
        self.away = False
        self.marked: list[Mapping[KeyReference, datetime]] = []

    async def find(self, keys: Sequence[KeyReference]) -> Mapping[KeyReference, KeyRecord]:
        # What a query sees is what there was when it began.
        found = {key: self.records[key] for key in keys if key in self.records}
        self.queries.append(keys)
        self.asked.set()
        await self.turn.acquire()
        if self.away:
            raise Unavailable
        return found

    async def mark_used(self, used: Mapping[KeyReference, datetime]) -> None:
        self.marked.append(used)

    def create(self) -> str:
        made, key = new_key(ORGANIZATION)
        self.records[made] = KeyRecord(digest(key), None, revoked=False)
        return key


@pytest.fixture
async def store() -> Store:
    return Store()


@pytest.fixture
async def authenticator(store: Store) -> AsyncIterator[Authenticator]:
    made = Authenticator(store)
    yield made
    await made.close()


def guess() -> str:
    return new_key(ORGANIZATION)[1]


def reference(key: str) -> KeyReference:
    claimed = keys.reference(key)
    assert claimed is not None
    return claimed


def soon() -> float:
    return asyncio.get_running_loop().time() + 10


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_new_key_waits_for_no_flood_of_guesses(store: Store, authenticator: Authenticator) -> None:
    guesses = [asyncio.create_task(authenticator.authenticate(guess(), soon())) for _ in range(500)]
    await settle()
    new = asyncio.create_task(authenticator.authenticate(store.create(), soon()))
    await settle()
    # Both of the queries under way, and the one that takes all who came meanwhile.
    for _ in range(3):
        store.turn.release()
    assert await new == ORGANIZATION
    assert len(store.queries) <= 4
    for _ in range(10):
        store.turn.release()
    outcomes = await asyncio.gather(*guesses, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unauthenticated}


async def test_at_most_two_queries_run_at_a_time(store: Store, authenticator: Authenticator) -> None:
    calls = []
    for _ in range(10):
        calls.append(asyncio.create_task(authenticator.authenticate(guess(), soon())))
        await settle()
    assert len(store.queries) == lookups.MAX_QUERIES
    for _ in calls:
        store.turn.release()
    await asyncio.gather(*calls, return_exceptions=True)
    assert sorted(len(keys) for keys in store.queries) == [1, 1, 8]


async def test_a_key_that_many_wait_for_is_asked_for_once(store: Store, authenticator: Authenticator) -> None:
    key = store.create()
    calls = [asyncio.create_task(authenticator.authenticate(key, soon())) for _ in range(50)]
    await settle()
    store.turn.release()
    assert set(await asyncio.gather(*calls)) == {ORGANIZATION}
    assert [len(keys) for keys in store.queries] == [1]


async def test_a_key_created_while_it_was_looked_up_works_at_once(store: Store, authenticator: Authenticator) -> None:
    made, key = new_key(ORGANIZATION)
    before = asyncio.create_task(authenticator.authenticate(key, soon()))
    await settle()
    store.records[made] = KeyRecord(digest(key), None, revoked=False)
    after = asyncio.create_task(authenticator.authenticate(key, soon()))
    await settle()
    for _ in range(2):
        store.turn.release()
    with pytest.raises(Unauthenticated):
        await before
    assert await after == ORGANIZATION


async def test_a_call_that_comes_as_all_queries_end_is_looked_up(store: Store, authenticator: Authenticator) -> None:
    calls = []
    for _ in range(lookups.MAX_QUERIES):
        calls.append(asyncio.create_task(authenticator.authenticate(guess(), soon())))
        await settle()
    for _ in calls:
        store.turn.release()
    # It comes after the queries have ended, and before the event loop has done with their tasks.
    late = asyncio.create_task(authenticator.authenticate(store.create(), soon()))
    await settle()
    store.turn.release()
    assert await asyncio.wait_for(late, 1) == ORGANIZATION
    await asyncio.gather(*calls, return_exceptions=True)


async def test_garbage_is_refused_without_a_look_up(store: Store, authenticator: Authenticator) -> None:
    key = store.create()
    for garbage in ("", "nonsense", key[:-1], key[:-1] + ("A" if key[-1] != "A" else "B"), key.swapcase()):
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(garbage, soon())
    assert store.queries == []


async def test_one_who_leaves_takes_nothing_from_the_others(store: Store, authenticator: Authenticator) -> None:
    key = store.create()
    leaves, stays = (asyncio.create_task(authenticator.authenticate(key, soon())) for _ in range(2))
    await settle()
    leaves.cancel()
    await settle()
    store.turn.release()
    assert await stays == ORGANIZATION


async def test_a_database_that_is_away_is_told_to_all_who_wait(store: Store, authenticator: Authenticator) -> None:
    store.away = True
    calls = [asyncio.create_task(authenticator.authenticate(guess(), soon())) for _ in range(3)]
    await settle()
    for _ in range(3):
        store.turn.release()
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}


async def test_a_query_that_never_ends_is_given_up(
    store: Store, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "QUERY_TIMEOUT", 0.01)
    with pytest.raises(Unavailable):
        await authenticator.authenticate(guess(), soon())
    store.turn.release()
    assert await authenticator.authenticate(store.create(), soon()) == ORGANIZATION


async def test_nobody_waits_beyond_the_deadline(store: Store, authenticator: Authenticator) -> None:
    with pytest.raises(DeadlineExceeded):
        await authenticator.authenticate(guess(), asyncio.get_running_loop().time() + 0.01)


async def test_only_so_many_wait_while_the_database_does_not_answer(
    store: Store, authenticator: Authenticator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "MAX_WAITING", 2)
    waiting = []
    for _ in range(lookups.MAX_QUERIES + 2):
        waiting.append(asyncio.create_task(authenticator.authenticate(guess(), soon())))
        await settle()
    with pytest.raises(Unavailable):
        await authenticator.authenticate(guess(), soon())
    await authenticator.close()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {Unavailable}


async def test_an_expired_key_is_refused(store: Store, authenticator: Authenticator) -> None:
    made, key = new_key(ORGANIZATION)
    store.records[made] = KeyRecord(digest(key), datetime(2020, 1, 1, tzinfo=UTC), revoked=False)
    store.turn.release()
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(key, soon())


async def test_keys_that_were_used_are_marked_by_one_statement_and_once(
    store: Store, authenticator: Authenticator
) -> None:
    used = [store.create() for _ in range(3)]
    for key in used:
        store.turn.release()
        for _ in range(2):
            await authenticator.authenticate(key, soon())
    await authenticator.mark_used()
    (marked,) = store.marked
    assert set(marked) == {reference(key) for key in used}
    assert all(abs((datetime.now(UTC) - at).total_seconds()) < 30 for at in marked.values())

    await authenticator.mark_used()
    assert len(store.marked) == 1
    await authenticator.authenticate(used[0], soon())
    await authenticator.mark_used()
    assert set(store.marked[1]) == {reference(used[0])}


async def test_a_key_that_was_refused_was_not_used(store: Store, authenticator: Authenticator) -> None:
    made, key = new_key(ORGANIZATION)
    store.records[made] = KeyRecord(digest(key), None, revoked=True)
    store.turn.release()
    with pytest.raises(Unauthenticated):
        await authenticator.authenticate(key, soon())
    await authenticator.mark_used()
    assert store.marked == []


async def test_what_was_used_last_is_marked_when_the_service_stops(store: Store, authenticator: Authenticator) -> None:
    key = store.create()
    store.turn.release()
    await authenticator.authenticate(key, soon())
    await authenticator.close()
    assert [set(marked) for marked in store.marked] == [{reference(key)}]
