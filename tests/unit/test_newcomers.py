"""Who comes and goes unseen is counted, by what the kernel says of real connections."""

import socket
from collections.abc import Iterator

import pytest

from server.rpc.churn import LATELY, Churn

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


def _began(now: float) -> Churn:
    churn = Churn()
    assert not churn.goes_on(now, set())
    # As if it had been looked in between.
    churn._looked = now + MOMENT - LATELY
    return churn


def test_many_who_are_gone_before_they_are_seen_are_churn(address: tuple[str, int]) -> None:
    churn = _began(now=100.0)
    _come_and_go(address)
    assert churn.goes_on(100.0 + MOMENT, set())


def test_whoever_was_seen_is_not(address: tuple[str, int]) -> None:
    churn = _began(now=100.0)
    assert not churn.goes_on(100.0 + MOMENT, _come_and_go(address))


def test_nor_is_what_was_long_ago(address: tuple[str, int]) -> None:
    churn = Churn()
    assert not churn.goes_on(100.0, set())
    _come_and_go(address)
    assert not churn.goes_on(100.0 + 2 * LATELY, set())
