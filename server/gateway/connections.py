"""What the HTTP connections of a server share: how many there may be, and how much may lie unread."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from enum import IntEnum
from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from uvicorn.server import ServerState

from server.errors import Overloaded

if TYPE_CHECKING:
    from server.gateway.protocol import Protocol

MAX_CONNECTIONS = 1000
# So many connections are closed at once where one more would be too many: looking for them takes time.
EVICTED_AT_ONCE = 50
# So many of those that never had an answer may stay where others would have to make way for them.
MOST_NEWCOMERS = 250
# So many may be of callers with good keys: there is always room for whoever has yet to show its key, and for that no
# stranger ends one of these.
MOST_KNOWN = MAX_CONNECTIONS - MOST_NEWCOMERS
# Of these, so many that wait for nothing are closed at once.
KNOWN_EVICTED_AT_ONCE = 10
# What all callers together may leave unread.
MAX_UNREAD_BYTES = 64 << 20
# So much is read at once of messages that have been answered already, and how often, in seconds: the rest of them is
# read only so that the answer is not lost.
VAIN_BYTES, VAIN_EVERY = 640 << 10, 0.01
# So many callers fill that.
VAIN_AT_ONCE = 10


class Standing(IntEnum):
    """What a connection is to others who want its place; the lowest makes way first."""

    # Its answer, if it has not read it yet, is that it sent what nobody can answer.
    REFUSED = 0
    # It never had an answer, and has not even asked.
    SILENT = 1
    # It has asked, without a key that is known to be good, and never had an answer.
    ASKING = 2
    # It had answers, and never sent a good key.
    STRANGER = 3
    # It sent a good key, and waits for nothing.
    KNOWN = 4
    # It sent a good key, and still sends its request.
    SENDING = 5
    # It sent a good key and its request.
    SERVED = 6


_NEWCOMERS = {Standing.SILENT, Standing.ASKING}


class Connections(ServerState):
    """What the connections of a server share."""

    def __init__(self) -> None:
        super().__init__()
        # Of those with good keys, by organization, whoever had its last answer, or its key, first comes first.
        self._known: dict[str, OrderedDict[Protocol, None]] = {}
        # Of those whose callers do not read, the longest first: how much waited when they stopped; and all of that.
        self._unread: dict[Protocol, int] = {}
        self._unread_bytes = 0
        # How much was read in vain lately, and who waits for more of it to be read.
        self._vain_bytes = 0
        self._in_vain: dict[Protocol, None] = {}

    def all(self) -> Sequence[Protocol]:
        """Returns the connections that there are now."""
        return cast("list[Protocol]", list(self.connections))

    def check(self, now: float) -> None:
        """Closes the connections whose time is up. `now` is on the event loop's clock."""
        for connection in self.all():
            connection.check(now)

    def make_room(self) -> None:
        """Closes strangers' connections so that others can come: the lowest of standing first, and of those the longest
        idle.

        Those that never had an answer make way before all that had one, unless they are few: or else whoever holds
        many that had one would keep everybody out.
        """
        standings = {each: (each.standing, each.since) for each in self.all()}
        newcomers = sorted((each for each in standings if standings[each][0] in _NEWCOMERS), key=standings.__getitem__)
        spared = set(newcomers[-MOST_NEWCOMERS:])
        others = [each for each in standings if each not in spared and standings[each][0] < Standing.KNOWN]
        lowest = nsmallest(EVICTED_AT_ONCE, others, key=standings.__getitem__) or newcomers[:EVICTED_AT_ONCE]
        for connection in lowest:
            self.connections.discard(cast("Any", connection))
            connection.transport.abort()

    def becomes_known(self, connection: Protocol, organization_id: str) -> None:
        """Counts a connection for the organization whose good key it sent, and ends some of the organization that has
        the most, where one more is known than may be.

        Of its connections some that wait for nothing go, the longest idle, and else the last that called. Raises
        Overloaded where that is the one that has become known.
        """
        connection.organization = organization_id
        self._known.setdefault(organization_id, OrderedDict())[connection] = None
        if len(self.connections) <= MOST_KNOWN or sum(map(len, self._known.values())) <= MOST_KNOWN:
            return
        most = max(self._known.values(), key=len)
        idle = (each for each in most if each.standing is Standing.KNOWN)
        for leaving in list(islice(idle, KNOWN_EVICTED_AT_ONCE)) or [min(most, key=_stays)]:
            self._forget_key(leaving)
            if leaving is connection:
                raise Overloaded("too many connections of this organization; retry", reason="TOO_MANY_CONNECTIONS")
            leaving.cut_off()

    def answered(self, connection: Protocol) -> None:
        """Counts that a caller has its answer: those that had theirs before make way before it."""
        if connection.organization is not None:
            self._known[connection.organization].move_to_end(connection)

    def _forget_key(self, connection: Protocol) -> None:
        if connection.organization is not None:
            known = self._known[connection.organization]
            del known[connection]
            if not known:
                del self._known[connection.organization]
            connection.organization = None

    def stops_reading(self, connection: Protocol, size: int) -> None:
        """Counts what waits for a caller, and cuts off who has read nothing for longest while all that is too much."""
        self._unread[connection] = size
        self._unread_bytes += size
        while self._unread_bytes > MAX_UNREAD_BYTES:
            longest = next(iter(self._unread))
            self.reads_on(longest)
            longest.transport.abort()

    def reads_on(self, connection: Protocol) -> None:
        """Counts that nothing waits for a caller."""
        self._unread_bytes -= self._unread.pop(connection, 0)

    def read_in_vain(self, connection: Protocol, size: int) -> None:
        """Counts what was read of a message that has been answered already, and lets its caller wait where there is
        much of that."""
        self._vain_bytes += size
        if self._vain_bytes > VAIN_BYTES:
            connection.flow.pause_reading()
            if not self._in_vain:
                connection.loop.call_later(VAIN_EVERY, self._read_on_in_vain)
            self._in_vain[connection] = None

    def _read_on_in_vain(self) -> None:
        self._vain_bytes = 0
        for connection in list(self._in_vain)[:VAIN_AT_ONCE]:
            del self._in_vain[connection]
            if not connection.transport.is_closing():
                connection.flow.resume_reading()
        if self._in_vain:
            asyncio.get_running_loop().call_later(VAIN_EVERY, self._read_on_in_vain)

    def forget(self, connection: Protocol) -> None:
        """Counts that a caller has gone."""
        self._forget_key(connection)
        self.reads_on(connection)
        self._in_vain.pop(connection, None)


def _stays(connection: Protocol) -> tuple[Standing, float]:
    """Returns what is the greater, the more a connection is to stay, beside others of its organization."""
    standing = connection.standing
    # Whoever has waited for long has its answer soon.
    return standing, -connection.since if standing is Standing.SERVED else connection.since
