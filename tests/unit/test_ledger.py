"""What calls account for, and what came beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from server.rpc.guard.connections import Connection
from server.rpc.guard.gate import Gate
from server.rpc.guard.ledger import FRAMES_BYTES, Ledger
from server.rpc.guard.tarpit import Tarpit
from server.rpc.guard.unaccounted import Lately, Limit, Unaccounted

PEER = "ipv4:192.0.2.1:1"
NOTHING, SOME = Limit(holders=0, strangers=0), Limit(holders=10_000, strangers=100)


@dataclass(frozen=True)
class _Call:
    number: int = 0

    def peer(self) -> str:
        return PEER


def _call(number: int = 0) -> Any:
    return _Call(number)


class Scene:
    """What came of one connection after another, which have the same peer."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self._tarpit = Tarpit(Gate(self.ledger))
        self.unaccounted = Unaccounted(self.ledger)

    def over(self, limit: Limit, received: int, *, cookie: int = 1, beside_messages: bool = True) -> bool:
        found = [Connection(PEER, received, 7, cookie, is_open=True)]
        return PEER in self.unaccounted.lately(found, self._tarpit).over(limit, beside_messages=beside_messages)


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_what_comes_of_strangers_and_of_key_holders_has_limits_of_its_own(scene: Scene) -> None:
    assert scene.over(SOME, 101)
    scene.ledger.open(_call(), 0, "an organization")
    assert not scene.over(SOME, 101)
    assert scene.over(SOME, 20_000, beside_messages=False)


async def test_a_call_accounts_for_what_it_took(scene: Scene) -> None:
    scene.ledger.open(_call(), 300, "an organization")
    scene.ledger.arrived(_call(), 2_000)
    assert not scene.over(NOTHING, FRAMES_BYTES + 2_300)
    assert scene.over(NOTHING, FRAMES_BYTES + 2_400)


async def test_a_message_may_be_on_its_way_of_a_call_that_is_here(scene: Scene) -> None:
    scene.ledger.open(_call(), 0, "an organization")
    assert not scene.over(NOTHING, 4 << 20)
    assert scene.over(NOTHING, 4 << 20, beside_messages=False)


async def test_calls_that_are_refused_before_their_messages_are_asked_for_leave_nothing(scene: Scene) -> None:
    for number in range(100):
        scene.ledger.open(_call(number), 100, "an organization")
    for number in range(100):
        scene.ledger.close(_call(number))
    assert not scene.over(NOTHING, 100 * (100 + 300 + FRAMES_BYTES))


async def test_what_came_two_seconds_ago_counts_no_more(scene: Scene) -> None:
    assert scene.over(SOME, 5_000)
    scene.unaccounted.begin_second(())
    assert scene.over(SOME, 5_000)
    scene.unaccounted.begin_second(())
    assert not scene.over(SOME, 5_000)
    assert scene.over(SOME, 5_101)


async def test_it_does_where_it_was_too_much(scene: Scene) -> None:
    for _ in range(3):
        assert scene.over(SOME, 5_000)
        scene.unaccounted.begin_second({PEER})
    assert scene.over(SOME, 5_000)


async def test_another_connection_of_the_same_port_does_not_pay_for_the_last_nor_gain_by_it(scene: Scene) -> None:
    for _ in range(2):
        scene.over(SOME, 5_000)
        scene.unaccounted.begin_second(())
    assert not scene.over(SOME, 100, cookie=2)
    assert scene.over(SOME, 101, cookie=2)


async def test_a_message_that_is_counted_late_is_nothing_that_came_again(scene: Scene) -> None:
    """What has come and is not accounted for falls then, but nobody else has the port."""
    scene.ledger.open(_call(), 0, "an organization")
    for _ in range(2):
        scene.over(SOME, 60_000)
        scene.unaccounted.begin_second(())
    scene.ledger.arrived(_call(), 40_000)
    assert not scene.over(SOME, 60_000)


def _over_share(**came: int) -> set[str]:
    """Who has more than its share of a mebibyte; peers are named after their organizations, strangers with an s."""
    organizations = {peer: peer[0] for peer in came if not peer.startswith("s")}
    return Lately(came, {}, organizations).over_share(1 << 20, SOME)


def test_who_sends_more_than_its_share_does_so_whatever_else_is_sent() -> None:
    assert _over_share(a1=1 << 20) == set()
    assert _over_share(a1=(1 << 20) + 1) == {"a1"}


def test_each_organization_has_an_equal_share_and_of_that_each_of_its_connections() -> None:
    crowd = {f"a{number}": 60_000 for number in range(10)}
    assert _over_share(**crowd) == set()
    assert _over_share(**crowd, b1=500_000) == crowd.keys()
    assert _over_share(**crowd, b1=500_000, s1=500_000) == {*crowd, "b1", "s1"}


def test_who_sends_little_has_no_share_and_takes_none() -> None:
    assert _over_share(a1=1 << 20, b1=SOME.holders, s1=SOME.strangers) == set()


def test_nobody_has_too_much_who_sends_what_everybody_may() -> None:
    crowd = {f"a{number}": SOME.holders + 1 for number in range(1_000)}
    assert _over_share(**crowd, b1=SOME.holders) == crowd.keys()
