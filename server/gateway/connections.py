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
    """What the connections of a server share. `unread` are those whose callers do not read, the longest first."""

    def __init__(self) -> None:
        super().__init__()
        self.unread: dict[Protocol, None] = {}

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

    def bound_unread(self) -> None:
        """Cuts off who has kept answers unread for longest, while all that is unread is too much."""
        sizes = {connection: connection.transport.get_write_buffer_size() for connection in self.unread}
        excess = sum(sizes.values()) - MAX_UNREAD_BYTES
        for connection, size in sizes.items():
            if excess <= 0:
                break
            connection.transport.abort()
            excess -= size
