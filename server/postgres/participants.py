"""The participants in Postgres: rows in and out of upsert.sql and get.sql."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from uuid_utils import uuid7

from server.errors import FieldViolation, InvalidArgument, NotFound, ServiceError
from server.participants.model import MAX_ATTRIBUTES, Balance, Participant, Tier, Upsert, UpsertResult
from server.postgres import queries
from server.postgres.database import Database, Row


class PostgresParticipants:
    """The participant store on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def upsert(self, upserts: Sequence[Upsert]) -> Sequence[UpsertResult | ServiceError | None]:
        """Writes upserts with different keys in one statement (see ParticipantRepository)."""
        rows = await self._database.fetch(queries.UPSERT, _encoded(upserts))
        outcomes: list[UpsertResult | ServiceError | None] = [None] * len(upserts)
        for row in rows:
            outcomes[row[0]] = _outcome(row)
        return outcomes

    async def get(self, organization_id: str, participant_id: str) -> Participant | None:
        """Reads one participant (see ParticipantRepository)."""
        rows = await self._database.read(queries.GET, organization_id.encode(), participant_id.encode())
        return _participant(rows[0]) if rows else None


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


def _outcome(row: Row) -> UpsertResult | ServiceError | None:
    outcome = row[1]
    if outcome is None:
        return None
    if outcome == "unknown_program":
        return NotFound("there is no program with this program_id", reason="PROGRAM_NOT_FOUND")
    if outcome == "too_many_attributes":
        message = f"the participant would have more than {MAX_ATTRIBUTES} attributes"
        return InvalidArgument((FieldViolation("attributes", "TOO_MANY_ATTRIBUTES", message),))
    return UpsertResult(outcome, _participant(row[2:]))


def _participant(row: Row) -> Participant:
    (
        participant_id, external_id, status, display_name, email, first_name, last_name, phone, attributes, tags,
        program_ids, counters, balances, tiers, created_at, updated_at,
    ) = row  # fmt: skip
    return Participant(
        participant_id,
        external_id,
        status,
        display_name,
        email,
        first_name,
        last_name,
        phone,
        orjson.loads(attributes),
        tags,
        program_ids,
        dict(counters) if counters else {},
        [Balance(*balance) for balance in sorted(balances)] if balances else [],
        {key: Tier(level, rank) for key, level, rank in tiers} if tiers else {},
        created_at,
        updated_at,
    )
