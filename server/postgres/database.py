"""Runs the queries of requests on pooled connections, and raises the service's errors in place of the driver's."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from server.config import Conninfo
from server.errors import Unavailable
from server.participants.repository import Contention
from server.postgres.errors import STALE_CONNECTION, translated_errors
from server.postgres.pool import POOL_TIMEOUT, connection_pool
from server.postgres.prepared import PreparedConnection, Row
from server.postgres.queries.query import Query

# How long a connection stays out of the pool, in seconds: the pool looks at its age only when it comes back.
LEASE = 60.0


@dataclass(frozen=True, slots=True)
class PoolLoad:
    """How many connections are open and in use, and how many requests wait for one."""

    open: int
    in_use: int
    waiting: int


class Database:
    """The connections that requests use, each with our queries prepared.

    The pool connects, replaces and counts. A connection taken from it is kept for LEASE, idle between statements: to
    check one out and in for each statement would cost more than a small statement does.
    """

    def __init__(self, conninfo: Conninfo, connections: int = 10) -> None:
        self._pool = connection_pool(conninfo, connections)
        self._idle: list[PreparedConnection] = []
        # All that are taken from the pool, and what was under way on them when somebody last asked.
        self._taken: WeakSet[PreparedConnection] = WeakSet()
        self._under_way: Mapping[PreparedConnection, object] = {}
        # How many wait for the pool: what is given back goes to them first.
        self._waiting = 0
        self._background: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        await self._pool.open()

    async def close(self) -> None:
        if self._background:
            await asyncio.wait(self._background)
        while self._idle:
            await self._pool.putconn(self._idle.pop().detach())
        await self._pool.close(timeout=1.0)

    def load(self) -> PoolLoad:
        """Returns how busy the connections are."""
        stats = self._pool.get_stats()
        size = stats["pool_size"]
        return PoolLoad(size, size - stats["pool_available"] - len(self._idle), stats["requests_waiting"])

    def overdue(self) -> Sequence[int]:
        """Returns the backends whose statements have been under way since this was last asked; nothing waits for it."""
        before = self._under_way
        self._under_way = {each: each.under_way for each in self._taken if each.under_way is not None}
        return [each.backend for each, statement in self._under_way.items() if before.get(each) is statement]

    async def lose(self, backends: Collection[int]) -> None:
        """Closes the connections to these backends, whose answers are lost, and what else was open beside them."""
        for prepared in list(self._taken):
            if prepared.backend in backends:
                prepared.lose()
        idle, self._idle = self._idle, []
        await self._pool.drain()
        for prepared in idle:
            await self._pool.putconn(prepared.detach())

    async def write(self, query: Query, *parameters: bytes | None) -> Sequence[Row]:
        """Runs one query in a commit of its own, and returns its rows. Parameters are in Postgres' text format.

        When it is cancelled it has the statement cancelled, and returns only when that is over: whatever is run after
        it comes after it. Raises Unavailable, Contention and Refused in place of the driver's errors.
        """
        with translated_errors:
            prepared = await self._take()
            try:
                return await prepared.run(query, parameters)
            except STALE_CONNECTION:
                prepared.close()
                raise
            finally:
                if not self._keeps(prepared):
                    await self._end(prepared)

    async def read(self, query: Query, *parameters: bytes | None) -> Sequence[Row]:
        """Runs one query that writes nothing, as `write` does, and raises Unavailable and Refused.

        When it is cancelled it returns at once, and the statement is cancelled in the background.
        """
        try:
            with translated_errors:
                prepared = await self._take()
                try:
                    return await prepared.run(query, parameters)
                except STALE_CONNECTION:
                    prepared.close()
                    raise
                finally:
                    if not self._keeps(prepared):
                        self._run_in_background(self._end(prepared))
        except Contention:
            # A reader waits for a table only, which a migration holds.
            raise Unavailable from None

    async def _take(self) -> PreparedConnection:
        while self._idle:
            prepared = self._idle.pop()
            if prepared.is_alive():
                return prepared
            await self._pool.putconn(prepared.detach())
        self._waiting += 1
        try:
            prepared = await self._take_from_pool()
        finally:
            self._waiting -= 1
        self._taken.add(prepared)
        return prepared

    async def _take_from_pool(self) -> PreparedConnection:
        deadline = time.monotonic() + POOL_TIMEOUT
        while True:
            prepared = PreparedConnection(await self._pool.getconn(deadline - time.monotonic()))
            # Postgres may have closed all that were idle, and those connect anew only when they have been given back.
            if prepared.is_alive():
                return prepared
            await self._pool.putconn(prepared.detach())

    def _keeps(self, prepared: PreparedConnection) -> bool:
        """Keeps a connection for the next statement, unless it is under way, broken, due or waited for."""
        if prepared.is_idle and not self._waiting and time.monotonic() - prepared.taken < LEASE:
            self._idle.append(prepared)
            return True
        return False

    async def _end(self, prepared: PreparedConnection) -> None:
        """Ends what is under way on a connection, and gives it back to the pool."""
        try:
            await prepared.cancel()
        finally:
            await self._pool.putconn(prepared.detach())

    def _run_in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
