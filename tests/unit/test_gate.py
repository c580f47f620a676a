"""Whose calls may begin."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from server.rpc.guard import gate as module
from server.rpc.guard.gate import Gate
from server.rpc.guard.ledger import Ledger

STRANGER, HOLDER = "ipv4:192.0.2.1:1", "ipv4:192.0.2.1:2"


@dataclass(frozen=True)
class _Call:
    name: str

    def peer(self) -> str:
        return self.name


async def _begins(gate: Gate, peer: str) -> asyncio.Task[bool]:
    call: Any = _Call(peer)
    task = asyncio.create_task(gate.may_begin(call))
    await asyncio.sleep(0)
    return task


async def _done(task: asyncio.Task[bool]) -> bool:
    # What a look tells the event loop comes round, and then whoever waits for it.
    for _ in range(3):
        await asyncio.sleep(0)
    return task.done()


@pytest.fixture
async def gate() -> Gate:
    ledger = Ledger()
    call: Any = _Call(HOLDER)
    ledger.open(call, 0, "an organization")
    return Gate(ledger)


async def test_nobody_waits_while_no_newcomers_flood(gate: Gate) -> None:
    gate.looked({STRANGER})
    gate.suspected(STRANGER)
    assert not gate.have_to_wait
    assert await (await _begins(gate, STRANGER))


async def test_a_stranger_waits_until_it_has_been_looked_twice_while_newcomers_flood(gate: Gate) -> None:
    """The first look may have begun before the stranger came."""
    gate.looked({STRANGER}, is_flooded=True)
    assert gate.have_to_wait
    begins = await _begins(gate, STRANGER)
    gate.looked({STRANGER}, is_flooded=True)
    assert not await _done(begins)
    gate.looked({STRANGER}, is_flooded=True)
    assert await _done(begins)
    assert begins.result()


async def test_a_key_holder_does_not(gate: Gate) -> None:
    gate.looked({HOLDER}, is_flooded=True)
    assert await (await _begins(gate, HOLDER))


async def test_a_suspect_waits_until_it_is_heard(gate: Gate) -> None:
    gate.suspected(STRANGER)
    gate.looked({STRANGER}, is_flooded=True)
    begins = await _begins(gate, STRANGER)
    for _ in range(3):
        gate.looked({STRANGER}, is_flooded=True)
        assert not await _done(begins)
    gate.heard(STRANGER)
    gate.looked({STRANGER}, is_flooded=True)
    assert await _done(begins)
    assert begins.result()


async def test_nothing_begins_of_a_suspect_that_is_shut_out(gate: Gate) -> None:
    gate.suspected(STRANGER)
    gate.looked({STRANGER}, is_flooded=True)
    begins = await _begins(gate, STRANGER)
    gate.shut_out(STRANGER)
    gate.looked({STRANGER}, is_flooded=True)
    assert not await begins


async def test_nothing_begins_of_a_stranger_who_is_gone(gate: Gate) -> None:
    gate.looked({STRANGER}, is_flooded=True)
    begins = await _begins(gate, STRANGER)
    for _ in range(2):
        gate.looked(set(), is_flooded=True)
    assert not await begins


async def test_strangers_wait_no_longer_once_they_do_not_flood(gate: Gate) -> None:
    gate.looked({STRANGER}, is_flooded=True)
    begins = await _begins(gate, STRANGER)
    assert not await _done(begins)
    gate.looked()
    assert await _done(begins)
    assert begins.result()


async def test_no_more_wait_than_may(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 2)
    gate.looked({STRANGER}, is_flooded=True)
    first, second, third = [await _begins(gate, STRANGER) for _ in range(3)]
    assert not await third
    for _ in range(2):
        gate.looked({STRANGER}, is_flooded=True)
        await asyncio.sleep(0)
    assert await first
    assert await second
    fourth = await _begins(gate, STRANGER)
    assert not await _done(fourth)
