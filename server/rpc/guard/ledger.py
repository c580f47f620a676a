"""What the calls of each connection account for: so that whatever else a connection sends shows.

A peer is named as grpcio names it. One that has had a call with a good key is a key holder, any other a stranger.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set

from server.rpc.contexts import Context

# What a call may take beside its metadata and message: what of its headers is not metadata, and a few frames; in bytes.
# And what part of a message its frames may take, or the frames that make room for an answer of an answer.
FRAMES_BYTES, FRAMES_PART = 512, 256
# What a call takes that needs no key, with its message. And what the message of a call may take that ends before it is
# asked for: most have as little, and much more would let a key holder send what it likes.
KEYLESS_BYTES, UNASKED_MESSAGE_BYTES = 1 << 10, 1 << 10


class Ledger:
    """The calls with good keys, and how many bytes peers may have sent for calls. Read from a thread of its own."""

    def __init__(self) -> None:
        # By call, the peer: once a call has ended, grpcio must not be asked for it.
        self._open: dict[Context, str] = {}
        # Of these, those whose message is not there yet.
        self._arriving: dict[Context, str] = {}
        # By peer, how many bytes it may have sent.
        self._bytes: defaultdict[str, int] = defaultdict(int)
        # By key holder, the organization whose key it showed first.
        self._organizations: dict[str, str] = {}

    def open(self, call: Context, metadata_bytes: int, organization_id: str) -> None:
        """Counts a call whose key is good."""
        peer = self._open[call] = self._arriving[call] = call.peer()
        if peer not in self._organizations:
            self._organizations[peer] = organization_id
        self._bytes[peer] += FRAMES_BYTES + metadata_bytes

    def arrived(self, call: Context, size: int) -> None:
        """Counts the message of a call, now that it is there."""
        self._bytes[self._arriving.pop(call)] += size + size // FRAMES_PART

    def answered(self, call: Context, size: int) -> None:
        """Counts what it takes to take the answer of a call."""
        peer = self._open.get(call)
        if peer is not None:
            self._bytes[peer] += size // FRAMES_PART

    def close(self, call: Context) -> None:
        """Forgets a call whose caller has its answer, or has gone."""
        self._open.pop(call, None)
        peer = self._arriving.pop(call, None)
        if peer is not None:
            self._bytes[peer] += UNASKED_MESSAGE_BYTES

    def refused(self, peer: str, metadata_bytes: int) -> None:
        """Counts a call without a good key of a peer that holds one: a connection may carry many callers' calls."""
        self._bytes[peer] += FRAMES_BYTES + metadata_bytes

    def asked(self, peer: str) -> None:
        """Counts a call that needs no key, or another message of one."""
        self._bytes[peer] += KEYLESS_BYTES

    def forget(self, gone: Iterable[str]) -> None:
        """Forgets peers whose connections have ended."""
        for peer in gone:
            self._bytes.pop(peer, None)
            self._organizations.pop(peer, None)

    def is_begun(self, call: Context) -> bool:
        """Tells whether the message of a call is there."""
        return call in self._open and call not in self._arriving

    def organization(self, peer: str) -> str | None:
        """Returns whose key a peer holds, or None of a stranger."""
        return self._organizations.get(peer)

    def organizations(self) -> dict[str, str]:
        """Returns the key holders, and of which organizations they are."""
        return self._organizations.copy()

    def accounted(self) -> dict[str, int]:
        """Returns how many bytes peers may have sent for calls."""
        return dict(self._bytes)

    def arriving(self) -> dict[str, int]:
        """Returns how many messages of each peer are on their way."""
        messages: dict[str, int] = {}
        for peer in self._arriving.copy().values():
            messages[peer] = messages.get(peer, 0) + 1
        return messages

    def peers(self) -> set[str]:
        """Returns all peers that it knows anything of."""
        return {*self.organizations(), *self.accounted()}

    def owed(self) -> Set[str]:
        """Returns the peers that have not taken all their answers yet."""
        return set(self.unread().values())

    def unread(self) -> dict[Context, str]:
        """Returns the calls whose answers are not read yet, with their peers."""
        return {call: peer for call, peer in self._open.copy().items() if call.done()}
