"""The API keys in Postgres, as the authenticator reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from server.auth.keys import KeyRecord, KeyReference
from server.postgres import queries
from server.postgres.database import Database


class PostgresKeys:
    """The key store on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, keys: Sequence[KeyReference]) -> Mapping[KeyReference, KeyRecord]:
        """Returns the records of those keys that exist (see KeyStore)."""
        organizations = {key.organization_id for key in keys}
        ids = _array(key.key_id for key in keys)
        if len(organizations) == 1:
            rows = await self._database.read(queries.FIND_KEYS, organizations.pop().encode(), ids)
        else:
            claimed = _array(key.organization_id for key in keys)
            rows = await self._database.read(queries.FIND_KEYS_OF_MANY, claimed, ids)
        return {
            KeyReference(organization_id, key_id): KeyRecord(digest, expires_at, revoked)
            for organization_id, key_id, digest, expires_at, revoked in rows
        }


def _array(words: Iterable[str]) -> bytes:
    """Returns a Postgres array of words that need no quotes, as UUIDs and hexadecimal digits are."""
    return f"{{{','.join(words)}}}".encode()
