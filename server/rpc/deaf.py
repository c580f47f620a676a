"""Callers that do not read what they are answered."""

from __future__ import annotations

import asyncio
import logging

from server.rpc.calls import Calls, Context
from server.rpc.connections import connections

logger = logging.getLogger(__name__)

# How long an answer may wait for its reader, at least; twice as long at the most. In seconds.
READ_TIMEOUT = 10.0


async def cut_off_deaf_forever(port: int, calls: Calls) -> None:
    """Cuts off callers to a port of this process that do not read an answer. The deadline of a call ends it, too, but
    not everybody has one."""
    before: dict[Context, int] = {}
    while True:
        await asyncio.sleep(READ_TIMEOUT)
        unread = calls.unread()
        deaf = {port for call, port in unread.items() if call in before}
        if cut := sum(each.close() for each in connections(port) if each.peer_port in deaf) if deaf else 0:
            logger.warning("connections are cut off that do not read answers: %d", cut)
        before = unread
