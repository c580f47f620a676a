"""Connections from which nothing is heard any more, and whose peers are not told.

Whoever is cut off comes back at once, and what it sent before is still to be worked on. Whoever is not told waits: so
what an attack costs is bounded by how many connections the attacker has. And whoever was suspected, but turns out to
make calls with a good key, is heard again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from dataclasses import dataclass

from server.rpc.connections import Connection, Taken

# For how long, in seconds; then they are cut off.
SILENCE = 10.0
# How long it is given to suspects to turn out innocent, in seconds: as long as calls wait in the worst of attacks.
DOUBT = 2.0


@dataclass(slots=True)
class _Silent:
    """A connection, and whether its peer is a mere suspect: then grpcio still has what it sent before."""

    taken: Taken
    until: float
    is_suspect: bool = True

    def condemn(self) -> None:
        """Has grpcio let go of what it has of a suspect, for there is no doubt any more."""
        if self.is_suspect:
            self.is_suspect = False
            self.taken.keep()


class Silenced:
    """The connections that are silent, by peer. `ended` is told of each when it is so no longer."""

    def __init__(self, ended: Callable[[str], None]) -> None:
        self._ended = ended
        self._silent: dict[str, _Silent] = {}

    def __len__(self) -> int:
        return len(self._silent)

    def __contains__(self, peer: str) -> bool:
        return peer in self._silent

    def received(self, connection: Connection) -> int:
        """Returns how many bytes have come of a connection, but for those that are kept from grpcio."""
        silent = self._silent.get(connection.peer)
        return connection.received if silent is None else silent.taken.read

    def silence(self, connection: Connection, now: float, *, for_good: bool) -> bool:
        """Silences a suspect, or for good one that is more, and tells whether it was heard until now."""
        silent = self._silent.get(connection.peer)
        was_heard = silent is None
        if silent is None:
            taken = connection.take()
            if taken is None:
                self._ended(connection.peer)
                return False
            silent = self._silent[connection.peer] = _Silent(taken, now + SILENCE)
        if for_good:
            silent.condemn()
        return was_heard

    def look(self, innocent: Container[str], now: float) -> None:
        """Hears suspects again who are innocent, and cuts off who has been silent for long enough."""
        for peer, silent in list(self._silent.items()):
            if silent.is_suspect and peer in innocent:
                self._end(peer)
                silent.taken.give_back()
            elif silent.until <= now or not silent.taken.is_open():
                self._end(peer)
                silent.taken.close()
            elif silent.until - SILENCE + DOUBT <= now:
                silent.condemn()

    def cut_off_all(self) -> None:
        """Cuts all of them off."""
        self.look((), math.inf)

    def _end(self, peer: str) -> None:
        del self._silent[peer]
        self._ended(peer)
