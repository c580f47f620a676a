"""Between Postgres' values and ours: parameters in text format, and the rows in which every query answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from server.errors import AlreadyExists, EtagMismatch, NotFound, ServiceError
from server.participants.limits import (
    attributes_too_large,
    tags_too_large,
    too_many_attributes,
    too_many_programs,
    too_many_tags,
)
from server.participants.model import Balance, Participant, Tier
from server.postgres.prepared import Row

_ESCAPE = b"\\"
_tuple = tuple.__new__
_NOTHING: Mapping[str, Any] = {}


def array(values: Sequence[str | None]) -> bytes:
    """Returns an array in Postgres' text format. None is null."""
    items = orjson.dumps(values)[1:-1]
    # Both quote alike, and know null; but an array has no escapes other than those of a quotation mark and a backslash.
    if _ESCAPE in items and _has_others(items):
        items = ",".join("NULL" if value is None else f'"{_escaped(value)}"' for value in values).encode()
    return b"{%b}" % items


def _has_others(items: bytes) -> bool:
    return _ESCAPE in items.replace(rb"\\", b"").replace(rb"\"", b"")


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')


def optional_array(values: Sequence[str]) -> bytes | None:
    """Returns an array in Postgres' text format, null where there are no values."""
    return array(values) if values else None


def text(value: str | None) -> bytes | None:
    """Returns a text in Postgres' text format. None is null."""
    return None if value is None else value.encode()


def number(value: int) -> bytes:
    """Returns a number in Postgres' text format."""
    return str(value).encode()


def boolean(value: bool) -> bytes:
    """Returns a boolean in Postgres' text format."""
    return b"t" if value else b"f"


def optional_json(attributes: Mapping[str, str]) -> bytes | None:
    """Returns attributes as JSON, null where there are none."""
    return orjson.dumps(attributes) if attributes else None


def participant(row: Row, first: int = 0) -> Participant:
    """Returns the participant in a row from this column on; its columns are named and ordered as the fields are (a test
    holds that)."""
    attributes, counters, balances, tiers = row[-4:]
    # What _make does, without a call more for each row.
    return _tuple(
        Participant,
        (
            *row[first:-4],
            orjson.loads(attributes),
            dict(counters) if counters else _NOTHING,
            [Balance(*balance) for balance in sorted(balances)] if balances else (),
            {key: Tier(level, rank) for key, level, rank in tiers} if tiers else _NOTHING,
        ),
    )


def _unknown_program() -> ServiceError:
    return NotFound("there is no program with this program_id", reason="PROGRAM_NOT_FOUND")


# What the statements refuse to write, by the outcome that says so.
REFUSALS: Mapping[str, Callable[[], ServiceError]] = {
    "unknown_program": _unknown_program,
    "already_exists": AlreadyExists,
    "etag_mismatch": EtagMismatch,
    "too_many_attributes": too_many_attributes,
    "attributes_too_large": attributes_too_large,
    "too_many_tags": too_many_tags,
    "tags_too_large": tags_too_large,
    "too_many_programs": too_many_programs,
}
