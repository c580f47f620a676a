"""Connections from which nothing is heard any more, and whose peers are not told.

Whoever is cut off comes back at once, and what it sent before is still to be worked on. Whoever is not told waits: so
what an attack costs is bounded by how many connections the attacker has. And a suspect of whom no more was read so far
than its calls take is heard again.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from server.rpc.guard.connections import Connection, Taken
from server.rpc.guard.gate import Gate

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


class Tarpit:
    """The connections that are silent, by peer. The gate is told of each."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
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
        """Silences a suspect, or for good one that is more or is gone, and tells whether it was heard until now."""
        silent = self._silent.get(connection.peer)
        was_heard = silent is None
        if silent is None:
            taken = connection.take()
            if taken is None:
                self._gate.heard(connection.peer)
                return False
            self._gate.suspected(connection.peer)
            silent = self._silent[connection.peer] = _Silent(taken, now)
        if silent.is_suspect and (for_good or not silent.taken.is_open()):
            self._condemn(connection.peer)
        return was_heard

    def look(
        self,
        guilty: Container[str],
        resting: Container[str],
        owed: Container[str],
        doubt: Callable[[str], float],
        now: float,
        *,
        may_hear: bool,
    ) -> None:
        """Silences the guilty for good who have been suspects for as long as there is doubt, in seconds; hears others
        again that are not resting: all that are owed an answer, and one more, if it may be heard; and cuts off who has
        been silent for long enough.

        Until it is taken, an answer is held, and its call. What else they have sent meanwhile is not known: so those
        that are owed none are heard one after the other.
        """
        for peer, silent in list(self._silent.items()):
            is_over = silent.since + SILENCE <= now or not silent.taken.is_open()
            if not silent.is_suspect:
                # Closed before grpcio has noticed that it has ended, it would never notice.
                if is_over and (silent.taken.is_let_go() or silent.since + 2 * SILENCE <= now):
                    self._end(peer).close()
            elif is_over or (peer in guilty and silent.since + doubt(peer) <= now):
                self._condemn(peer)
            elif peer in guilty or peer in resting:
                continue
            elif peer in owed:
                self._end(peer).give_back()
            elif may_hear:
                may_hear = False
                self._end(peer).give_back()

    def cut_off_all(self) -> None:
        """Cuts all of them off."""
        for peer in list(self._silent):
            self._end(peer).close()

    def _condemn(self, peer: str) -> None:
        # Before grpcio hears of its end, and tells of each of its calls.
        self._gate.shut_out(peer)
        self._silent[peer].condemn()

    def _end(self, peer: str) -> Taken:
        # Before the port is anybody else's.
        self._gate.heard(peer)
        return self._silent.pop(peer).taken
