"""Calls that are made for nothing: without a good key, or given up at once. Whoever makes many is shut out."""

from __future__ import annotations

import asyncio
import time

from server.errors import ServiceError, Unauthenticated
from server.rpc.contexts import Context
from server.rpc.guard.gate import Gate
from server.rpc.guard.ledger import Ledger

# How many calls may be wasted within this time, in seconds: by strangers together, and by the key holders of each
# organization. Short, so that a burst shows before all of it has been taken in.
MAX_WASTED, WASTED_WITHIN = 120, 0.1
# From so many on, strangers get their answer this much later, in seconds: a client that calls again once it has its
# answer, then wastes no more than may be.
FEW_WASTED, PAUSE = 10, 0.15
# Who gives a call up so shortly before its deadline does so because of that, and who has let it wait for so long had to
# hold it open, of which a connection has few; in seconds.
ABOUT_NOW, A_WHILE = 0.05, 0.1


class WastedCalls:
    """Counts them, and has the gate shut out who makes too many."""

    def __init__(self, ledger: Ledger, gate: Gate) -> None:
        self._ledger = ledger
        self._gate = gate
        # By organization, and by none for all strangers, those of lately, and until when they are.
        self._lately: dict[str | None, int] = {}
        self._lately_ends = 0.0

    async def refused(self, call: Context, metadata_bytes: int, error: ServiceError) -> None:
        """Counts a call without a good key, and keeps its answer back for a moment where such calls are many.

        One connection may carry many callers', so a key holder's are calls like others.
        """
        if not isinstance(error, Unauthenticated):
            return
        peer = call.peer()
        if self._ledger.organization(peer) is not None:
            self._ledger.refused(peer, metadata_bytes)
        elif self._count(peer) > FEW_WASTED:
            await asyncio.sleep(PAUSE)

    def given_up(self, call: Context, age: float) -> None:
        """Counts a call that its caller has given up at once, before it was begun, if its deadline is not the reason.

        `age` is since when it is here, in seconds.
        """
        time_left = call.time_remaining()
        if not self._ledger.is_begun(call) and age < A_WHILE and (time_left is None or time_left > ABOUT_NOW):
            self._count(call.peer())

    def _count(self, peer: str) -> int:
        """Returns how many there were lately of the peer's organization, or of strangers, with this one."""
        now = time.monotonic()
        if now >= self._lately_ends:
            self._lately_ends = now + WASTED_WITHIN
            self._lately.clear()
        organization_id = self._ledger.organization(peer)
        wasted = self._lately[organization_id] = self._lately.get(organization_id, 0) + 1
        if wasted > MAX_WASTED:
            self._gate.refuse_all(peer)
        return wasted
