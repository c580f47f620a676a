"""Calls are begun in turn, whoever has many of them waiting."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from server.rpc import intake
from server.rpc.guard.ledger import Ledger
from server.rpc.intake import AT_ONCE, STRANGERS_AT_ONCE, Intake

# By peer, the organization whose key it holds; any other is a stranger.
HOLDERS = {"flood-1": "flood", "flood-2": "flood", "good": "good", "other": "other"}


class Known(Ledger):
    def organization(self, peer: str) -> str | None:
        return HOLDERS.get(peer)


class Calls:
    """Calls by their peers, and which of them began, in order."""

    def __init__(self) -> None:
        self.intake = Intake(Known())
        self.begun: list[str] = []
        self.refused: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def fill(self) -> None:
        """Has as many come first as may begin at once."""
        self._tasks.update(asyncio.create_task(self._begin_at_once()) for _ in range(AT_ONCE))

    def come(self, *peers: str) -> None:
        """Has a call of each peer come."""
        for peer in peers:
            self._tasks.add(asyncio.create_task(self._call(peer)))

    def cancel_all(self) -> None:
        """Cancels all calls that wait."""
        for task in self._tasks:
            task.cancel()

    async def _begin_at_once(self) -> None:
        assert self.intake.try_begin()

    async def _call(self, peer: str) -> None:
        may_begin = self.intake.try_begin() or await self.intake.begin(peer)
        (self.begun if may_begin else self.refused).append(peer)


def take_long() -> None:
    """Has the event loop come round late."""
    time.sleep(0.02)


async def come_round(times: int = 1) -> None:
    """Lets the event loop come round, and what was let in begin."""
    for _ in range(2 * times):
        await asyncio.sleep(0)


@pytest.fixture
async def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    # However busy the machine is.
    monkeypatch.setattr(intake, "SLOW", math.inf)
    return Calls()


async def test_few_begin_each_time_the_event_loop_comes_round(calls: Calls) -> None:
    calls.come(*["good"] * 5 * AT_ONCE)
    seen = 0
    while len(calls.begun) < 5 * AT_ONCE:
        await asyncio.sleep(0)
        assert len(calls.begun) - seen <= AT_ONCE
        seen = len(calls.begun)


async def test_those_of_one_caller_begin_in_the_order_in_which_they_came(calls: Calls) -> None:
    calls.fill()
    peers = ["flood-1", "flood-1", "flood-2"] * 20
    calls.come(*peers)
    await come_round(10)
    assert calls.begun == peers


async def test_each_organization_has_its_turn_whatever_its_connections_are(calls: Calls) -> None:
    calls.fill()
    calls.come(*["flood-1", "flood-2"] * 500, "good", "other", "good")
    await come_round(2)
    assert {"good", "other"} <= set(calls.begun[:3])
    assert calls.begun[:6].count("good") == 2


async def test_strangers_and_key_holders_take_turns(calls: Calls) -> None:
    calls.fill()
    calls.come(*(f"stranger-{number % 100}" for number in range(1_000)), "good", *["flood-1"] * 1_000, "newcomer")
    await come_round(3)
    assert "good" in calls.begun[:2]
    of_holders = sum(peer in HOLDERS for peer in calls.begun)
    assert abs(2 * of_holders - len(calls.begun)) <= 1
    await come_round(15)
    # After one of each connection that came before.
    assert "newcomer" in calls.begun


async def test_few_of_strangers_begin_while_the_event_loop_takes_long(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "SLOW", 0.01)
    seen, most = 0, {"good": 0, "stranger": 0}
    calls.fill()
    calls.come(*["good", "stranger"] * 3 * AT_ONCE)
    while len(calls.begun) < 6 * AT_ONCE:
        take_long()
        await asyncio.sleep(0)
        begun, seen = calls.begun[seen:], len(calls.begun)
        most = {peer: max(most[peer], begun.count(peer)) for peer in most}
    assert most["stranger"] == STRANGERS_AT_ONCE
    assert most["good"] > STRANGERS_AT_ONCE


async def test_it_is_forgotten_that_the_event_loop_took_long(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "SLOW", 0.01)
    calls.fill()
    take_long()
    await come_round(3)
    calls.come(*["stranger"] * 2 * STRANGERS_AT_ONCE)
    await asyncio.sleep(0)
    assert len(calls.begun) == 2 * STRANGERS_AT_ONCE


async def test_who_has_too_many_waiting_is_refused_and_nobody_else(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "MAX_WAITING", 100)
    calls.fill()
    calls.come(*["flood-1"] * 200, *["good"] * 20, *["stranger"] * 30)
    await asyncio.sleep(0)
    assert set(calls.refused) == {"flood-1"}
    assert len(calls.refused) == 150
    await come_round(20)
    assert (calls.begun.count("flood-1"), calls.begun.count("good"), calls.begun.count("stranger")) == (50, 20, 30)
    # There is room again.
    calls.fill()
    calls.come(*["flood-1"] * 50)
    await come_round(5)
    assert len(calls.refused) == 150


async def test_one_of_whoever_has_none_waits_however_many_do(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MAX_WAITING", 100)
    calls.fill()
    calls.come(*(f"stranger-{number}" for number in range(150)), *["stranger-0"] * 2)
    await asyncio.sleep(0)
    assert calls.refused == ["stranger-0"] * 2


async def test_who_is_cancelled_while_it_waits_does_not_have_more_begin_after_it(calls: Calls) -> None:
    calls.fill()
    calls.come(*["stranger"] * 3 * AT_ONCE)
    await asyncio.sleep(0)
    calls.cancel_all()
    # The next time none is begun.
    await asyncio.sleep(0)
    calls.come(*["good"] * 3 * AT_ONCE)
    while len(calls.begun) < 3 * AT_ONCE:
        seen = len(calls.begun)
        await asyncio.sleep(0)
        assert len(calls.begun) - seen <= AT_ONCE
