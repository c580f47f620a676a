"""Bytes that came of connections and that no call with a good key accounts for: what floods are made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

from server.rpc.guard.connections import Connection
from server.rpc.guard.ledger import Ledger
from server.rpc.guard.tarpit import Tarpit
from server.rpc.request_message import READ_BYTES

# So much in a second may be a reason by itself, and is the most that any share may be; in bytes.
MUCH = 1 << 20


class Limit(NamedTuple):
    """How many bytes may come unaccounted in a second of a key holder's connection, and of a stranger's."""

    holders: int
    strangers: int


@dataclass(frozen=True, slots=True)
class Lately:
    """By peer, how many bytes came unaccounted in the last one to two seconds, and how many may be of messages that are
    on their way; and of which organization those are who have had a call with a good key."""

    excess: Mapping[str, int]
    messages: Mapping[str, int]
    organizations: Mapping[str, str]

    @property
    def holders(self) -> Set[str]:
        """Who has had a call with a good key."""
        return self.organizations.keys()

    def over(self, limit: Limit, *, beside_messages: bool) -> set[str]:
        """Returns of whom more came, or more than messages on their way may be."""
        messages = self.messages if beside_messages else {}
        return {
            peer
            for peer, size in self.excess.items()
            if size > (limit.holders if peer in self.holders else limit.strangers) + messages.get(peer, 0)
        }

    def over_share(self, together: int, least: Limit) -> set[str]:
        """Returns who has more than its equal share of so many bytes, and more than the least that each may have."""
        much = self.over(least, beside_messages=False)
        groups = Counter(self.organizations.get(peer) for peer in much)
        return {
            peer
            for peer in much
            if self.excess[peer] > min(MUCH, together / len(groups) / groups[self.organizations.get(peer)])
        }

    def most(self, among: Collection[str]) -> set[str]:
        """Returns of whom of these most came, if that is much."""
        excess = {peer: self.excess[peer] - self.messages.get(peer, 0) for peer in among}
        most = max(excess, key=lambda peer: excess[peer], default="")
        return {most} if excess.get(most, 0) > MUCH else set()


class Unaccounted:
    """Remembers what had come a while ago: so what came in one to two seconds counts."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._found: Sequence[Connection] = ()
        # By connection: what has come unaccounted, what had when the second began, and a second earlier.
        self._now: dict[int, int] = {}
        self._before: dict[int, int] = {}
        self._earlier: dict[int, int] = {}
        # Who was known when the second began.
        self._known: set[str] = set()

    def lately(self, found: Sequence[Connection], tarpit: Tarpit) -> Lately:
        """Returns what came lately of the connections that are there."""
        organizations, accounted = self._ledger.organizations(), self._ledger.accounted()
        self._found = found
        self._now = {each.cookie: tarpit.received(each) - accounted.get(each.peer, 0) for each in found}
        excess = {each.peer: self._now[each.cookie] - self._earlier.get(each.cookie, 0) for each in found}
        messages = {peer: READ_BYTES * count for peer, count in self._ledger.arriving().items()}
        return Lately(excess, messages, organizations)

    def begin_second(self, unforgiven: Collection[str]) -> None:
        """Forgets what came earlier, but not of some; and peers who have gone, altogether."""
        kept = {each.cookie: self._earlier.get(each.cookie, 0) for each in self._found if each.peer in unforgiven}
        self._earlier = {**self._before, **kept}
        self._before = {**self._now, **kept}
        # Whoever is known since may have come after it was looked who is there.
        self._ledger.forget(self._known - {each.peer for each in self._found})
        self._known = self._ledger.peers()
