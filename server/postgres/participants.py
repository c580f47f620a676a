"""The upserts in Postgres."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from orjson import dumps
from uuid_utils import uuid7

from server.participants.model import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_PROGRAMS,
    MAX_TAG_BYTES,
    RETRY,
    Outcome,
    ParticipantNames,
    Rejected,
    Result,
    Retry,
    Upsert,
    Written,
)
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.prepared import Row
from server.postgres.rows import REFUSALS, array, boolean, number, optional_array, optional_json, participant, text

# All of plain Postgres is one route: any upserts may share a statement.
_ROUTE = ""
_LIMITS = tuple(map(number, (MAX_ATTRIBUTES, MAX_ATTRIBUTE_BYTES, MAX_TAG_BYTES)))
_MAX_PROGRAMS = number(MAX_PROGRAMS)
# As jsonb an attribute takes more than eight bytes: with no more than this there are not too many.
_SURELY_WITHIN_LIMITS = number(MAX_ATTRIBUTES * 8)
_NAMES = len(ParticipantNames._fields)

Value = TypeVar("Value")


class PostgresParticipants:
    """The participant repository on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database
        # Whether the last upsert that came alone changed a participant: mostly the next one does what the last one did.
        self._updates = False

    def route(self, upsert: Upsert) -> str:  # noqa: ARG002  # see ParticipantRepository
        """Returns the one route there is."""
        return _ROUTE

    async def upsert(self, upserts: Sequence[Upsert], *, insert: bool = True) -> Sequence[Outcome | Retry]:
        """Writes upserts with different keys in one statement (see ParticipantRepository)."""
        if len(upserts) == 1 and insert:
            upsert = upserts[0]
            if upsert.program_id is None and upsert.whole:
                outcome = await self._upsert_one(upsert)
                if outcome is not None:
                    return [outcome]
        names_program = any(upsert.program_id is not None for upsert in upserts)
        whole = any(upsert.whole for upsert in upserts)
        query = queries.UPSERT[names_program, whole]
        program_limit = (_MAX_PROGRAMS,) if names_program else ()
        rows = await self._database.write(query, boolean(insert), *_LIMITS, *_columns(upserts), *program_limit)
        outcomes: list[Outcome | Retry] = [RETRY] * len(upserts)
        for row in rows:
            outcomes[row[0]] = _outcome(row)
        return outcomes

    async def _upsert_one(self, upsert: Upsert) -> Outcome | Retry | None:
        """Writes an upsert by the leanest statement that can; returns None where it takes the one for groups."""
        parameters = _parameters(upsert)
        rows = await self._database.write(queries.UPDATE_ONE, *parameters) if self._updates else ()
        if not rows:
            rows = await self._database.write(queries.UPSERT_ONE, *parameters, str(uuid7()).encode())
        outcome = _outcome(rows[0]) if rows else None
        self._updates = isinstance(outcome, Written) and outcome.result == Result.UPDATED
        return outcome


def _parameters(upsert: Upsert) -> Sequence[bytes | None]:
    """Returns an upsert as upsert_one.sql reads it, without the id of a new participant."""
    return (
        upsert.organization_id.encode(),
        upsert.external_id.encode(),
        text(upsert.status),
        text(upsert.display_name),
        text(upsert.email),
        text(upsert.first_name),
        text(upsert.last_name),
        text(upsert.phone),
        optional_json(upsert.attributes),
        optional_array(upsert.tags),
        _SURELY_WITHIN_LIMITS,
    )


def _columns(upserts: Sequence[Upsert]) -> Sequence[bytes | None]:
    """Returns the upserts as upsert.sql reads them. To Postgres arrays are far less work than one JSON value."""
    return (
        _column([upsert.organization_id for upsert in upserts]),
        _column([str(uuid7()) for _ in upserts]),
        _column([upsert.external_id for upsert in upserts]),
        _column([upsert.status for upsert in upserts]),
        _column([upsert.display_name for upsert in upserts]),
        _column([upsert.email for upsert in upserts]),
        _column([upsert.first_name for upsert in upserts]),
        _column([upsert.last_name for upsert in upserts]),
        _column([upsert.phone for upsert in upserts]),
        _column_of_literals([upsert.attributes or None for upsert in upserts], b"{}", dumps),
        _column_of_literals([upsert.tags or None for upsert in upserts], b"[]", array),
        _column([upsert.program_id for upsert in upserts]),
    )


def _column(values: Sequence[str | None]) -> bytes | None:
    if values.count(None) == len(values):
        return None
    return array(values)


def _column_of_literals(
    values: Sequence[Value | None], brackets: bytes, literal: Callable[[Value], bytes]
) -> bytes | None:
    """Returns attributes as JSON, or tags as an array. `brackets` are those of one of the values in JSON."""
    opening, closing = brackets[:1], brackets[1:]
    items = dumps(values)[1:-1]
    count = len(values) - values.count(None)
    if b"\\" in items or items.count(opening) != count or items.count(closing) != count:
        return _column([value if value is None else literal(value).decode() for value in values])
    # No text has a character that matters here, so all of the values can be quoted at once.
    quoted = items.replace(b'"', b'\\"').replace(opening, b'"{').replace(closing, b'}"')
    return b"{%b}" % quoted if count else None


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
