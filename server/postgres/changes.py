"""The changes of participants that exist, in Postgres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from server.errors import NotFound
from server.participants.model import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_TAG_BYTES,
    MAX_TAGS,
    RETRY,
    Participant,
    Retry,
    Update,
    revision_of,
)
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.prepared import Row
from server.postgres.rows import REFUSALS, array, participant

_LIMITS = tuple(str(limit).encode() for limit in (MAX_ATTRIBUTES, MAX_ATTRIBUTE_BYTES, MAX_TAG_BYTES, MAX_TAGS))
_BOOLEANS = {True: b"t", False: b"f"}


class PostgresChanges:
    """The repository of changes on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def update(self, update: Update) -> Participant | Retry:
        """Changes one participant (see ChangeRepository)."""
        row = _row(await self._database.write(queries.UPDATE, *_parameters(update), *_LIMITS))
        return RETRY if row is None else participant(row, 1)

    async def set_enrollment(
        self, organization_id: str, participant_id: str, program_id: str, *, active: bool
    ) -> Participant | Retry:
        """Enrolls a participant or ends its enrollment (see ChangeRepository)."""
        ids = (organization_id.encode(), participant_id.encode(), program_id.encode())
        row = _row(await self._database.write(queries.ENROLL, *ids, _BOOLEANS[active]))
        return RETRY if row is None else participant(row, 1)

    async def delete(self, organization_id: str, participant_id: str, etag: str) -> Retry | None:
        """Erases one participant (see ChangeRepository)."""
        ids = (organization_id.encode(), participant_id.encode())
        row = _row(await self._database.write(queries.DELETE, *ids, _revision(participant_id, etag)))
        return RETRY if row is None else None


def _row(rows: Sequence[Row]) -> Row | None:
    """Returns the row that says what was done, or None where the statement is to be run again. Raises ServiceError."""
    if not rows:
        raise NotFound("there is no participant with this id", reason="PARTICIPANT_NOT_FOUND")
    outcome = rows[0][0]
    refusal = REFUSALS.get(outcome)
    if refusal is not None:
        raise refusal()
    return rows[0] if outcome else None


def _parameters(update: Update) -> Sequence[bytes | None]:
    """Returns an update as update.sql reads it."""
    return (
        update.organization_id.encode(),
        update.participant_id.encode(),
        update.external_id.encode() or None,
        _text(update.status),
        _text(update.display_name),
        _text(update.email),
        _text(update.first_name),
        _text(update.last_name),
        _text(update.phone),
        _json(update.attributes),
        _optional_array(update.remove_attributes),
        _optional_array(update.tags),
        _optional_array(update.add_tags),
        _optional_array(update.remove_tags),
        _revision(update.participant_id, update.etag),
    )


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _json(attributes: Mapping[str, str]) -> bytes | None:
    return orjson.dumps(attributes) if attributes else None


def _optional_array(values: Sequence[str]) -> bytes | None:
    return array(values) if values else None


def _revision(participant_id: str, etag: str) -> bytes | None:
    return str(revision_of(etag, participant_id)).encode() if etag else None
