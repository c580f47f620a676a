"""Callers that do not read what they are answered."""

from __future__ import annotations

import asyncio
import logging

from server.rpc.contexts import Context
from server.rpc.guard.connections import Connections
from server.rpc.guard.ledger import Ledger

logger = logging.getLogger(__name__)

# How long an answer may wait for its reader, at least; twice as long at the most. In seconds.
READ_TIMEOUT = 10.0


async def cut_off_slow_readers_forever(port: int, ledger: Ledger) -> None:
    """Cuts off callers to a port of this process that do not read an answer. The deadline of a call ends it, too, but
    not everybody has one."""
    connections = Connections(port)
    before: dict[Context, str] = {}
    while True:
        await asyncio.sleep(READ_TIMEOUT)
        unread = ledger.unread()
        slow = {peer for call, peer in unread.items() if call in before}
        if cut := sum(each.abort() for each in connections.look() if each.peer in slow) if slow else 0:
            logger.warning("connections are cut off that do not read answers: %d", cut)
        before = unread
