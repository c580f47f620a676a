"""Connections from which nothing is heard any more, and whose peers are not told.

Whoever is cut off comes back at once, and what it sent before is still to be worked on. Whoever is not told waits: so
what an attack costs is bounded by how many connections the attacker has. And whoever was suspected, but turns out to
make calls with a good key, is heard again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from server.rpc.connections import Connection

# For how long, in seconds; then they are cut off.
SILENCE = 10.0


@dataclass(slots=True)
class _Silent:
    """A suspect may turn out to be none; `is_torn` says that something of it was lost."""

    cookie: int
    until: float
    is_suspect: bool
    is_torn: bool = False


class Silenced:
    """The connections that are silent. `ended` is told of each when it is so no longer."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._silent: dict[str, _Silent] = {}

    def __len__(self) -> int:
        return len(self._silent)

    def __contains__(self, peer: str) -> bool:
        return peer in self._silent

    def silence(self, connection: Connection, *, is_suspect: bool, now: float) -> bool:
        """Silences a connection, and tells whether it could be: newer kernels let nobody who has not CAP_NET_ADMIN."""
        if not connection.silence():
            return False
        silent = self._silent[connection.peer] = _Silent(connection.cookie, now + SILENCE, is_suspect)
        if not is_suspect:
            silent.is_torn = connection.discard()
        return True

    def look(self, found: Iterable[Connection], innocent: Container[str], now: float) -> None:
        """Hears suspects again who are innocent, and cuts off who has been silent for long enough; what the others have
        sent and is not read is thrown away. `found` are all connections."""
        there = {each.peer: each for each in found}
        for peer, silent in list(self._silent.items()):
            connection = there.get(peer)
            if connection is None or connection.cookie != silent.cookie:
                self._end(peer)
            elif silent.is_suspect and peer in innocent and not silent.is_torn:
                self._end(peer)
                connection.hear()
            elif silent.until <= now or (silent.is_suspect and peer in innocent):
                # Before the port is anybody else's.
                self._end(peer)
                connection.abort()
            else:
                silent.is_torn |= connection.discard()

    def cut_off_all(self, found: Iterable[Connection]) -> None:
        """Cuts all of them off."""
        self.look(found, (), math.inf)

    def _end(self, peer: str) -> None:
        del self._silent[peer]
        self._ended(peer)
