"""Who is silenced is heard again, or cut off."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest

from server.rpc.guard import descriptors
from server.rpc.guard.connections import Connection
from server.rpc.guard.gate import Gate
from server.rpc.guard.ledger import Ledger
from server.rpc.guard.tarpit import SILENCE, Tarpit

PEERS = ["a", "b", "c"]
DOUBT = 5.0


class Pit:
    """Connections of all peers, silenced at the time 0."""

    def __init__(self, stack: ExitStack) -> None:
        self._tarpit = Tarpit(Gate(Ledger()))
        self._listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._clients = {peer: stack.enter_context(self._silenced(stack, peer)) for peer in PEERS}

    def silent(self) -> set[str]:
        return {peer for peer in PEERS if peer in self._tarpit}

    def look(
        self,
        now: float = 0.0,
        *,
        guilty: str = "",
        resting: str = "",
        owed: str = "",
        may_hear: bool = True,
    ) -> set[str]:
        """Looks, and returns who is silent still."""
        self._tarpit.look(guilty, resting, owed, lambda _peer: DOUBT, now, may_hear=may_hear)
        return self.silent()

    def leave(self, peer: str) -> None:
        self._clients[peer].close()

    def close(self) -> None:
        self._tarpit.cut_off_all()

    def _silenced(self, stack: ExitStack, peer: str) -> socket.socket:
        client = socket.create_connection(self._listener.getsockname())
        served = stack.enter_context(self._listener.accept()[0])
        connection = Connection(peer, 0, served.fileno(), descriptors.cookie(served.fileno()), is_open=True)
        assert self._tarpit.silence(connection, 0.0, for_good=False)
        return client


@pytest.fixture
async def pit() -> AsyncIterator[Pit]:
    with ExitStack() as stack:
        pit = Pit(stack)
        yield pit
        pit.close()


async def test_suspects_are_heard_one_after_the_other(pit: Pit) -> None:
    assert pit.look() == {"b", "c"}
    assert pit.look() == {"c"}
    assert pit.look() == set()


async def test_who_is_owed_an_answer_is_heard_at_once_even_where_nobody_else_may_be(pit: Pit) -> None:
    assert pit.look(owed="bc", may_hear=False) == {"a"}
    assert pit.look(may_hear=False) == {"a"}


async def test_the_guilty_and_the_resting_are_not_heard_whatever_they_are_owed(pit: Pit) -> None:
    assert pit.look(guilty="a", resting="b", owed="ab") == {"a", "b"}
    assert pit.look(guilty="a", resting="b") == {"a", "b"}


async def test_the_guilty_are_cut_off_once_there_is_no_doubt_and_they_were_silent_for_long_enough(pit: Pit) -> None:
    assert pit.look(DOUBT, guilty="a", resting="bc") == {"a", "b", "c"}
    # Guilty no more, it is not heard again.
    assert "a" in pit.look(DOUBT, owed="a")
    pit.leave("a")
    # What stands in for it is closed by whoever is told that it has ended, which is nobody here.
    assert "a" not in pit.look(2 * SILENCE, resting="bc")
