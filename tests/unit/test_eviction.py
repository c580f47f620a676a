"""Whose connections make way where there are too many."""

from __future__ import annotations

from typing import Any

import pytest

from server.rpc.guard import eviction as module
from server.rpc.guard.connections import Connection
from server.rpc.guard.eviction import TIME_TO_CALL, Eviction
from server.rpc.guard.ledger import Ledger


class _Call:
    def __init__(self, peer: str) -> None:
        self._peer = peer

    def peer(self) -> str:
        return self._peer


class Scene:
    """Connections that are there, and those that made way."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ledger = Ledger()
        self._eviction = Eviction(self._ledger)
        self._found: list[Connection] = []
        self.cut: list[str] = []
        monkeypatch.setattr(module, "MAX_CONNECTIONS", 4)

        def abort(connection: Connection) -> bool:
            self.cut.append(connection.peer)
            return True

        monkeypatch.setattr(Connection, "abort", abort)

    def come(self, *peers: str, organization: str | None = None) -> None:
        for peer in peers:
            # A number that is free by now is taken again, so the last need not have the largest.
            self._found.insert(0, Connection(peer, 0, 9, hash(peer), is_open=True))
            if organization is not None:
                call: Any = _Call(peer)
                self._ledger.open(call, 0, organization)

    def look(self, now: float) -> None:
        self._eviction.make_room(self._found, now)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


def test_nobody_makes_way_while_there_is_room(scene: Scene) -> None:
    scene.come("a", "b", "c", "d")
    scene.look(0.0)
    scene.look(2 * TIME_TO_CALL)
    assert scene.cut == []


def test_who_has_shown_no_key_for_a_while_makes_way_first_and_the_oldest_of_them(scene: Scene) -> None:
    scene.come("old")
    scene.look(0.0)
    scene.come("holder", organization="one")
    scene.come("newer")
    scene.look(1.0)
    scene.come("new", "newest")
    scene.look(1.5 + TIME_TO_CALL)
    assert scene.cut == ["old"]


def test_then_whoever_has_the_most_and_of_those_the_oldest(scene: Scene) -> None:
    scene.come("few", organization="few")
    scene.look(0.0)
    scene.come("first", organization="many")
    scene.look(1.0)
    scene.come("second", "third", organization="many")
    scene.look(2.0)
    scene.come("new")
    scene.look(3.0)
    assert scene.cut == ["first"]


def test_newcomers_make_way_like_an_organization(scene: Scene) -> None:
    scene.come("holder", "another", organization="one")
    scene.look(0.0)
    scene.come("first")
    scene.look(1.0)
    scene.come("second", "third")
    scene.look(2.0)
    assert scene.cut == ["first"]
