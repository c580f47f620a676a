"""The participants that are read, in Postgres."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import ceil

from server.participants.listing import Filters, Listing, Page, Position
from server.participants.model import Participant
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.prepared import Row
from server.postgres.rows import number, participant

# How many rows of the leading index a page looks at for each participant that it may list, where it has to pass over
# some. Labels lead to one participant here and one there, with as many blocks for each as the indexes are deep: such a
# page looks at fewer than it may list, and ends short. So at 5 million participants no page of 50 reads 400 blocks.
EXAMINED_PER_LISTED = 1.25
LABELS_EXAMINED_PER_LISTED = 0.75
# A page ends after the participant with which its attributes and tags reach this; gRPC's clients take 4 MiB by default.
MAX_PAGE_BYTES = 1024 * 1024

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LEAST_ID, _GREATEST_ID = "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"
# Greater than any external_id, of which none is so long.
_GREATEST_TEXT = "\U0010ffff" * 256
# The columns before a participant's.
_BESIDE = 3


class PostgresReading:
    """The repository of reads on Postgres."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, organization_id: str, participant_id: str) -> Participant | None:
        """Reads one participant by its id (see ReadRepository)."""
        rows = await self._database.read(queries.GET, organization_id.encode(), participant_id.encode())
        return participant(rows[0]) if rows else None

    async def lookup(self, organization_id: str, external_id: str) -> Participant | None:
        """Reads one participant by its external_id (see ReadRepository)."""
        rows = await self._database.read(queries.LOOKUP, organization_id.encode(), external_id.encode())
        return participant(rows[0]) if rows else None

    async def list(self, listing: Listing) -> Page:
        """Reads a page of a list (see ReadRepository)."""
        lead = _lead(listing.filters)
        examined = _rows_to_examine(listing, lead)
        rows = await self._database.read(
            queries.LIST[lead, listing.order, listing.descending],
            listing.filters.organization_id.encode(),
            *_created_range(listing),
            *_external_id_range(listing),
            *_filters(listing.filters),
            number(examined),
            number(listing.page_size + 1),
            number(MAX_PAGE_BYTES),
        )
        return _page(listing, rows, examined)


def _lead(filters: Filters) -> str:
    """Returns which index is to lead: that of the filter that probably keeps the fewest."""
    if filters.email:
        return "email"
    if filters.tag:
        return "tag"
    if filters.program_id:
        return "program"
    return "status" if filters.status else "all"


def _rows_to_examine(listing: Listing, lead: str) -> int:
    """Returns how many rows of the leading index to look at: one more than a page holds where all will be listed."""
    if lead in {"tag", "program"}:
        return ceil(listing.page_size * LABELS_EXAMINED_PER_LISTED)
    filters = listing.filters
    equalities = sum(map(bool, (filters.status, filters.email, filters.tag, filters.program_id)))
    across = filters.external_id_prefix != "" if listing.order == "created_at" else _names_times(filters)
    if equalities <= (lead != "all") and not across:
        return listing.page_size + 1
    return ceil(listing.page_size * EXAMINED_PER_LISTED)


def _names_times(filters: Filters) -> bool:
    return filters.created_after is not None or filters.created_before is not None


def _created_range(listing: Listing) -> Sequence[bytes]:
    """Returns the time and the id between which the list goes on, both exclusive."""
    after, before = listing.filters.created_after, listing.filters.created_before
    low = ("-infinity", _LEAST_ID) if after is None else (_time(after), _GREATEST_ID)
    high = ("infinity", _GREATEST_ID) if before is None else (_time(before), _LEAST_ID)
    if listing.order == "created_at" and listing.after is not None:
        position = (_time(listing.after.created_at), listing.after.participant_id)
        low, high = (low, position) if listing.descending else (position, high)
    return [part.encode() for part in (*low, *high)]


def _external_id_range(listing: Listing) -> Sequence[bytes]:
    """Returns the least external_id with which the list goes on, and what is greater than the greatest."""
    prefix = listing.filters.external_id_prefix
    low, high = prefix, prefix + _GREATEST_TEXT
    if listing.order == "external_id" and listing.after is not None:
        position = listing.after.external_id
        # The next text in byte order would end in U+0000, which no external_id holds.
        low, high = (low, position) if listing.descending else (position + "\x01", high)
    return [low.encode(), high.encode()]


def _filters(filters: Filters) -> Sequence[bytes | None]:
    return [
        value.encode() if value else None for value in (filters.status, filters.email, filters.tag, filters.program_id)
    ]


def _time(microseconds: int) -> str:
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat()


def _page(listing: Listing, rows: Sequence[Row], examined: int) -> Page:
    """Returns the page in the rows, of which there is one without a participant where none was found."""
    looked_at, position, found = rows[0][:_BESIDE]
    participants = [participant(row, _BESIDE) for row in rows if row[_BESIDE] is not None]
    if len(participants) < (found or 0) or len(participants) > listing.page_size:
        participants = participants[: listing.page_size]
        last = participants[-1]
        return Page(participants, Position(last.created_at, last.id, last.external_id))
    return Page(participants, _position(listing, position) if looked_at == examined else None)


def _position(listing: Listing, position: str) -> Position:
    if listing.order == "external_id":
        return Position(external_id=position)
    created_at, _, participant_id = position.partition(" ")
    return Position(created_at=int(created_at), participant_id=participant_id)
