"""Room for new connections: while there are too many, others make way.

First those that have shown no good key for a while, the oldest first; then those of whoever has the most. grpcio itself
refuses whoever comes when it is full, and to open connections costs a stranger nothing.
"""

from __future__ import annotations

import logging
import resource
from collections import Counter
from collections.abc import Mapping, Sequence

from server.rpc.guard.connections import Connection
from server.rpc.guard.ledger import Ledger

logger = logging.getLogger(__name__)

MAX_CONNECTIONS = 2_048
# How long whoever has come is given to show a good key, in seconds: on a busy machine calls wait for seconds.
TIME_TO_CALL = 5.0


class Eviction:
    """Knows since when each connection is there, and closes those that are too many."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        # By connection, in the order in which they came.
        self._since: dict[int, float] = {}

    @property
    def most(self) -> int:
        """How many there may be. Each is an open file, and others need some of those that the process may have."""
        return min(MAX_CONNECTIONS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)

    def make_room(self, found: Sequence[Connection], now: float) -> int:
        """Closes those that are too many of those that are there; returns how many of them key holders had."""
        there = {each.cookie: each for each in found}
        self._since = {cookie: self._since.get(cookie, now) for cookie in (*self._since, *there) if cookie in there}
        excess = len(found) - self.most
        if excess <= 0:
            return 0
        organizations = self._ledger.organizations()
        came = {there[cookie].peer: since for cookie, since in self._since.items()}
        late = {peer for peer, since in came.items() if since < now - TIME_TO_CALL} - organizations.keys()
        idle = [peer for peer in came if peer in late]
        others = [peer for peer in came if peer not in late]
        leaving = {*[*idle, *_largest_groups_first(others, organizations)][:excess]}
        cut = sum(each.abort() for each in found if each.peer in leaving)
        logger.warning("there are too many connections, and some make way for new ones: %d", cut)
        return len(leaving & organizations.keys())


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
