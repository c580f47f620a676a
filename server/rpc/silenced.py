"""Connections from which nothing is heard any more, and whose peers are not told.

Whoever is cut off comes back at once, and what it sent before is still to be worked on. Whoever is not told waits: so
what an attack costs is bounded by how many connections the attacker has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from server.rpc.connections import Connection

# For how long, in seconds; then they are cut off.
SILENCE = 10.0


@dataclass(frozen=True, slots=True)
class _Silent:
    cookie: int
    until: float
    is_stranger: bool


class Silenced:
    """The connections that are silent. `ended` is told of each when it is so no longer."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._silent: dict[str, _Silent] = {}

    def __len__(self) -> int:
        return len(self._silent)

    def __contains__(self, peer: str) -> bool:
        return peer in self._silent

    def silence(self, connection: Connection, *, is_stranger: bool, now: float) -> bool:
        """Silences a connection, or cuts it off where that cannot be done, and tells whether it was there."""
        if connection.silence():
            self._silent[connection.peer] = _Silent(connection.cookie, now + SILENCE, is_stranger)
            return True
        self._ended(connection.peer)
        return connection.abort()

    def look(self, found: Iterable[Connection], holders: Container[str], now: float) -> None:
        """Cuts off who has been silent for long enough, and who was a stranger and is known as a key holder since: that
        one is told, and comes back. `found` are all connections."""
        there = {each.peer: each for each in found}
        for peer, silent in list(self._silent.items()):
            is_there = peer in there and there[peer].cookie == silent.cookie
            if not is_there or silent.until <= now or (silent.is_stranger and peer in holders):
                self._end(peer, there[peer] if is_there else None)

    def cut_off_all(self, found: Iterable[Connection]) -> None:
        """Cuts all of them off, so that grpcio lets go of what it holds of them."""
        self.look(found, (), math.inf)

    def _end(self, peer: str, connection: Connection | None) -> None:
        del self._silent[peer]
        # Before the port is anybody else's.
        self._ended(peer)
        if connection is not None:
            connection.abort()
