"""How the HTTP server stops: requests under way are let finish, and whoever is cut off is told to call again."""

from __future__ import annotations

import asyncio

from server.api.stopping import GRACE, LAST_GRACE
from server.gateway.connections import Connections

# How often it is looked who is still there; in seconds.
LOOK_EVERY = 0.05


async def stop(connections: Connections, hurry: asyncio.Event) -> None:
    """Ends all connections: those that wait for nothing at once, and the others once they have their answers.

    That takes as long as they may take, and less once it is to hurry. Nobody is to come any more.
    """
    for connection in connections.all():
        connection.shutdown()
    await _let_finish(connections, hurry)
    for connection in connections.all():
        connection.cut_off()
    if connections.tasks:
        await asyncio.wait(connections.tasks, timeout=LAST_GRACE)
    # Until what has been written is on its way.
    await asyncio.sleep(LOOK_EVERY)
    for connection in connections.all():
        connection.transport.abort()


async def _let_finish(connections: Connections, hurry: asyncio.Event) -> None:
    """Waits while anybody is served, and then for the last who still send requests or read answers."""
    time = asyncio.get_running_loop().time
    last_served = time()
    ends = last_served + GRACE
    while connections.connections and not hurry.is_set():
        now = time()
        if any(connection.is_served for connection in connections.all()):
            last_served = now
        if now >= min(ends, last_served + LAST_GRACE):
            return
        await asyncio.sleep(LOOK_EVERY)
