"""Newcomers are accepted as they come until they flood, and again once they do not any more."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import replace

import pytest

from server.rpc.guard.connections import Connection
from server.rpc.guard.listeners import FEW, FEWEST, SOME, Listeners, Pace
from server.rpc.guard.newcomers import MANY, Newcomers
from server.rpc.guard.pressure import Pressure
from server.rpc.guard.throttle import HELD_FOR, Throttle

CALM = Pressure(is_busy=False, is_saturated=False, is_short=False, is_critical=False, is_filling=False)
SHORT, FILLING = replace(CALM, is_short=True), replace(CALM, is_short=True, is_filling=True)
BUSY = replace(CALM, is_busy=True)
SATURATED = replace(BUSY, is_saturated=True)
OPEN = Connection("ipv4:127.0.0.1:1", received=0, file=9, cookie=1, is_open=True)
CLOSED = Connection("ipv4:127.0.0.1:2", received=0, file=10, cookie=2, is_open=False)


class Crowd(Newcomers):
    """Newcomers of whom it is said how many they are."""

    are_many = False
    are_very_many = False

    def __init__(self) -> None:
        self.unseen = False
        self.seen: Set[str] = set()

    def go_unseen(self, _now: float, peers: Set[str], _waiting: int) -> bool:
        self.seen = peers
        return self.unseen


class Door(Listeners):
    """Sockets that remember how fast they are to accept."""

    def __init__(self) -> None:
        self.pace: Pace | None = None

    def accept_in_turn(self, _now: float, pace: Pace) -> None:
        self.pace = pace

    def accept_all(self) -> None:
        self.pace = None


class Story:
    """A throttle, and who comes."""

    def __init__(self) -> None:
        self.crowd, self.door = Crowd(), Door()
        self.throttle = Throttle(self.crowd, self.door)

    def pace(self, now: float, pressure: Pressure, *, waiting: int = 0, flood: bool = False) -> Pace | None:
        """Returns how fast newcomers are accepted after another look."""
        self.throttle.judge([OPEN, CLOSED], {"holder"}, waiting, pressure, now, flood=flood)
        self.throttle.set_pace(pressure, now)
        return self.door.pace


@pytest.fixture
def story() -> Story:
    return Story()


def test_all_are_accepted_while_memory_is_not_short(story: Story) -> None:
    story.crowd.are_many = True
    assert story.pace(1.0, BUSY, waiting=MANY, flood=True) is None


@pytest.mark.parametrize(("pressure", "flood"), [(SHORT, True), (FILLING, False)])
def test_many_who_come_while_memory_fills_are_held_back(story: Story, pressure: Pressure, *, flood: bool) -> None:
    assert story.pace(1.0, pressure, waiting=MANY - 1, flood=flood) is None
    story.crowd.are_many = True
    assert story.pace(2.0, pressure, flood=flood) is FEWEST


def test_many_who_wait_are_as_many_who_come(story: Story) -> None:
    assert story.pace(1.0, FILLING, waiting=MANY) is FEWEST


def test_a_few_who_come_while_memory_is_short_are_not_held_back(story: Story) -> None:
    assert story.pace(1.0, SHORT, waiting=1) is None


def test_who_was_held_back_waits_until_memory_is_free_again(story: Story) -> None:
    assert story.pace(1.0, FILLING, waiting=MANY) is FEWEST
    for now in (1.5, 2.4, 3.3, 4.2):
        assert story.pace(now, SHORT, waiting=1) is FEWEST
    # Then a while at a faster pace, and all.
    assert story.pace(4.3, CALM, waiting=1) is FEW
    assert story.pace(4.2 + HELD_FOR, CALM, waiting=1) is None


def test_nobody_who_waits_is_nobody_to_hold_back(story: Story) -> None:
    assert story.pace(1.0, FILLING, waiting=MANY) is FEWEST
    assert story.pace(1.9, SHORT, waiting=0) is FEWEST
    assert story.pace(1.0 + HELD_FOR, SHORT, waiting=0) is None


@pytest.mark.parametrize(("pressure", "very_many"), [(SATURATED, False), (BUSY, True)])
def test_who_goes_unseen_is_held_back(story: Story, pressure: Pressure, *, very_many: bool) -> None:
    story.crowd.are_very_many, story.crowd.unseen = very_many, True
    assert story.pace(1.0, pressure) is SOME
    # Who has closed its connection again was not seen, unless it had called.
    assert story.crowd.seen == {OPEN.peer, "holder"}


@pytest.mark.parametrize("pressure", [CALM, BUSY])
def test_whoever_goes_unseen_and_takes_little_is_not(story: Story, pressure: Pressure) -> None:
    story.crowd.unseen = True
    assert story.pace(1.0, pressure) is None


def test_who_goes_unseen_while_memory_is_short_may_fill_it(story: Story) -> None:
    story.crowd.unseen = True
    assert story.pace(1.0, replace(SATURATED, is_short=True)) is FEWEST


def test_it_is_said_once_that_newcomers_flood(story: Story, caplog: pytest.LogCaptureFixture) -> None:
    for now in (1.0, 1.5, 2.0):
        story.throttle.hold_back(now, fill=False)
    assert story.throttle.is_on(2.5)
    assert not story.throttle.is_on(2.0 + HELD_FOR)
    assert len(caplog.records) == 1
