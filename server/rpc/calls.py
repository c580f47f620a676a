"""The calls that are under way, and how they are let finish."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

Context = grpc.aio.ServicerContext[Any, Any]

# No call arrived for this long: those who wait for an answer have all called. In seconds, as is how long it may take.
QUIET, MAX_QUIET_WAIT = 0.03, 0.5


class Calls:
    """Counts the calls under way, knows those with a good key, and can hold back what they answer."""

    def __init__(self) -> None:
        self.under_way = 0
        # By call, the peer: once a call has ended, grpcio must not be asked for it.
        self._open: dict[Context, str] = {}
        # While somebody watches, the peers of those that have ended since.
        self._ended: list[str] | None = None
        self._unwelcome: list[str] = []
        self._arrived = 0
        self._idle = asyncio.Event()
        # While answers are held back, what lets them go.
        self.hold: asyncio.Event | None = None

    def begin(self) -> None:
        """Counts a call that arrived."""
        self.under_way += 1
        self._arrived += 1

    def end(self) -> None:
        """Counts a call off that has its answer."""
        self.under_way -= 1
        if not self.under_way and self.hold is not None:
            self._idle.set()

    def open(self, call: Context) -> None:
        """Remembers a call whose key is good."""
        self._open[call] = call.peer()

    def close(self, call: Context) -> None:
        """Forgets a call whose caller has its answer, or has gone."""
        peer = self._open.pop(call, None)
        if peer is not None and self._ended is not None:
            self._ended.append(peer)

    def refuse_all(self, peer: str) -> None:
        """Has a peer cut off."""
        self._unwelcome.append(peer)

    def unwelcome_ports(self) -> set[int]:
        """Returns the ports of those to be cut off since this was asked last; from any thread."""
        unwelcome, self._unwelcome = self._unwelcome, []
        return {_port(peer) for peer in unwelcome}

    def known_ports(self, *, watch: bool) -> set[int] | None:
        """Returns the ports from which calls with good keys have come that were open since this was asked last.

        None where nobody was to `watch` then, which costs every call a little. From any thread.
        """
        ended, self._ended = self._ended, [] if watch else None
        return None if ended is None else {_port(peer) for peer in {*self._open.copy().values(), *ended}}

    def unread(self) -> dict[Context, int]:
        """Returns the calls whose answers are not read yet, with the ports from which they have come."""
        return {call: _port(peer) for call, peer in self._open.items() if call.done()}

    async def quiet(self) -> None:
        """Holds answers back, and waits until no more calls arrive: a caller who waits for an answer makes none."""
        self.hold = asyncio.Event()
        for _ in range(round(MAX_QUIET_WAIT / QUIET)):
            arrived = self._arrived
            await asyncio.sleep(QUIET)
            if arrived == self._arrived:
                return

    def release(self) -> None:
        """Lets the answers go."""
        if self.hold is not None:
            self.hold.set()

    async def idle(self) -> None:
        """Waits until no call is under way; to be called once answers have been held back."""
        while self.under_way:
            self._idle.clear()
            await self._idle.wait()


def _port(peer: str) -> int:
    port = peer.rpartition(":")[2]
    return int(port) if port.isdecimal() else 0
