"""The connections of gRPC callers, which grpcio keeps to itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from server.rpc.guard import descriptors
from server.rpc.guard.descriptors import CLOSED, ESTABLISHED, LISTENING, TcpSockets


class Connection(NamedTuple):
    """A connection as it was when it was looked at: whose, as grpcio names it, and how many bytes it had received.

    `file` is the number that grpcio knows it by, `cookie` what it is known by here, for the number may be another's by
    now, and `is_open` whether its peer had not closed it.
    """

    peer: str
    received: int
    file: int
    cookie: int
    is_open: bool

    def take(self) -> Taken | None:
        """Takes the connection from grpcio; None where it is gone, or where the process has too many open files.

        Linux has no way to do this only if the number is still the connection's: if grpcio closes it within the
        microsecond between these two, and accepts another there, that one is closed.
        """
        near, far = descriptors.full_pair()
        taken = descriptors.duplicate(self.file)
        is_there = min(near, far, taken) >= 0 and descriptors.cookie(taken) == self.cookie
        if not (is_there and descriptors.cookie(self.file) == self.cookie and descriptors.put(near, self.file)):
            descriptors.close(near, far, taken)
            return None
        descriptors.close(near)
        tcp = descriptors.tcp_of(taken)
        read = tcp.received - descriptors.unread(taken) if tcp is not None else 0
        return Taken(taken, self.file, descriptors.cookie(self.file), far, read)

    def abort(self) -> bool:
        """Ends the connection, and tells whether it was there still; grpcio takes it for the peer's doing."""
        return descriptors.abort_if(self.file, self.cookie)


@dataclass(slots=True)
class Taken:
    """A connection taken from grpcio, which has a stand-in for it: one that nothing comes from, and nothing fits into.

    The peer is not told. Whatever it sends is not read, and soon it cannot send any more. `file` is the connection,
    `place` the number that grpcio knows it by, `far` the other end of the stand-in, whose cookie is `stand_in`, and
    `read` how many bytes grpcio had read of it.
    """

    file: int
    place: int
    stand_in: int
    far: int
    read: int

    def is_open(self) -> bool:
        """Tells whether the peer is still there."""
        tcp = descriptors.tcp_of(self.file)
        return tcp is not None and tcp.state == ESTABLISHED

    def give_back(self) -> None:
        """Gives the connection back to grpcio, with all that has come; what grpcio has ended is ended here, too."""
        if self.is_let_go():
            self.close()
            return
        descriptors.put(self.file, self.place)
        descriptors.wake_poller(self.file)
        descriptors.close(self.file, self.far)

    def end(self) -> None:
        """Has grpcio find that the connection has ended, and let go of all that it holds for it."""
        descriptors.close(self.far)
        self.far = -1
        # Its poller looks again, and the peer is not told. But what waits until there is room to write to somebody who
        # does not read hears of nothing but the end.
        if descriptors.has_room(self.file):
            descriptors.read_no_more(self.file)
        else:
            descriptors.abort(self.file)

    def is_let_go(self) -> bool:
        """Tells whether grpcio has ended the connection."""
        return descriptors.cookie(self.place) != self.stand_in

    def close(self) -> None:
        """Ends the connection, as if it had never been. The poller of grpcio hears no more of it."""
        descriptors.abort(self.file)
        descriptors.close(self.file, self.far)


class Connections:
    """The connections to a port of this process, which grpcio has accepted. For one thread."""

    def __init__(self, port: int) -> None:
        self._sockets = TcpSockets(port)
        # How many waited to be accepted when it was last looked.
        self.waiting = 0

    def look(self) -> list[Connection]:
        """Returns those that are there.

        Of what was sent by whoever has reset its connection since, nothing more is read: nobody waits for an answer.
        """
        there, self.waiting = [], 0
        for file, cookie, peer, tcp in self._sockets.look():
            if tcp.state == LISTENING:
                self.waiting += tcp.waiting
            elif tcp.state == CLOSED:
                descriptors.abort_if(file, cookie)
            elif peer:
                there.append(Connection(peer, tcp.received, file, cookie, tcp.state == ESTABLISHED))
        return there
