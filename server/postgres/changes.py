"""The changes of participants that exist, in Postgres."""

from __future__ import annotations

from collections.abc import Sequence

from server.errors import NotFound
from server.participants.model import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_PROGRAMS,
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
from server.postgres.rows import REFUSALS, boolean, number, optional_array, optional_json, participant, text

_LIMITS = tuple(map(number, (MAX_ATTRIBUTES, MAX_ATTRIBUTE_BYTES, MAX_TAG_BYTES, MAX_TAGS)))


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
        row = _row(await self._database.write(queries.ENROLL, *ids, boolean(active), number(MAX_PROGRAMS)))
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
        text(update.status),
        text(update.display_name),
        text(update.email),
        text(update.first_name),
        text(update.last_name),
        text(update.phone),
        optional_json(update.attributes),
        optional_array(update.remove_attributes),
        optional_array(update.tags),
        optional_array(update.add_tags),
        optional_array(update.remove_tags),
        _revision(update.participant_id, update.etag),
    )


def _revision(participant_id: str, etag: str) -> bytes | None:
    return number(revision_of(etag, participant_id)) if etag else None
