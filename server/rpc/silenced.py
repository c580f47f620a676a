"""Connections from which nothing is heard any more, and whose peers are not told.

Whoever is cut off comes back at once, and what it sent before is still to be worked on. Whoever is not told waits: so
what an attack costs is bounded by how many connections the attacker has. And whoever was suspected, but turns out to
make calls with a good key, is heard again.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from server.rpc.connections import Connection, Taken

# For how long, in seconds; then they are cut off.
SILENCE = 10.0


@dataclass(slots=True)
class _Silent:
    """A connection, and whether its peer is a mere suspect: then grpcio still has what it sent before."""

    taken: Taken
    since: float
    is_suspect: bool = True

    def condemn(self) -> None:
        """Has grpcio let go of what it has of a suspect, for there is no doubt any more."""
        self.is_suspect = False
        self.taken.end()


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
            silent = self._silent[connection.peer] = _Silent(taken, now)
        if for_good and silent.is_suspect:
            silent.condemn()
        return was_heard

    def look(self, innocent: Container[str], doubt: float, now: float) -> None:
        """Hears a suspect again who is innocent, silences the others for good who have been suspects for so long, in
        seconds, and cuts off who has been silent for long enough.

        What the innocent have sent meanwhile is not known: so they are heard one after the other.
        """
        is_any_heard = False
        for peer, silent in list(self._silent.items()):
            is_over = silent.since + SILENCE <= now or not silent.taken.is_open()
            is_certain = peer not in innocent and silent.since + doubt <= now
            if not silent.is_suspect:
                # Closed before grpcio has noticed that it has ended, it would never notice.
                if is_over and (silent.taken.is_let_go() or silent.since + 2 * SILENCE <= now):
                    self._end(peer).close()
            elif is_over or is_certain:
                silent.condemn()
            elif peer in innocent and not is_any_heard:
                is_any_heard = True
                self._end(peer).give_back()

    def cut_off_all(self) -> None:
        """Cuts all of them off."""
        for peer in list(self._silent):
            self._end(peer).close()

    def _end(self, peer: str) -> Taken:
        # Before the port is anybody else's.
        self._ended(peer)
        return self._silent.pop(peer).taken
