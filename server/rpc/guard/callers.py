"""Who calls, by the connection they call from, and what their calls take: so that whoever takes anything else shows.

A peer is named as grpcio names it. One that has had a call with a good key is a key holder, any other a stranger.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Set
from contextlib import suppress
from queue import Empty, SimpleQueue

from server.errors import ServiceError, Unauthenticated
from server.rpc.contexts import Context

# What a call may take beside its metadata and message: what of its headers is not metadata, and a few frames; in bytes.
# And what part of a message its frames may take, or the frames that make room for an answer of an answer.
FRAMES_BYTES, FRAMES_PART = 512, 256
# What a call takes that needs no key, with its message.
KEYLESS_BYTES = 1 << 10
# How many calls may be wasted within this time, in seconds: by strangers together, and by the key holders of each
# organization. Short, so that a burst shows before all of it has been taken in.
MAX_WASTED, WASTED_WITHIN = 120, 0.1
# From so many on, strangers get their answer this much later, in seconds: a client that calls again once it has its
# answer, then wastes no more than may be.
FEW_WASTED, PAUSE = 10, 0.15
# Who gives a call up so shortly before its deadline does so because of that, and who has let it wait for so long had to
# hold it open, of which a connection has few; in seconds.
ABOUT_NOW, A_WHILE = 0.05, 0.1
# How often a call that may not begin yet asks again; in seconds.
WAIT = 0.01


class Callers:
    """Knows the calls with good keys, and the peers that are to be shut out. Read from a thread of its own."""

    def __init__(self) -> None:
        # By call, the peer: once a call has ended, grpcio must not be asked for it.
        self._open: dict[Context, str] = {}
        # Of these, those whose message is not there yet.
        self._arriving: dict[Context, str] = {}
        # By peer, how many bytes it may have sent for calls.
        self._taken: defaultdict[str, int] = defaultdict(int)
        # By key holder, the organization whose key it showed first.
        self._organizations: dict[str, str] = {}
        # By organization, and by none for all strangers, the calls wasted lately, and until when they are.
        self._wasted: dict[str | None, int] = {}
        self._lately_ends = 0.0
        # Who is to be shut out, and who is, or will be in a moment.
        self._unwelcome: SimpleQueue[str] = SimpleQueue()
        self._shut_out: set[str] = set()
        # Who may be; how often it has been looked, who was there, and whether newcomers fill the memory.
        self._suspects: set[str] = set()
        self._looks, self._is_flooded = 0, False
        self._there: Set[str] = frozenset()

    def open(self, call: Context, metadata_bytes: int, organization_id: str) -> None:
        """Remembers a call whose key is good."""
        peer = self._open[call] = self._arriving[call] = call.peer()
        if peer not in self._organizations:
            self._organizations[peer] = organization_id
        self._taken[peer] += FRAMES_BYTES + metadata_bytes

    def arrived(self, call: Context, size: int) -> None:
        """Counts the message of a call, now that it is there."""
        self._taken[self._arriving.pop(call)] += size + size // FRAMES_PART

    def answered(self, call: Context, size: int) -> None:
        """Counts what it takes to take the answer of a call."""
        peer = self._open.get(call)
        if peer is not None:
            self._taken[peer] += size // FRAMES_PART

    def asked(self, peer: str) -> None:
        """Counts a call that needs no key, or another message of one."""
        self._taken[peer] += KEYLESS_BYTES

    def close(self, call: Context) -> None:
        """Forgets a call whose caller has its answer, or has gone."""
        self._open.pop(call, None)
        self._arriving.pop(call, None)

    def unread(self) -> dict[Context, str]:
        """Returns the calls whose answers are not read yet, with their peers."""
        return {call: peer for call, peer in self._open.items() if call.done()}

    async def refused(self, call: Context, metadata_bytes: int, error: ServiceError) -> None:
        """Counts a call without a good key, and keeps its answer back for a moment where such calls are many.

        One connection may carry many callers', so a key holder's are calls like others.
        """
        if not isinstance(error, Unauthenticated):
            return
        peer = call.peer()
        if peer in self._organizations:
            self._taken[peer] += FRAMES_BYTES + metadata_bytes
        else:
            self._waste(peer)
            if self._wasted[None] > FEW_WASTED:
                await asyncio.sleep(PAUSE)

    def given_up(self, call: Context, age: float) -> None:
        """Counts a call that its caller has given up at once, before it was begun, if its deadline is not the reason.

        `age` is since when it is here, in seconds.
        """
        time_left = call.time_remaining()
        is_begun = call in self._open and call not in self._arriving
        if not is_begun and age < A_WHILE and (time_left is None or time_left > ABOUT_NOW):
            self._waste(call.peer())

    def _waste(self, peer: str) -> None:
        now = time.monotonic()
        if now >= self._lately_ends:
            self._lately_ends = now + WASTED_WITHIN
            self._wasted.clear()
        organization_id = self._organizations.get(peer)
        wasted = self._wasted[organization_id] = self._wasted.get(organization_id, 0) + 1
        if wasted > MAX_WASTED:
            self.refuse_all(peer)

    def refuse_all(self, peer: str) -> None:
        """Has a peer shut out, with all its calls."""
        if peer not in self._shut_out:
            self.shut_out(peer)
            self._unwelcome.put(peer)

    def shut_out(self, peer: str) -> None:
        """Takes no more calls of a peer."""
        self._shut_out.add(peer)

    def suspected(self, peer: str) -> None:
        """Has calls of a stranger wait, while newcomers fill the memory, until it is known whether it is shut out."""
        self._suspects.add(peer)

    def heard(self, peer: str) -> None:
        """Takes calls of a peer: it is no suspect, or its connection has ended, and whoever has its port is another."""
        self._suspects.discard(peer)
        self._shut_out.discard(peer)

    def looked(self, there: Set[str] = frozenset(), *, is_flooded: bool = False) -> None:
        """Counts that it was looked who is a suspect; where newcomers fill the memory, `there` is who is connected."""
        self._there = there
        self._is_flooded = is_flooded
        self._looks += 1

    @property
    def have_to_wait(self) -> bool:
        """Whether some calls have to wait until they may begin, or may not at all."""
        return self._is_flooded or bool(self._shut_out)

    async def may_begin(self, call: Context) -> bool:
        """Tells whether a call is to be begun, whose metadata nobody has seen: not if its peer is shut out.

        While newcomers fill the memory, a stranger's call waits until it was looked who is there and what they have
        sent. At other times it must not: its message may come with it, and is a stranger's until the call has begun.
        """
        peer, looks = call.peer(), self._looks + 2
        while peer not in self._shut_out:
            if not self._is_flooded or peer in self._organizations:
                return True
            if self._looks >= looks and peer not in self._suspects:
                return peer in self._there
            await asyncio.sleep(WAIT)
        return False

    def unwelcome(self, timeout: float) -> set[str]:
        """Returns the peers to be shut out, as soon as there is one; after so long, in seconds, there may be none."""
        peers: set[str] = set()
        with suppress(Empty):
            peers.add(self._unwelcome.get(timeout=timeout))
            while True:
                peers.add(self._unwelcome.get_nowait())
        return peers

    def taken(self) -> dict[str, int]:
        """Returns how many bytes peers may have sent for calls."""
        return dict(self._taken)

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
        """Forgets peers whose connections have ended."""
        for peer in gone:
            self._taken.pop(peer, None)
            self._organizations.pop(peer, None)
