"""Newcomers wait where they take little, and those who have asked come first."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from server.gateway.waiting import (
    LAST_AT_ONCE,
    LEAST_TIMEOUT,
    MOST_LAST,
    MOST_SILENT,
    MUCH,
    SILENCE_TIMEOUT,
    WaitingRoom,
)
from server.sockets import allow_open_files

WHOLE, HALF = b"GET / HTTP/1.1\r\n\r\n", b"GET /"


class Entrance:
    """Lets callers in who are connected by sockets of this machine."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
        self.room = WaitingRoom()
        stack.callback(self.room.close)

    def enter(self, data: bytes = b"", now: float = 0.0, *, encrypted: bool = False) -> socket.socket:
        """Lets one in who has sent data."""
        caller = self._stack.enter_context(socket.create_connection(self._listener.getsockname(), timeout=5))
        caller.sendall(data)
        connection, _ = self._listener.accept()
        self.room.enter(connection, now, encrypted=encrypted)
        return caller

    def taken(self, most: int = 10) -> list[bytes]:
        """Returns what those have sent who are taken in."""
        self.room.look(encrypted=False)
        return [self._stack.enter_context(connection).recv(100) for connection in self.room.take(most)]


@pytest.fixture
def entrance() -> Iterator[Entrance]:
    allow_open_files()
    with ExitStack() as stack:
        yield Entrance(stack)


def test_who_sends_nothing_is_not_taken_in(entrance: Entrance) -> None:
    caller = entrance.enter()
    assert entrance.taken() == []
    assert not entrance.room.is_anybody_ready
    caller.sendall(WHOLE)
    assert entrance.taken() == [WHOLE]


def test_those_who_have_asked_are_taken_in_as_they_came(entrance: Entrance) -> None:
    for number in range(5):
        entrance.enter(b"%d" % number + WHOLE)
    assert entrance.taken(3) == [b"%d" % number + WHOLE for number in range(3)]
    assert entrance.room.is_anybody_ready
    assert entrance.taken(3) == [b"%d" % number + WHOLE for number in range(3, 5)]
    assert not entrance.room.is_anybody_ready


def test_who_shows_another_key_does_not_wait_for_all_of_one(entrance: Entrance) -> None:
    flood = b"GET / HTTP/1.1\r\nX-API-Key: sk_flood\r\n\r\n"
    another = b"GET / HTTP/1.1\r\nhost: here\r\nAuthorization: Bearer sk_another\r\n\r\n"
    for _ in range(20):
        entrance.enter(flood)
    entrance.enter(WHOLE)
    entrance.enter(another)
    entrance.enter(another)
    assert entrance.taken(5) == [flood, WHOLE, another, flood, another]
    assert entrance.taken(100) == [flood] * 18


def test_who_has_sent_half_comes_behind_and_few_do_at_once(entrance: Entrance) -> None:
    for _ in range(LAST_AT_ONCE + 1):
        entrance.enter(HALF)
    entrance.enter(WHOLE)
    assert entrance.taken() == [WHOLE] + [HALF] * (LAST_AT_ONCE - 1)
    assert entrance.taken() == [HALF] * 2


def test_who_has_sent_much_comes_behind_and_before_halves(entrance: Entrance) -> None:
    much = WHOLE * (MUCH // len(WHOLE) + 1)
    entrance.enter(HALF)
    for _ in range(LAST_AT_ONCE):
        entrance.enter(much)
    entrance.enter(WHOLE)
    assert entrance.taken() == [WHOLE] + [much[:100]] * (LAST_AT_ONCE - 1) + [HALF]
    assert entrance.taken() == [much[:100]]


def test_some_who_come_last_are_taken_in_whoever_else_comes(entrance: Entrance) -> None:
    entrance.enter(HALF)
    for _ in range(LAST_AT_ONCE + 1):
        entrance.enter(WHOLE)
    assert entrance.taken(LAST_AT_ONCE) == [WHOLE] * LAST_AT_ONCE + [HALF]


def test_behind_encryption_any_beginning_will_do(entrance: Entrance) -> None:
    entrance.enter(HALF)
    entrance.enter(b"\x16", encrypted=True)
    assert entrance.taken(1) == [b"\x16", HALF]


def test_who_has_gone_is_let_go(entrance: Entrance) -> None:
    entrance.enter().close()
    assert entrance.taken() == []
    assert not entrance.room.is_anybody_ready


def test_of_many_who_have_asked_those_are_let_go_who_have_gone(entrance: Entrance) -> None:
    for number in range(5):
        entrance.enter(b"%d" % number + WHOLE)
    for _ in range(5):
        entrance.enter(WHOLE).close()
    entrance.enter(b"last" + WHOLE)
    assert entrance.taken(5) == [b"%d" % number + WHOLE for number in range(5)]
    entrance.enter(WHOLE)
    assert entrance.taken(5) == [b"last" + WHOLE, WHOLE]


def test_who_sends_nothing_for_long_is_let_go(entrance: Entrance) -> None:
    first, second = entrance.enter(now=0.0), entrance.enter(now=1.0)
    entrance.room.check(SILENCE_TIMEOUT + 0.5)
    assert first.recv(1) == b""
    second.sendall(WHOLE)
    assert entrance.taken() == [WHOLE]


def test_the_first_who_sends_nothing_makes_way(entrance: Entrance) -> None:
    first = entrance.enter()
    last = [entrance.enter() for _ in range(MOST_SILENT)][-1]
    assert first.recv(1) == b""
    last.sendall(WHOLE)
    assert entrance.taken() == [WHOLE]


def test_nobody_makes_way_who_has_just_come(entrance: Entrance) -> None:
    for _ in range(MOST_SILENT):
        entrance.enter(now=1.0)
    assert entrance.room.is_full(1.0)
    assert not entrance.room.is_full(1.0 + LEAST_TIMEOUT)


@pytest.mark.parametrize("data", [HALF, WHOLE * MUCH], ids=["half", "much"])
def test_of_a_key_as_many_come_last_as_leave_room_for_others(entrance: Entrance, data: bytes) -> None:
    another = b"GET / HTTP/1.1\r\nx-api-key: sk_another\r\n" + data[3:]
    for _ in range(MOST_LAST // 2 + 10):
        entrance.enter(data)
    entrance.enter(another)
    taken = []
    while entrance.room.is_anybody_ready:
        taken += entrance.taken()
    assert Counter(taken) == {data[:100]: MOST_LAST // 2, another[:100]: 1}


def test_nobody_else_comes_while_too_many_have_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.gateway.waiting.MOST_ASKING", 20)
    with ExitStack() as stack:
        entrance = Entrance(stack)
        for _ in range(20):
            assert not entrance.room.is_full(0.0)
            entrance.enter(WHOLE)
        assert entrance.room.is_full(0.0)
        entrance.taken()
        assert not entrance.room.is_full(0.0)
