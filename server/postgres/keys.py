"""The API keys in Postgres, as the authenticator reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from server.auth.keys import KeyRecord, KeyReference
from server.postgres import queries
from server.postgres.database import Database


class PostgresKeys:
    """The key store on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, keys: Sequence[KeyReference]) -> Mapping[KeyReference, KeyRecord]:
        """Returns the records of those keys that exist (see KeyStore)."""
        wanted = [{"organization_id": key.organization_id, "key_id": key.key_id} for key in keys]
        rows = await self._database.read(queries.FIND_KEYS, orjson.dumps(wanted))
        return {
            KeyReference(organization_id, key_id): KeyRecord(digest, expires_at, revoked)
            for organization_id, key_id, digest, expires_at, revoked in rows
        }
