"""What the HTTP connections of a server share: how many there may be, and how much may lie unread."""

from __future__ import annotations

from heapq import nsmallest
from typing import TYPE_CHECKING, Any, cast

from uvicorn.server import ServerState

if TYPE_CHECKING:
    from server.gateway.protocol import Protocol

MAX_CONNECTIONS = 1000
# So many idle connections are closed at once where one more would be too many: looking for them takes time.
EVICTED_AT_ONCE = 50
# What all callers together may leave unread.
MAX_UNREAD_BYTES = 64 << 20


class Connections(ServerState):
    """What the connections of a server share."""

    def __init__(self) -> None:
        super().__init__()
        # Of those whose callers do not read, the longest first: how much waited when they stopped; and all of that.
        self._unread: dict[Protocol, int] = {}
        self._unread_bytes = 0

    def check(self, now: float) -> None:
        """Closes the connections whose time is up. `now` is on the event loop's clock."""
        for connection in cast("list[Protocol]", list(self.connections)):
            connection.check(now)

    def make_room(self) -> None:
        """Closes connections that wait for nothing: first those that never showed a key, then the longest idle."""
        idle = [connection for connection in cast("set[Protocol]", self.connections) if connection.idle]
        for connection in nsmallest(EVICTED_AT_ONCE, idle, key=lambda each: (each.known, each.since)):
            self.connections.discard(cast("Any", connection))
            connection.transport.abort()

    def stops_reading(self, connection: Protocol, size: int) -> None:
        """Counts what waits for a caller, and cuts off who has read nothing for longest while all that is too much."""
        self._unread[connection] = size
        self._unread_bytes += size
        while self._unread_bytes > MAX_UNREAD_BYTES:
            longest = next(iter(self._unread))
            self.reads_on(longest)
            longest.transport.abort()

    def reads_on(self, connection: Protocol) -> None:
        """Counts that nothing waits for a caller, or that it has gone."""
        self._unread_bytes -= self._unread.pop(connection, 0)
