"""Where newcomers wait until they have asked for something, and it is their turn: there each takes very little.

To take a connection in takes some hundred microseconds, for which everybody else waits. So whoever sends nothing is
never taken in, who has gone again is let go, and whoever has sent much, or half a request, comes behind those that have
asked for little. Of these the callers have their turns, by the keys that they show: who shows none, or whose request
nobody can see for TLS, has those of all who do so.
"""

from __future__ import annotations

import re
import resource
import selectors
import socket

from server.round_robin import RoundRobin

# So many may wait who have asked; then others wait in the kernel, behind each other. And so many who have sent nothing,
# of whom the longest waiting makes way for the next. Of each no more than this part of the files that may be open.
MOST_ASKING = 10_000
MOST_SILENT = 2_000
PART_OF_FILES = 8
# So many may wait who have sent much, and so many who have sent half a request: of the kernel's memory they may take
# much.
MOST_LAST = 1_000
# How long one may send nothing, in seconds; and how long where others want its place.
SILENCE_TIMEOUT = 10.0
LEAST_TIMEOUT = 0.05
# So many bytes are much, in which the end of a head is looked for.
MUCH = 4096
# Of those who have sent much, or half a request, so many are taken in at once: it takes long to read, or is in vain.
LAST_AT_ONCE = 4

_KEY = re.compile(rb"\n(?:x-api-key|authorization):([^\r\n]*)", re.IGNORECASE)
_TCP_INFO: int | None = getattr(socket, "TCP_INFO", None)
_ESTABLISHED = 1


class WaitingRoom:
    """The connections that wait. With TLS nobody can see what has been asked for: any beginning will do."""

    def __init__(self) -> None:
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // PART_OF_FILES
        self._most_asking, self._most_silent = min(MOST_ASKING, most), min(MOST_SILENT, most)
        self._selector = selectors.DefaultSelector()
        # Those that have sent nothing, and when they came, the first to come first.
        self._silent: dict[socket.socket, float] = {}
        self._asking = RoundRobin[socket.socket]()
        self._sent_much = RoundRobin[socket.socket]()
        self._halves = RoundRobin[socket.socket]()

    def fileno(self) -> int:
        """Returns what can be read from when somebody has sent something."""
        return self._selector.fileno()

    def is_full(self, now: float) -> bool:
        """Tells whether nobody is to come yet: others have asked, or may still be about to send what they ask."""
        if len(self._silent) >= self._most_silent and now - next(iter(self._silent.values())) < LEAST_TIMEOUT:
            return True
        return self._asking.size >= self._most_asking

    @property
    def is_anybody_ready(self) -> bool:
        """Whether somebody waits for being taken in."""
        return bool(self._asking.size or self._sent_much.size or self._halves.size)

    def enter(self, connection: socket.socket, now: float, *, encrypted: bool) -> None:
        """Lets a newcomer in, who came at that time."""
        if self._has_begun(connection, encrypted=encrypted):
            return
        self._silent[connection] = now
        self._selector.register(connection, selectors.EVENT_READ)
        if len(self._silent) > self._most_silent:
            self._leave(next(iter(self._silent)))

    def look(self, *, encrypted: bool) -> None:
        """Looks who has sent something."""
        for key, _ in self._selector.select(0):
            connection = key.fileobj
            assert isinstance(connection, socket.socket)
            self._selector.unregister(connection)
            self.enter(connection, self._silent.pop(connection), encrypted=encrypted)

    def take(self, most: int) -> list[socket.socket]:
        """Returns those whose turn it is: up to so many, and few who come last."""
        taken = _taken(self._asking, most)
        for last in (self._sent_much, self._halves):
            # One at least, whoever else comes: nobody waits for ever.
            taken += _taken(last, max(LAST_AT_ONCE - len(taken), 1))
        return taken

    def check(self, now: float) -> None:
        """Lets go who has sent nothing for too long."""
        for connection, since in list(self._silent.items()):
            if now - since < SILENCE_TIMEOUT:
                break
            self._leave(connection)

    def make_room(self) -> None:
        """Lets half of those go who have sent nothing."""
        for connection in list(self._silent)[: len(self._silent) // 2 + 1]:
            self._leave(connection)

    def close(self) -> None:
        """Lets everybody go."""
        self._selector.close()
        for waiting in (self._asking, self._sent_much, self._halves):
            while waiting.size:
                waiting.take().close()
        for connection in self._silent:
            connection.close()

    def _has_begun(self, connection: socket.socket, *, encrypted: bool) -> bool:
        """Tells whether a newcomer has sent something, or gone, and says where it waits from now on."""
        try:
            begun = connection.recv(MUCH, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            begun = b""
        if not begun:
            connection.close()
        elif not (encrypted or b"\r\n\r\n" in begun or b"\n\n" in begun):
            _add_last(self._halves, _key_shown(begun), connection)
        elif len(begun) == MUCH:
            _add_last(self._sent_much, _key_shown(begun), connection)
        else:
            self._asking.add(_key_shown(begun), connection)
        return True

    def _leave(self, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        del self._silent[connection]
        connection.close()


def _key_shown(begun: bytes) -> str:
    """Returns the key that stands in what was sent, whether or not it is good, or nothing."""
    shown = _KEY.search(begun)
    return shown[1].strip().decode("latin-1") if shown else ""


def _add_last(waiting: RoundRobin[socket.socket], key: str, connection: socket.socket) -> None:
    """Has a connection wait among those who come last, or lets it go where too many of its key do."""
    if waiting.has_room(key, MOST_LAST):
        waiting.add(key, connection)
    else:
        connection.close()


def _taken(waiting: RoundRobin[socket.socket], most: int) -> list[socket.socket]:
    """Returns up to so many of those whose turn it is; where more wait, those are let go who have gone."""
    is_crowded = waiting.size > most
    taken: list[socket.socket] = []
    while waiting.size and len(taken) < most:
        connection = waiting.take()
        if is_crowded and _has_gone(connection):
            connection.close()
        else:
            taken.append(connection)
    return taken


def _has_gone(connection: socket.socket) -> bool:
    """Tells whether the caller has closed the connection, where the system tells that; Linux does."""
    return _TCP_INFO is not None and connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, 1)[0] != _ESTABLISHED
