"""Room for new connections: while there are too many, others make way.

First those that have shown no good key for a while, the oldest first; then those of whoever has the most. grpcio itself
refuses whoever comes when it is full, and to open connections costs a stranger nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections import Counter
from collections.abc import Mapping, Sequence

from server.operations.memory import can_tell
from server.rpc.connections import Connection, connections

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 2_048
# How often it is looked for them, in seconds: in that time some thousands can come.
LOOK_EVERY = 0.2

_OPEN_FILES = "/proc/self/fd"


class Crowd:
    """The connections to a port of this process, and whose they are."""

    def __init__(self) -> None:
        # By peer, the organization whose good key it has shown.
        self._organizations: dict[str, str] = {}
        # By the peer's port, in the order in which they came, while there are many.
        self._found: dict[int, Connection] = {}

    def showed_key(self, peer: str, organization_id: str) -> None:
        """Remembers whose a connection is."""
        self._organizations[peer] = organization_id

    async def make_room_forever(self, port: int) -> None:
        """Closes connections while there are too many. On systems other than Linux it waits."""
        if not can_tell():
            await asyncio.Event().wait()
        stopped = threading.Event()
        try:
            # In a thread, for the event loop may be busy when it matters.
            await asyncio.to_thread(self._look_until, stopped, port)
        finally:
            stopped.set()

    def _look_until(self, stopped: threading.Event, port: int) -> None:
        while not stopped.wait(LOOK_EVERY):
            open_files = len(os.listdir(_OPEN_FILES))  # noqa: PTH208  # only their number is wanted
            if open_files > MAX_CONNECTIONS or len(self._organizations) > 2 * MAX_CONNECTIONS:
                self._look(port)

    def _look(self, port: int) -> None:
        before, now = self._found, {each.peer_port: each for each in connections(port)}
        self._found = {each: now[each] for each in (*before, *now) if each in now}
        for peer in self._organizations.copy():
            if _port(peer) not in now:
                self._organizations.pop(peer, None)
        excess = len(now) - MAX_CONNECTIONS
        if excess > 0:
            organizations = {_port(peer): owner for peer, owner in self._organizations.copy().items()}
            idle = [each for each in self._found if each in before and each not in organizations]
            others = [each for each in self._found if each not in before or each in organizations]
            leaving = [*idle, *_largest_groups_first(others, organizations)][:excess]
            cut = sum(self._found[each].close() for each in leaving)
            logger.warning("there are too many connections, and some make way for new ones: %d", cut)


def _largest_groups_first(ports: Sequence[int], organizations: Mapping[int, str]) -> Sequence[int]:
    """Returns the ports in the order that takes one after another from whichever organization has the most, its oldest
    first; those of none, who have just come, are a group like one. `ports` are in the order in which they came."""
    newer: Counter[str | None] = Counter()
    ranks = {}
    for port in reversed(ports):
        group = organizations.get(port)
        newer[group] += 1
        ranks[port] = newer[group]
    return sorted(ports, key=lambda port: -ranks[port])


def _port(peer: str) -> int:
    port = peer.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0
