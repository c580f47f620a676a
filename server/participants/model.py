"""The nouns: a participant, the upsert that makes or changes one, and what became of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from server.errors import ServiceError

# What a participant as a whole may hold, however many requests fill it; bytes are those of UTF-8, of keys and values.
MAX_ATTRIBUTES = 256
MAX_ATTRIBUTE_BYTES = 65_536
MAX_TAG_BYTES = 16_384
MAX_TAGS = 256
MAX_TAG_LENGTH = 255
# Active enrollments.
MAX_PROGRAMS = 256


class Status(StrEnum):
    """Lifecycle state."""

    ACTIVE = "ACTIVE"
    SUSPENDED = "SUSPENDED"
    CLOSED = "CLOSED"


class Result(StrEnum):
    """What an upsert did."""

    CREATED = "CREATED"
    UPDATED = "UPDATED"
    UNCHANGED = "UNCHANGED"


# Not frozen: a frozen dataclass takes five times as long to build, and one of each is built for every request.
@dataclass(slots=True, kw_only=True, eq=False)
class Upsert:
    """What to write under the key (organization_id, external_id).

    A profile field that is None stays as it is, and one that is empty is cleared. `status` None leaves the status,
    empty `attributes` and `tags` leave theirs. Ids are UUIDs in text form. `size` is about the bytes it takes. `whole`
    tells whether the answer is to be the whole participant, or its names alone.
    """

    organization_id: str
    external_id: str
    attributes: Mapping[str, str]
    tags: Sequence[str]
    size: int
    whole: bool = True
    status: str | None = None
    program_id: str | None = None
    display_name: str | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None


@dataclass(slots=True, kw_only=True, eq=False)
class Update:
    """What to change of the participant with this id.

    What is None stays as it is, and so do an empty `external_id`, `attributes` and `tags`; a profile field that is
    empty is cleared. `add_tags` come behind the tags, or behind `tags`; then `remove_attributes` and `remove_tags` go.
    An `etag` that is not empty must be current.
    """

    organization_id: str
    participant_id: str
    external_id: str = ""
    status: str | None = None
    display_name: str | None = None
    email: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    phone: str | None = None
    attributes: Mapping[str, str] = field(default_factory=dict)
    remove_attributes: Sequence[str] = ()
    tags: Sequence[str] = ()
    add_tags: Sequence[str] = ()
    remove_tags: Sequence[str] = ()
    etag: str = ""


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


_is_revision = re.compile(r"[1-9a-f][0-9a-f]{0,14}").fullmatch


def etag(participant_id: str, revision: int) -> str:
    """Returns the etag of a participant's revision.

    The id is in it because a participant that is deleted and made anew starts at the first revision again.
    """
    return f"{participant_id[-12:]}{revision:x}"


def revision_of(etag_: str, participant_id: str) -> int:
    """Returns the revision in an etag of a participant, and 0, which no revision is, for what is none of its etags."""
    own, revision = etag_[:12], etag_[12:]
    if own != participant_id[-12:] or not _is_revision(revision):
        return 0
    return int(revision, 16)


class Participant(NamedTuple):
    """A participant as it was committed. A profile field that is not set is None.

    Times are microseconds since 1970, UTC, which is all that the database and the answers know of them: a datetime
    would be built only to be taken apart again. `revision` counts the participant's versions.
    """

    id: str
    external_id: str
    revision: int
    status: str
    display_name: str | None
    email: str | None
    first_name: str | None
    last_name: str | None
    phone: str | None
    tags: Sequence[str]
    created_at: int
    updated_at: int
    program_ids: Sequence[str]
    attributes: Mapping[str, str]
    counters: Mapping[str, str]
    balances: Sequence[Balance]
    tiers: Mapping[str, Tier]


class ParticipantNames(NamedTuple):
    """Of a participant, what identifies it and its version: for callers who need no more."""

    id: str
    external_id: str
    revision: int


class Written(NamedTuple):
    """An upsert that was committed: what it did, and the participant as committed, or its names alone."""

    result: str
    participant: Participant | ParticipantNames


class Rejected(NamedTuple):
    """An upsert of which nothing was written, unless the error is Unavailable: then nobody knows."""

    error: ServiceError


class Retry:
    """Another transaction held, or had just written, what the upsert is to write: nothing was written, run it again."""


RETRY: Final = Retry()

# What became of an upsert, from the repository to the servicer, where it is raised, if it is, once.
Outcome = Written | Rejected
