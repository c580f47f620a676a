"""Which calls may begin: none of whoever is shut out, and while newcomers fill the memory, none of strangers yet."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from contextlib import suppress
from queue import Empty, SimpleQueue

from server.rpc.contexts import Context
from server.rpc.guard.ledger import Ledger

# So many calls may wait until it is known whether they may begin.
MAX_WAITING = 4_000


class Gate:
    """Knows who is shut out, and who may have to be. Told by the thread that watches connections, asked by calls."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._event_loop = asyncio.get_running_loop()
        # Who is to be shut out, and who is, or will be in a moment.
        self._unwelcome: SimpleQueue[str] = SimpleQueue()
        self._shut_out: set[str] = set()
        # Who may be; how often it has been looked, who was there, and whether newcomers fill the memory.
        self._suspects: set[str] = set()
        self._looks, self._is_flooded = 0, False
        self._there: Set[str] = frozenset()
        # The calls that wait for the next look, and what tells them.
        self._waiting = 0
        self._is_looked = asyncio.Event()

    def refuse_all(self, peer: str) -> None:
        """Has a peer shut out, with all its calls."""
        if peer not in self._shut_out:
            self.shut_out(peer)
            self._unwelcome.put(peer)

    def unwelcome(self, timeout: float) -> set[str]:
        """Returns the peers to be shut out, as soon as there is one; after so long, in seconds, there may be none."""
        peers: set[str] = set()
        with suppress(Empty):
            peers.add(self._unwelcome.get(timeout=timeout))
            while True:
                peers.add(self._unwelcome.get_nowait())
        return peers

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
        if self._waiting:
            self._event_loop.call_soon_threadsafe(self._wake)

    @property
    def have_to_wait(self) -> bool:
        """Whether some calls have to wait until they may begin, or may not at all."""
        return self._is_flooded or bool(self._shut_out)

    async def may_begin(self, call: Context) -> bool:
        """Tells whether a call is to be begun, whose metadata nobody has seen: not if its peer is shut out.

        While newcomers fill the memory, a stranger's call waits until it was looked who is there and what they have
        sent. At other times it must begin at once: until then what comes of its message counts as a stranger's, and an
        honest first call would pass for a flood.
        """
        peer, looks = call.peer(), self._looks + 2
        while peer not in self._shut_out:
            if not self._is_flooded or self._ledger.organization(peer) is not None:
                return True
            if self._looks >= looks and peer not in self._suspects:
                return peer in self._there
            if self._waiting >= MAX_WAITING:
                return False
            await self._next_look()
        return False

    async def _next_look(self) -> None:
        self._waiting += 1
        try:
            await self._is_looked.wait()
        finally:
            self._waiting -= 1

    def _wake(self) -> None:
        # Only those who wait now: the others wait for another look.
        self._is_looked.set()
        self._is_looked.clear()
