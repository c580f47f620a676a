"""What callers send beside their calls, which is what they take that is not counted elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

from server.rpc.guard.callers import Callers
from server.rpc.request_message import MAX_CALLS, READ_BYTES, UNASKED_BYTES

# What may be sent in a second beside calls that are here, while there is enough of everything; and what is so much that
# it may be a reason by itself. In bytes.
FREE_BYTES, MUCH = 1 << 20, 1 << 20


class Least(NamedTuple):
    """What key holders, and strangers, may send at the least beside calls that are here, in bytes."""

    holders: int
    strangers: int

    def of(self, peer: str, holders: Set[str]) -> int:
        """Returns what a peer may send."""
        return self.holders if peer in holders else self.strangers


@dataclass(frozen=True, slots=True)
class Lately:
    """By peer, how many bytes each has sent beside calls that are here, and how many may belong to messages that are on
    their way; and who has had a call with a good key."""

    excess: Mapping[str, int]
    messages: Mapping[str, int]
    holders: Set[str]

    def more_than(self, least: Least) -> set[str]:
        """Returns whoever has sent more."""
        return {peer for peer, size in self.excess.items() if size > least.of(peer, self.holders)}

    def more_than_messages(self, least: Least) -> set[str]:
        """Returns whoever has sent more, but for messages."""
        return {
            peer
            for peer, size in self.excess.items()
            if size > least.of(peer, self.holders) + self.messages.get(peer, 0)
        }

    def more_than_free(self) -> set[str]:
        """Returns whoever has sent more than is free, messages, and calls of key holders that are not taken in yet."""
        calls = dict.fromkeys(self.holders, MAX_CALLS * UNASKED_BYTES)
        return {
            peer
            for peer, size in self.excess.items()
            if size > FREE_BYTES + self.messages.get(peer, 0) + calls.get(peer, 0)
        }

    def most(self, among: Collection[str]) -> set[str]:
        """Returns whoever of these has sent most, if that is much."""
        excess = {peer: self.excess[peer] - self.messages.get(peer, 0) for peer in among}
        most = max(excess, key=lambda peer: excess[peer], default="")
        return {most} if excess.get(most, 0) > MUCH else set()


class Unaccounted:
    """Remembers what each had sent a while ago: so what it sent in one to two seconds counts."""

    def __init__(self, callers: Callers) -> None:
        self._callers = callers
        # By peer: what it has sent beside calls, what it had when the second began, and a second earlier.
        self._now: dict[str, int] = {}
        self._before: dict[str, int] = {}
        self._earlier: dict[str, int] = {}
        # Who was known when the second began.
        self._known: set[str] = set()

    def lately(self, received: Mapping[str, int]) -> Lately:
        """Returns what was sent lately; `received` is how many bytes have come of each connection."""
        holders, taken = self._callers.organizations().keys(), self._callers.taken()
        self._now = {peer: size - taken.get(peer, 0) for peer, size in received.items()}
        excess = {peer: self._since_earlier(peer, size) for peer, size in self._now.items()}
        messages = {peer: READ_BYTES * count for peer, count in self._callers.arriving().items()}
        return Lately(excess, messages, holders)

    def begin_second(self, unforgiven: Collection[str]) -> None:
        """Forgets what was sent earlier, but not by some; and peers who have gone, altogether."""
        self._earlier = {**self._before, **{peer: self._earlier.get(peer, 0) for peer in unforgiven}}
        self._before = {**self._now, **{peer: self._earlier[peer] for peer in unforgiven}}
        # Whoever is known since may have come after it was looked who is there.
        self._callers.forget(self._known - self._now.keys())
        self._known = {*self._callers.organizations(), *self._callers.taken()}

    def _since_earlier(self, peer: str, size: int) -> int:
        earlier = self._earlier.get(peer, 0)
        # Who has sent less than before is somebody else, who has the port now.
        return size - earlier if size >= earlier else size
