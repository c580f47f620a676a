"""The participants in Postgres: rows in and out of the queries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from uuid_utils import uuid7

from server.errors import FieldViolation, InvalidArgument, NotFound, ServiceError
from server.participants.model import (
    MAX_ATTRIBUTE_BYTES,
    MAX_ATTRIBUTES,
    MAX_TAG_BYTES,
    RETRY,
    Balance,
    Outcome,
    Participant,
    ParticipantNames,
    Rejected,
    Retry,
    Tier,
    Upsert,
    Written,
)
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.prepared import Row

# All of plain Postgres is one route: any upserts may share a statement.
_ROUTE = ""
_LIMITS = tuple(str(limit).encode() for limit in (MAX_ATTRIBUTES, MAX_ATTRIBUTE_BYTES, MAX_TAG_BYTES))
# As jsonb an attribute takes more than eight bytes: with no more than this there are not too many.
_SURELY_WITHIN_LIMITS = str(MAX_ATTRIBUTES * 8).encode()
_BOOLEANS = {True: b"t", False: b"f"}
# The columns in which every query answers with a participant: as they are up to `program_ids`, then those to be read.
_NAMES = len(ParticipantNames._fields)
_PLAIN = Participant._fields.index("attributes")
_NOTHING: Mapping[str, Any] = {}


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

    async def get(self, organization_id: str, participant_id: str) -> Participant | None:
        """Reads one participant (see ParticipantRepository)."""
        rows = await self._database.read(queries.GET, organization_id.encode(), participant_id.encode())
        return _participant(rows[0]) if rows else None


def _parameters(upsert: Upsert) -> Sequence[bytes | None]:
    """Returns an upsert as upsert_one.sql reads it."""
    return (
        upsert.organization_id.encode(),
        str(uuid7()).encode(),
        upsert.external_id.encode(),
        *[value if value is None else value.encode() for value in _texts(upsert)],
        orjson.dumps(upsert.attributes) if upsert.attributes else None,
        _array(upsert.tags) if upsert.tags else None,
        _SURELY_WITHIN_LIMITS,
    )


def _texts(upsert: Upsert) -> Sequence[str | None]:
    return (
        upsert.status, upsert.display_name, upsert.email, upsert.first_name, upsert.last_name, upsert.phone,
    )  # fmt: skip


def _array(values: Sequence[str]) -> bytes:
    """Returns an array in Postgres' text format."""
    quoted = '","'.join(values) if _is_plain(values) else '","'.join(_escaped(value) for value in values)
    return f'{{"{quoted}"}}'.encode()


def _is_plain(values: Sequence[str]) -> bool:
    text = "".join(values)
    return '"' not in text and "\\" not in text


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


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
    error = _ERRORS.get(outcome)
    if error is not None:
        return Rejected(error())
    if len(row) == 2 + _NAMES:
        return Written(outcome, ParticipantNames(*row[2:]))
    return Written(outcome, _participant(row[2:]))


def _participant(row: Row) -> Participant:
    """Returns the participant in a row, whose columns are named and ordered as the fields are (a test holds that)."""
    attributes, counters, balances, tiers = row[_PLAIN:]
    return Participant._make(
        (
            *row[:_PLAIN],
            orjson.loads(attributes),
            dict(counters) if counters else _NOTHING,
            [Balance(*balance) for balance in sorted(balances)] if balances else (),
            {key: Tier(level, rank) for key, level, rank in tiers} if tiers else _NOTHING,
        )
    )


def _unknown_program() -> ServiceError:
    return NotFound("there is no program with this program_id", reason="PROGRAM_NOT_FOUND")


def _too_many_attributes() -> ServiceError:
    message = f"the participant would have more than {MAX_ATTRIBUTES} attributes"
    return InvalidArgument((FieldViolation("attributes", "TOO_MANY_ATTRIBUTES", message),))


def _attributes_too_large() -> ServiceError:
    message = (
        f"the participant would have attributes of more than {MAX_ATTRIBUTE_BYTES} bytes, keys and values together"
    )
    return InvalidArgument((FieldViolation("attributes", "ATTRIBUTES_TOO_LARGE", message),))


def _tags_too_large() -> ServiceError:
    message = f"the participant would have tags of more than {MAX_TAG_BYTES} bytes"
    return InvalidArgument((FieldViolation("tags", "TAGS_TOO_LARGE", message),))


_ERRORS = {
    "unknown_program": _unknown_program,
    "too_many_attributes": _too_many_attributes,
    "attributes_too_large": _attributes_too_large,
    "tags_too_large": _tags_too_large,
}
