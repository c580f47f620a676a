"""The sockets at which grpcio accepts connections: while newcomers attack, few of them are accepted at a time.

grpcio accepts whoever comes, and reads what they send, however far behind the event loop is with what was read before.
Who is not accepted yet waits in the kernel, and takes nothing from anybody; and where many wait, the next are not even
connected.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from server.rpc.guard import descriptors
from server.rpc.guard.descriptors import LISTENING, TcpSockets


class Pace(NamedTuple):
    """How often it is the next socket's turn to accept, in seconds, and how many may wait at each of the others.

    There are some (LISTENERS in server.py), so it takes as many turns until each has had its own; and whoever finds no
    room to wait comes again a second later, or several.
    """

    turn: float
    waiting: int


# Where newcomers have filled the memory, which one can with 160 MiB, until it is free again; where they may; and where
# they take no more than the processor.
FEWEST, FEW, SOME = Pace(turn=0.5, waiting=4), Pace(turn=0.1, waiting=4), Pace(turn=0.025, waiting=64)
# How many may wait where they do not for long: the system has a limit of its own, which is what grpcio takes, too.
MANY = 1 << 16


class Listeners:
    """The sockets that listen on a port of this process."""

    def __init__(self, port: int) -> None:
        stand_in = descriptors.idle_listener()
        self._listeners = deque(
            _Listener(each.file, stand_in) for each in TcpSockets(port).look() if each.tcp.state == LISTENING
        )
        # When one of them had its turn last, or the others began to wait; None while all accept.
        self._last_turn: float | None = None

    def accept_in_turn(self, now: float, pace: Pace) -> None:
        """Has one of them accept until this is called again, if it is time for that, and the others wait."""
        for each in self._listeners:
            each.wait(pace.waiting)
        if self._last_turn is None:
            # Those who are being read now may be all that there is room for.
            self._last_turn = now
        elif now >= self._last_turn + pace.turn:
            self._last_turn = now
            self._listeners.rotate()
            self._listeners[0].accept()

    def accept_all(self) -> None:
        """Has all of them accept."""
        self._last_turn = None
        for each in self._listeners:
            each.accept()


class _Listener:
    """A socket that listens, and while it does not accept one that stands in for it, where grpcio finds nobody."""

    def __init__(self, place: int, stand_in: int) -> None:
        # The number that grpcio knows it by, which is another file's once grpcio has closed it.
        self._place = place
        self._cookie = descriptors.cookie(place)
        self._stand_in, self._stand_in_cookie = stand_in, descriptors.cookie(stand_in)
        # Another number for the socket, while it is kept from grpcio.
        self._taken: int | None = None

    def wait(self, most: int) -> None:
        if self._taken is None:
            self._take(most)
        elif not self._is_in_place(self._stand_in_cookie):
            # grpcio has closed what it took for it, so nobody is to wait here any longer.
            self._let_go(self._taken)

    def accept(self) -> None:
        if self._taken is not None:
            if self._is_in_place(self._stand_in_cookie):
                descriptors.listen(self._taken, MANY)
                descriptors.put(self._taken, self._place)
                descriptors.wake_poller(self._taken)
            self._let_go(self._taken)

    def _take(self, most: int) -> None:
        taken = descriptors.duplicate(self._place)
        if taken >= 0 and self._is_in_place(self._cookie) and descriptors.put(self._stand_in, self._place):
            self._taken = taken
            descriptors.listen(taken, most)
        else:
            descriptors.close(taken)

    def _let_go(self, taken: int) -> None:
        self._taken = None
        descriptors.close(taken)

    def _is_in_place(self, cookie: int) -> bool:
        return descriptors.cookie(self._place) == cookie
