"""Whose calls may begin."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from server.rpc.guard.callers import WAIT, Callers

STRANGER, HOLDER = "ipv4:192.0.2.1:1", "ipv4:192.0.2.1:2"


@dataclass(frozen=True)
class _Call:
    name: str

    def peer(self) -> str:
        return self.name


async def _begins(callers: Callers, peer: str) -> asyncio.Task[bool]:
    call: Any = _Call(peer)
    task = asyncio.create_task(callers.may_begin(call))
    await asyncio.sleep(0)
    return task


async def _done(task: asyncio.Task[bool]) -> bool:
    await asyncio.sleep(3 * WAIT)
    return task.done()


@pytest.fixture
def callers() -> Callers:
    callers = Callers()
    call: Any = _Call(HOLDER)
    callers.open(call, 0, "an organization")
    return callers


async def test_nobody_waits_while_no_newcomers_flood(callers: Callers) -> None:
    callers.looked({STRANGER})
    callers.suspected(STRANGER)
    assert not callers.have_to_wait
    assert await (await _begins(callers, STRANGER))


async def test_a_stranger_waits_until_it_has_been_looked_twice_while_newcomers_flood(callers: Callers) -> None:
    """The first look may have begun before the stranger came."""
    callers.looked({STRANGER}, is_flooded=True)
    assert callers.have_to_wait
    begins = await _begins(callers, STRANGER)
    callers.looked({STRANGER}, is_flooded=True)
    assert not await _done(begins)
    callers.looked({STRANGER}, is_flooded=True)
    assert await _done(begins)
    assert begins.result()


async def test_a_key_holder_does_not(callers: Callers) -> None:
    callers.looked({HOLDER}, is_flooded=True)
    assert await (await _begins(callers, HOLDER))


async def test_a_suspect_waits_until_it_is_heard(callers: Callers) -> None:
    callers.suspected(STRANGER)
    callers.looked({STRANGER}, is_flooded=True)
    begins = await _begins(callers, STRANGER)
    for _ in range(3):
        callers.looked({STRANGER}, is_flooded=True)
        assert not await _done(begins)
    callers.heard(STRANGER)
    assert await _done(begins)
    assert begins.result()


async def test_nothing_begins_of_a_suspect_that_is_shut_out(callers: Callers) -> None:
    callers.suspected(STRANGER)
    callers.looked({STRANGER}, is_flooded=True)
    begins = await _begins(callers, STRANGER)
    callers.shut_out(STRANGER)
    assert not await begins


async def test_nothing_begins_of_a_stranger_who_is_gone(callers: Callers) -> None:
    callers.looked({STRANGER}, is_flooded=True)
    begins = await _begins(callers, STRANGER)
    for _ in range(2):
        callers.looked(set(), is_flooded=True)
    assert not await begins


async def test_strangers_wait_no_longer_once_they_do_not_flood(callers: Callers) -> None:
    callers.looked({STRANGER}, is_flooded=True)
    begins = await _begins(callers, STRANGER)
    assert not await _done(begins)
    callers.looked()
    assert await _done(begins)
    assert begins.result()
