"""The upserts in Postgres."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from uuid_utils import uuid7

from server.participants.model import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_TAG_BYTES,
    RETRY,
    Outcome,
    ParticipantNames,
    Rejected,
    Retry,
    Upsert,
    Written,
)
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.prepared import Row
from server.postgres.rows import REFUSALS, array, participant

# All of plain Postgres is one route: any upserts may share a statement.
_ROUTE = ""
_LIMITS = tuple(str(limit).encode() for limit in (MAX_ATTRIBUTES, MAX_ATTRIBUTE_BYTES, MAX_TAG_BYTES))
# As jsonb an attribute takes more than eight bytes: with no more than this there are not too many.
_SURELY_WITHIN_LIMITS = str(MAX_ATTRIBUTES * 8).encode()
_BOOLEANS = {True: b"t", False: b"f"}
_NAMES = len(ParticipantNames._fields)


class PostgresParticipants:
    """The participant repository on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def route(self, upsert: Upsert) -> str:  # noqa: ARG002  # see ParticipantRepository
        """Returns the one route there is."""
        return _ROUTE

    async def upsert(self, upserts: Sequence[Upsert], *, insert: bool = True) -> Sequence[Outcome | Retry]:
        """Writes upserts with different keys in one statement (see ParticipantRepository)."""
        if len(upserts) == 1 and insert:
            upsert = upserts[0]
            if upsert.program_id is None and upsert.whole:
                rows = await self._database.write(queries.UPSERT_ONE, *_parameters(upsert))
                if rows:
                    return [_outcome(rows[0])]
        names_program = any(upsert.program_id is not None for upsert in upserts)
        whole = any(upsert.whole for upsert in upserts)
        query = queries.UPSERT[names_program, whole]
        rows = await self._database.write(query, _encoded(upserts), _BOOLEANS[insert], *_LIMITS)
        outcomes: list[Outcome | Retry] = [RETRY] * len(upserts)
        for row in rows:
            outcomes[row[0]] = _outcome(row)
        return outcomes


def _parameters(upsert: Upsert) -> Sequence[bytes | None]:
    """Returns an upsert as upsert_one.sql reads it."""
    return (
        upsert.organization_id.encode(),
        str(uuid7()).encode(),
        upsert.external_id.encode(),
        *[value if value is None else value.encode() for value in _texts(upsert)],
        orjson.dumps(upsert.attributes) if upsert.attributes else None,
        array(upsert.tags) if upsert.tags else None,
        _SURELY_WITHIN_LIMITS,
    )


def _texts(upsert: Upsert) -> Sequence[str | None]:
    return (
        upsert.status, upsert.display_name, upsert.email, upsert.first_name, upsert.last_name, upsert.phone,
    )  # fmt: skip


def _encoded(upserts: Sequence[Upsert]) -> bytes:
    """Returns the upserts as upsert.sql reads them. One JSON value costs far less to send than twelve arrays."""
    return orjson.dumps(
        [
            {
                "n": n,
                "organization_id": upsert.organization_id,
                "participant_id": str(uuid7()),
                "external_id": upsert.external_id,
                "status": upsert.status,
                "display_name": upsert.display_name,
                "email": upsert.email,
                "first_name": upsert.first_name,
                "last_name": upsert.last_name,
                "phone": upsert.phone,
                "attributes": upsert.attributes or None,
                "tags": upsert.tags or None,
                "program_id": upsert.program_id,
            }
            for n, upsert in enumerate(upserts)
        ]
    )


def _outcome(row: Row) -> Outcome | Retry:
    outcome = row[1]
    if outcome is None:
        return RETRY
    error = REFUSALS.get(outcome)
    if error is not None:
        return Rejected(error())
    if len(row) == 2 + _NAMES:
        return Written(outcome, ParticipantNames(*row[2:]))
    return Written(outcome, participant(row, 2))
