"""The API keys in Postgres, as the authenticator reads them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime

from server.auth.keys import KeyRecord, KeyReference
from server.errors import Unavailable
from server.participants.repository import Contention, Refused
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.errors import StatementFailed
from server.postgres.rows import array

logger = logging.getLogger(__name__)


class PostgresKeys:
    """The key store on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, keys: Sequence[KeyReference]) -> Mapping[KeyReference, KeyRecord]:
        """Returns the records of those keys that exist (see KeyStore)."""
        organizations = {key.organization_id for key in keys}
        ids = array([key.key_id for key in keys])
        if len(organizations) == 1:
            rows = await self._database.read(queries.FIND_KEYS, organizations.pop().encode(), ids)
        else:
            claimed = array([key.organization_id for key in keys])
            rows = await self._database.read(queries.FIND_KEYS_OF_MANY, claimed, ids)
        return {
            KeyReference(organization_id, key_id): KeyRecord(digest, expires_at, revoked)
            for organization_id, key_id, digest, expires_at, revoked in rows
        }

    async def mark_used(self, used: Mapping[KeyReference, datetime]) -> None:
        """Writes when keys were last used (see KeyStore)."""
        organizations, ids = (array(words) for words in zip(*used, strict=True))
        times = array([time.isoformat() for time in used.values()])
        try:
            await self._database.write(queries.MARK_KEYS_USED, organizations, ids, times)
        except (Unavailable, Contention, Refused, StatementFailed) as error:
            logger.warning("when keys were last used could not be written: %s", type(error).__name__)
