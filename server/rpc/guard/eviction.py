"""Room for new connections: while there are too many, others make way.

First those that have shown no good key for a while, the oldest first; then those of whoever has the most. grpcio itself
refuses whoever comes when it is full, and to open connections costs a stranger nothing.
"""

from __future__ import annotations

import logging
import math
import os
import resource
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from server.rpc.guard.callers import Callers
from server.rpc.guard.connections import Connections, watch_forever

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 2_048
# How often it is looked for them, in seconds: in that time some thousands can come.
LOOK_EVERY = 0.1
# How long whoever has come is given to show a good key, in seconds: on a busy machine calls wait for seconds.
TIME_TO_CALL = 5.0

# How long it is believed, in seconds, how many of the open files are none of these connections: to look at each file
# takes a while from everybody, and many may be connections over HTTP.
BELIEVED_FOR = 1.0

_OPEN_FILES = "/proc/self/fd"


async def make_room_forever(port: int, callers: Callers) -> None:
    """Closes connections to a port of this process while there are too many. On systems other than Linux it waits."""
    await watch_forever(_Crowd(port, callers).look_until)


class _Crowd:
    """The connections, and whose they are."""

    def __init__(self, port: int, callers: Callers) -> None:
        self._connections = Connections(port)
        self._callers = callers
        # By peer, in the order in which they came, since when they are there, while there are many.
        self._since: dict[str, float] = {}

    def look_until(self, stopped: threading.Event) -> None:
        """Looks again and again."""
        others, believed_until = 0, -math.inf
        while not stopped.wait(LOOK_EVERY):
            # Each is an open file. Where the process may have few of those, others need some of them, too.
            most = min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
            files, now = _open_files(), time.monotonic()
            if now > believed_until:
                others = 0
            # Well before there are too many, so that it is known then since when each is there.
            if files is None or files - others > most // 2:
                found = self._look(most)
                others, believed_until = (files or found) - found, now + BELIEVED_FOR

    def _look(self, most: int) -> int:
        """Returns how many there are, or were until those that are too many were closed."""
        now, found = time.monotonic(), {each.peer: each for each in self._connections.look()}
        self._since = {peer: self._since.get(peer, now) for peer in (*self._since, *found) if peer in found}
        excess = len(found) - most
        if excess > 0:
            organizations = self._callers.organizations()
            late = {peer for peer, since in self._since.items() if since < now - TIME_TO_CALL} - organizations.keys()
            idle = [peer for peer in self._since if peer in late]
            others = [peer for peer in self._since if peer not in late]
            leaving = [*idle, *_largest_groups_first(others, organizations)][:excess]
            cut = sum(found[peer].abort() for peer in leaving)
            logger.warning("there are too many connections, and some make way for new ones: %d", cut)
        return len(found)


def _open_files() -> int | None:
    """Returns how many there are, or None where there are as many as there may be."""
    try:
        return len(os.listdir(_OPEN_FILES))  # noqa: PTH208  # only their number is wanted
    except OSError:
        # To count them takes one, and there is none left.
        return None


def _largest_groups_first(peers: Sequence[str], organizations: Mapping[str, str]) -> Sequence[str]:
    """Returns the peers in the order that takes one after another from whichever organization has the most, its oldest
    first; those of none, who have just come, are a group like one. `peers` are in the order in which they came."""
    newer: Counter[str | None] = Counter()
    ranks = {}
    for peer in reversed(peers):
        group = organizations.get(peer)
        newer[group] += 1
        ranks[peer] = newer[group]
    return sorted(peers, key=lambda peer: -ranks[peer])
