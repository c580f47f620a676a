"""Who comes, and who goes unseen, is counted by what the kernel says of real connections."""

import socket
from collections.abc import Iterator

import pytest

from server.rpc.guard.newcomers import LATELY, LOOK_EVERY, Newcomers

# Others, in other tests, may open some, too, at the same time.
MANY = 1_200
# In which so many are too many, and fewer by those of others are not; in seconds.
MOMENT = 2.0


@pytest.fixture
def address() -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0), backlog=MANY) as listener:
        yield listener.getsockname()


def _come_and_go(address: tuple[str, int]) -> set[str]:
    """Opens and closes many connections, and returns whose they were."""
    peers = set()
    for _ in range(MANY):
        with socket.create_connection(address) as connection:
            peers.add(f"ipv4:{connection.getsockname()}")
    return peers


def _began(now: float) -> Newcomers:
    newcomers = Newcomers()
    newcomers.look(now)
    assert not newcomers.go_unseen(now, set(), 0)
    # As if it had been looked in between.
    newcomers._looked = now + MOMENT - LOOK_EVERY
    return newcomers


def test_many_who_come_at_once_are_many(address: tuple[str, int]) -> None:
    newcomers = Newcomers()
    newcomers.look(100.0)
    _come_and_go(address)
    newcomers.look(100.0 + LATELY)
    assert newcomers.are_many


def test_many_who_are_gone_before_they_are_seen_are_told(address: tuple[str, int]) -> None:
    newcomers = _began(now=100.0)
    _come_and_go(address)
    _look_a_while_later(newcomers, 100.0 + MOMENT)
    assert newcomers.go_unseen(100.0 + MOMENT, set(), 0)


def test_whoever_was_seen_is_not(address: tuple[str, int]) -> None:
    newcomers = _began(now=100.0)
    before = newcomers._opened()
    seen = _come_and_go(address)
    # Other tests' floods may be as many.
    others = newcomers._opened() - before - len(seen)
    seen |= {f"another-{number}" for number in range(others)}
    _look_a_while_later(newcomers, 100.0 + MOMENT)
    assert not newcomers.go_unseen(100.0 + MOMENT, seen, 0)


def test_nor_is_what_was_long_ago(address: tuple[str, int]) -> None:
    newcomers = Newcomers()
    newcomers.look(100.0)
    assert not newcomers.go_unseen(100.0, set(), 0)
    _come_and_go(address)
    _look_a_while_later(newcomers, 100.0 + 2 * LOOK_EVERY)
    assert not newcomers.go_unseen(100.0 + 2 * LOOK_EVERY, set(), 0)


@pytest.mark.parametrize("are_there", [True, False])
@pytest.mark.parametrize("waiting", [0, MANY])
def test_very_many_are_told_at_once_if_most_are_gone(address: tuple[str, int], waiting: int, are_there: bool) -> None:
    newcomers = Newcomers()
    newcomers.look(100.0)
    came = _come_and_go(address)
    newcomers.look(100.0 + LATELY)
    assert newcomers.are_very_many
    # Nobody was looked at before.
    were_gone = newcomers.go_unseen(100.0 + LATELY, came if are_there else set(), waiting)
    assert were_gone is not (are_there or waiting > 0)


def _look_a_while_later(newcomers: Newcomers, now: float) -> None:
    """Looks, also when nobody has come any more."""
    newcomers.look(now - LATELY)
    newcomers.look(now)
