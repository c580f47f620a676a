"""Finds out which organization a caller belongs to, from its API key."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hmac import compare_digest

from server.auth.keys import KeyRecord, KeyReference, digest, reference
from server.auth.lookups import KeyLookups
from server.auth.store import KeyStore
from server.deadline import within
from server.errors import Unauthenticated, Unavailable

logger = logging.getLogger(__name__)

# A key that is in use is looked up again this often, in the background. A record older than MAX_AGE is not trusted
# any more and looked up at once, so that a revoked key stops working within 10 seconds even when the background
# look-ups fail.
REFRESH_EVERY = 3.0
MAX_AGE = 8.0
# When keys were last used is written this often, for all of them together.
MARK_EVERY = 60.0
# A key that nobody used for this long is forgotten: later than its last use is written.
FORGET_AFTER = 2 * MARK_EVERY
# How long the last of it may take when the service stops.
LAST_MARK_TIMEOUT = 1.0


@dataclass(slots=True)
class _Known:
    key: KeyReference
    record: KeyRecord
    looked_up: float
    used: float


class Authenticator:
    """Knows the keys that are in use, so that a warm call costs no query.

    `fixed_key` is a key that is accepted beside the stored ones, for the organization `fixed_organization_id`.
    """

    def __init__(
        self, store: KeyStore, *, fixed_key: str | None = None, fixed_organization_id: str | None = None
    ) -> None:
        self._store = store
        # By the digest of the key, which tells nothing of the key to who times the look-up.
        self._known: dict[bytes, _Known] = {}
        self._lookups = KeyLookups(store)
        self._marked = time.monotonic()
        self._fixed_digest = digest(fixed_key) if fixed_key else None
        self._fixed_organization_id = fixed_organization_id

    async def authenticate(self, key: str | None, deadline: float) -> str:
        """Returns the id of the organization that the key belongs to.

        `key` is None where the caller presents none, `deadline` is on the event loop's clock. Raises Unauthenticated,
        with one message whatever the cause, and, when the key is not known yet and the database does not tell,
        Unavailable or DeadlineExceeded.
        """
        if key is None:
            raise Unauthenticated
        presented = digest(key)
        if self._fixed_organization_id is not None and self._is_fixed(presented):
            return self._fixed_organization_id
        known = self._known.get(presented)
        now = time.monotonic()
        if known is None or now - known.looked_up >= MAX_AGE:
            known = await self._look_up(key, presented, deadline)
        if not compare_digest(presented, known.record.digest) or not _is_valid(known.record):
            raise Unauthenticated
        known.used = now
        return known.key.organization_id

    async def refresh_forever(self) -> None:
        """Looks the keys in use up again and again; to be run as a task."""
        while True:
            await asyncio.sleep(REFRESH_EVERY)
            try:
                await self.refresh()
            except Unavailable:
                logger.warning("the API keys could not be refreshed: the database is not available")

    async def refresh(self) -> None:
        """Looks the keys in use up, and forgets the others and those that are gone. Raises Unavailable."""
        asked = time.monotonic()
        in_use = {presented: known for presented, known in self._known.items() if asked - known.used < FORGET_AFTER}
        found = await self._lookups.find_all([known.key for known in in_use.values()]) if in_use else {}
        for known in in_use.values():
            record = found.get(known.key)
            if record is not None:
                known.record, known.looked_up = record, asked
        self._known = {presented: known for presented, known in self._known.items() if known.looked_up >= asked}

    async def mark_used_forever(self) -> None:
        """Tells the store again and again when keys were last used; to be run as a task."""
        while True:
            await asyncio.sleep(MARK_EVERY)
            await self.mark_used()

    async def mark_used(self) -> None:
        """Tells the store of the keys used since the last time when that was."""
        now, since = time.monotonic(), self._marked
        self._marked = now
        used = {
            known.key: datetime.now(UTC) - timedelta(seconds=now - known.used)
            for known in self._known.values()
            if known.used >= since and _is_valid(known.record)
        }
        if used:
            await self._store.mark_used(used)

    async def close(self) -> None:
        """Ends the look-ups under way, and tells the store a last time when keys were used."""
        await self._lookups.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_MARK_TIMEOUT):
                await self.mark_used()

    def _is_fixed(self, presented: bytes) -> bool:
        return self._fixed_digest is not None and compare_digest(presented, self._fixed_digest)

    async def _look_up(self, key: str, presented: bytes, deadline: float) -> _Known:
        claimed = reference(key)
        if claimed is None:
            raise Unauthenticated
        async with within(deadline):
            record, asked = await self._lookups.find(claimed)
        if record is None or not compare_digest(presented, record.digest):
            self._known.pop(presented, None)
            raise Unauthenticated
        known = self._known[presented] = _Known(claimed, record, looked_up=asked, used=asked)
        return known


def _is_valid(record: KeyRecord) -> bool:
    return not record.revoked and (record.expires_at is None or record.expires_at > datetime.now(UTC))
