"""Who calls, by the connection they call from, and what their calls take: so that whoever takes anything else shows.

A peer is named as grpcio names it. One that has had a call with a good key is a key holder, any other a stranger.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import suppress
from queue import Empty, SimpleQueue

from server.errors import ServiceError, Unauthenticated
from server.rpc.calls import Context

# What a call may take beside its message: all the metadata that it may have, and frames; in bytes.
FRAMES_BYTES = 17 << 10
# What a call takes that needs no key, with its message.
KEYLESS_BYTES = 1 << 10
# How many calls may be wasted in a second: by strangers together, and by each key holder.
MAX_WASTED = 100
# For how long it is known who was cut off, at the least, in seconds.
REMEMBERED = 2.0
# Who gives a call up so shortly before its deadline does so because of that, in seconds.
ABOUT_NOW = 0.05


class Callers:
    """Knows the calls with good keys, and the peers that are to be cut off. Read from a thread of its own."""

    def __init__(self) -> None:
        # By call, the peer: once a call has ended, grpcio must not be asked for it.
        self._open: dict[Context, str] = {}
        # Of these, those whose message is not there yet.
        self._arriving: dict[Context, str] = {}
        # By peer, how many bytes it may have sent for calls.
        self._taken: dict[str, int] = {}
        # By key holder, the organization whose key it showed first.
        self._organizations: dict[str, str] = {}
        # By key holder, and by none for all strangers, the calls wasted since the second began.
        self._wasted: dict[str | None, int] = {}
        self._second_ends = 0.0
        self._unwelcome: SimpleQueue[str] = SimpleQueue()
        # Who was cut off lately, by when: grpcio goes on to hand their calls over, which is all that it has of them.
        self._cut_off: dict[str, float] = {}
        # Of these, whose calls were dropped.
        self._dropped: set[str] = set()

    def open(self, call: Context, organization_id: str) -> None:
        """Remembers a call whose key is good."""
        peer = self._open[call] = self._arriving[call] = call.peer()
        if peer not in self._organizations:
            self._organizations[peer] = organization_id

    def arrived(self, call: Context, size: int) -> None:
        """Counts what a call took, now that its message is there."""
        self._take(self._arriving.pop(call), FRAMES_BYTES + size)

    def asked(self, peer: str) -> None:
        """Counts a call that needs no key, or another message of one."""
        self._take(peer, KEYLESS_BYTES)

    def _take(self, peer: str, size: int) -> None:
        self._taken[peer] = self._taken.get(peer, 0) + size

    def close(self, call: Context) -> None:
        """Forgets a call whose caller has its answer, or has gone."""
        self._open.pop(call, None)
        self._arriving.pop(call, None)

    def unread(self) -> dict[Context, str]:
        """Returns the calls whose answers are not read yet, with their peers."""
        return {call: peer for call, peer in self._open.items() if call.done()}

    def refused(self, call: Context, error: ServiceError) -> None:
        """Counts a call without a good key. One connection may carry many callers', so a key holder's do not count."""
        if isinstance(error, Unauthenticated) and (peer := call.peer()) not in self._organizations:
            self._waste(None, peer)

    def given_up(self, call: Context) -> None:
        """Counts a call that its caller has given up, if it was not begun yet, and its deadline is not the reason."""
        time_left = call.time_remaining()
        is_begun = call in self._open and call not in self._arriving
        if not is_begun and (time_left is None or time_left > ABOUT_NOW):
            peer = call.peer()
            self._waste(peer if peer in self._organizations else None, peer)

    def _waste(self, who: str | None, peer: str) -> None:
        now = time.monotonic()
        if now >= self._second_ends:
            self._second_ends = now + 1.0
            self._wasted.clear()
        wasted = self._wasted[who] = self._wasted.get(who, 0) + 1
        if wasted > MAX_WASTED:
            self.refuse_all(peer)

    def refuse_all(self, peer: str) -> None:
        """Has a peer cut off, with all its calls."""
        if peer not in self._cut_off:
            self.cut_off([peer])
            self._unwelcome.put(peer)

    def cut_off(self, peers: Iterable[str]) -> None:
        """Remembers peers that are being cut off."""
        self._cut_off |= dict.fromkeys(peers, time.monotonic())

    def admit(self, call: Context) -> None:
        """Raises CancelledError where nobody waits for the answer, because the call's peer has been cut off."""
        if self._cut_off and (peer := call.peer()) in self._cut_off:
            self._dropped.add(peer)
            raise asyncio.CancelledError

    def came_back(self, peers: set[str]) -> set[str]:
        """Is told who is connected, and returns who was taken for one that was cut off: to be cut off, too, and heard
        the next time. A port that was somebody's is soon another's, whose calls are dropped until that is known."""
        again = peers & self._cut_off.keys()
        for peer in again:
            self._cut_off.pop(peer, None)
        mistaken = again & self._dropped
        self._dropped -= again
        return mistaken

    def unwelcome(self, timeout: float) -> set[str]:
        """Returns the peers to be cut off, as soon as there is one; after so long, in seconds, there may be none."""
        peers: set[str] = set()
        with suppress(Empty):
            peers.add(self._unwelcome.get(timeout=timeout))
            while True:
                peers.add(self._unwelcome.get_nowait())
        return peers

    def taken(self) -> dict[str, int]:
        """Returns how many bytes peers may have sent for calls."""
        return self._taken.copy()

    def organizations(self) -> dict[str, str]:
        """Returns the key holders, and of which organizations they are."""
        return self._organizations.copy()

    def arriving(self) -> dict[str, int]:
        """Returns how many messages of each peer are on their way."""
        messages: dict[str, int] = {}
        for peer in self._arriving.copy().values():
            messages[peer] = messages.get(peer, 0) + 1
        return messages

    def forget(self, gone: Iterable[str]) -> None:
        """Forgets peers whose connections have ended, and who was cut off a while ago."""
        for peer in gone:
            self._taken.pop(peer, None)
            self._organizations.pop(peer, None)
        a_while_ago = time.monotonic() - REMEMBERED
        for peer, since in self._cut_off.copy().items():
            if since < a_while_ago:
                self._cut_off.pop(peer, None)
                self._dropped.discard(peer)
