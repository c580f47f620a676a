"""Looks keys up in groups, so that a flood of unknown keys delays nobody by more than a query or two.

Everybody who waits is looked up by the next query, whatever they present: a key that somebody guessed costs a line of a
query, and a new key does not stand in a line behind it. Unknown keys are not remembered: one that is created now works
now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from server.auth.keys import KeyRecord, KeyReference
from server.auth.store import KeyStore
from server.errors import Unavailable

# So many queries run at a time, and a query looks so many keys up: guessing keys must not take the pool's connections.
MAX_QUERIES = 2
MAX_GROUP = 1_000
# A query that takes longer, in seconds, is given up: its connection may be dead without anybody having said so.
QUERY_TIMEOUT = 3.0
# Queries of that size take in keys faster than calls can bring them: so many wait only where the database does not
# answer, and then nobody who presents an unknown key can be served.
MAX_WAITING = 20_000


class Found(NamedTuple):
    """What a look-up found: no record where there is no such key. `asked` is when, on the monotonic clock."""

    record: KeyRecord | None
    asked: float


class KeyLookups:
    """Looks single keys up, those that wait at the same time by one query."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        # Those that no query has taken yet. Who asks for a key while a query for it is under way waits for the next:
        # the one under way may have begun before the key was made.
        self._waiting: dict[KeyReference, asyncio.Future[Found]] = {}
        self._queries: set[asyncio.Task[None]] = set()

    async def find(self, key: KeyReference) -> Found:
        """Looks a key up. Raises Unavailable."""
        found = self._waiting.get(key)
        if found is None:
            if len(self._waiting) >= MAX_WAITING:
                raise Unavailable
            found = self._waiting[key] = asyncio.get_running_loop().create_future()
            if len(self._queries) < MAX_QUERIES:
                self._queries.add(asyncio.create_task(self._run()))
        # Others may wait for the same key when this caller leaves.
        return await asyncio.shield(found)

    async def find_all(self, keys: Sequence[KeyReference]) -> Mapping[KeyReference, KeyRecord]:
        """Looks keys up by a query of their own. Raises Unavailable."""
        try:
            async with asyncio.timeout(QUERY_TIMEOUT):
                return await self._store.find(keys)
        except TimeoutError:
            raise Unavailable from None

    async def close(self) -> None:
        """Cancels what is under way; those who wait are told Unavailable."""
        for query in self._queries:
            query.cancel()
        if self._queries:
            await asyncio.wait(self._queries)
        _fail(self._waiting.values(), Unavailable())
        self._waiting.clear()

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._look_up({key: self._waiting.pop(key) for key in list(islice(self._waiting, MAX_GROUP))})
        finally:
            # At once, for whoever comes before the event loop has seen this task end must not rely on it.
            self._queries.discard(asyncio.current_task())

    async def _look_up(self, group: Mapping[KeyReference, asyncio.Future[Found]]) -> None:
        asked = time.monotonic()
        try:
            records = await self.find_all(list(group))
        except asyncio.CancelledError:
            _fail(group.values(), Unavailable())
            raise
        except Exception as error:  # noqa: BLE001  # whoever waits is told
            _fail(group.values(), error)
        else:
            for key, found in group.items():
                found.set_result(Found(records.get(key), asked))


def _fail(waiting: Iterable[asyncio.Future[Found]], error: Exception) -> None:
    for found in waiting:
        found.set_exception(error)
        # Those who waited may have left.
        found.exception()
