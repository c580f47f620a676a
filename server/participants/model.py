"""The nouns: a participant, the upsert that makes or changes one, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

MAX_ATTRIBUTES = 256
MAX_TAG_LENGTH = 255


class Status(StrEnum):
    """Where a participant stands in its life."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    CLOSED = "CLOSED"


class Result(StrEnum):
    """What an upsert did."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"


# Not frozen, though nothing changes one after it was made: a frozen dataclass takes five times as long to build,
# and one of each is built for every request.
@dataclass(slots=True)
class Upsert:
    """What to write under the key (organization_id, external_id).

    A profile field that is None stays as it is, and one that is empty is cleared. `status` None leaves the status,
    empty `attributes` and `tags` leave theirs. Ids are UUIDs in text form. `size` is about the bytes it takes.
    """

    organization_id: str
    external_id: str
    display_name: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    phone: str | None
    program_id: str | None
    status: str | None
    attributes: Mapping[str, str]
    tags: Sequence[str]
    size: int

    @property
    def key(self) -> tuple[str, str]:
        return (self.organization_id, self.external_id)


@dataclass(slots=True)
class Balance:
    """What a participant holds of one asset; amounts are decimal strings."""

    asset_id: str
    available: str
    held: str
    deferred: str


@dataclass(slots=True)
class Tier:
    """The level that a participant has reached in one tier type."""

    level: str
    rank: int


@dataclass(slots=True)
class Participant:
    """A participant as it was committed. A profile field that is not set is None.

    Times are microseconds since 1970, UTC, which is all that the database and the answers know of them: a datetime
    would be built only to be taken apart again.
    """

    id: str
    external_id: str
    status: str
    display_name: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    phone: str | None
    attributes: Mapping[str, str]
    tags: Sequence[str]
    program_ids: Sequence[str]
    counters: Mapping[str, str]
    balances: Sequence[Balance]
    tiers: Mapping[str, Tier]
    created_at: int
    updated_at: int


@dataclass(slots=True)
class UpsertResult:
    """What an upsert did, and the participant as it was committed."""

    result: str
    participant: Participant
