"""Connections from which nothing is heard any more, and whose peers are not told.

Whoever is cut off comes back at once, and what it sent before is still to be worked on. Whoever is not told waits: so
what an attack costs is bounded by how many connections the attacker has. And whoever was suspected, but turns out to
make calls with a good key, is heard again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from server.rpc.connections import Connection, Seized

# For how long, in seconds; then they are cut off.
SILENCE = 10.0


@dataclass(slots=True)
class _Muted:
    """A suspect, of which grpcio has what came before; `is_torn` says that something of it was lost."""

    cookie: int
    until: float
    is_torn: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    """The connection of one that is no mere suspect."""

    seized: Seized
    until: float


class Silenced:
    """The connections that are silent, by peer. `ended` is told of each when it is so no longer."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._muted: dict[str, _Muted] = {}
        self._kept: dict[str, _Kept] = {}

    def __len__(self) -> int:
        return len(self._muted) + len(self._kept)

    def __contains__(self, peer: str) -> bool:
        return peer in self._muted or peer in self._kept

    def mute(self, connection: Connection, now: float) -> bool:
        """Silences a suspect, and tells whether that could be done."""
        is_muted = connection.mute()
        if is_muted:
            self._muted[connection.peer] = _Muted(connection.cookie, now + SILENCE)
        return is_muted

    def keep(self, connection: Connection, now: float) -> bool:
        """Silences one that is no mere suspect, for good, and tells whether it was there."""
        seized = connection.seize()
        if seized is None:
            self._ended(connection.peer)
            return False
        self._kept[connection.peer] = _Kept(seized, now + SILENCE)
        return True

    def look(self, found: Iterable[Connection], innocent: Container[str], now: float) -> None:
        """Hears suspects again who are innocent, and cuts off who has been silent for long enough; what the other
        suspects have sent and is not read is thrown away. `found` are all connections."""
        there = {each.peer: each for each in found}
        for peer, muted in list(self._muted.items()):
            connection = there.get(peer)
            if connection is None or connection.cookie != muted.cookie:
                self._end(peer)
            elif peer in innocent and not muted.is_torn:
                self._end(peer)
                connection.hear()
            elif peer in innocent or muted.until <= now:
                # Before the port is anybody else's.
                self._end(peer)
                connection.abort()
            else:
                muted.is_torn |= connection.discard()
        for peer, kept in list(self._kept.items()):
            if kept.until <= now or not kept.seized.is_open():
                self._end(peer)
                kept.seized.close()

    def cut_off_all(self, found: Iterable[Connection]) -> None:
        """Cuts all of them off."""
        self.look(found, (), math.inf)

    def _end(self, peer: str) -> None:
        self._muted.pop(peer, None)
        self._kept.pop(peer, None)
        self._ended(peer)
