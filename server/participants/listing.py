"""A list of participants: what is asked for, and the page token that goes on where a page ended."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import orjson

from server.errors import FieldViolation, InvalidArgument
from server.participants.model import Participant

DEFAULT_PAGE_SIZE: Final = 50
MAX_PAGE_SIZE: Final = 200
# The years 1 to 9999, in microseconds since 1970.
LEAST_TIME: Final = -62_135_596_800_000_000
GREATEST_TIME: Final = 253_402_300_799_999_999

_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_LEAST_ID = "00000000-0000-0000-0000-000000000000"


@dataclass(frozen=True, slots=True)
class Filters:
    """Which participants of an organization to list: those that pass all filters. Empty and None filter nothing.

    Times are microseconds since 1970, UTC; what was created at these very times is not listed.
    """

    organization_id: str
    status: str | None = None
    program_id: str = ""
    tag: str = ""
    email: str = ""
    external_id_prefix: str = ""
    created_after: int | None = None
    created_before: int | None = None


@dataclass(frozen=True, slots=True)
class Position:
    """The participant after which a page begins: by its time and id, or by its external_id, whichever the order is."""

    created_at: int = 0
    participant_id: str = ""
    external_id: str = ""


@dataclass(frozen=True, slots=True)
class Listing:
    """A page that is asked for, in the order of `created_at` or `external_id`. `after` is None for the first."""

    filters: Filters
    order: str
    descending: bool
    page_size: int
    after: Position | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A page. `end` is where the next one begins, also after an empty page; None when this is the last."""

    participants: Sequence[Participant]
    end: Position | None


def listing(filters: Filters, order_by: str, page_size: int, page_token: str) -> Listing:
    """Returns the page that a request asks for.

    `order_by` is empty or the name of an order, followed by ` desc` or not. Raises InvalidArgument for a token that
    was not made for these filters and this order (AIP-158).
    """
    order, _, direction = order_by.partition(" ")
    size = min(page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
    first = Listing(filters, order or "created_at", direction == "desc", size)
    return replace(first, after=_position(page_token, first)) if page_token else first


def page_token(listing: Listing, end: Position) -> str:
    """Returns what a caller sends to get the page after `end`."""
    content = [_fingerprint(listing), end.created_at, end.participant_id, end.external_id]
    return base64.urlsafe_b64encode(orjson.dumps(content)).decode().rstrip("=")


def _position(token: str, listing: Listing) -> Position:
    try:
        padded = token.encode() + b"=" * (-len(token) % 4)
        made_for, created_at, participant_id, external_id = orjson.loads(base64.b64decode(padded, b"-_", validate=True))
    except (binascii.Error, ValueError, TypeError):
        raise _refused("is no token of a page", "PAGE_TOKEN_MALFORMED") from None
    if made_for != _fingerprint(listing):
        raise _refused("was made for other filters or another order", "PAGE_TOKEN_MISMATCH")
    if not (_is_time(created_at) and _is_id(participant_id) and _is_text(external_id)):
        # Anybody can make one with the right fingerprint.
        raise _refused("is no token of a page", "PAGE_TOKEN_MALFORMED")
    return Position(created_at, participant_id or _LEAST_ID, external_id)


def _is_time(value: object) -> bool:
    return isinstance(value, int) and LEAST_TIME <= value <= GREATEST_TIME


def _is_id(value: object) -> bool:
    return isinstance(value, str) and (not value or _ID.fullmatch(value) is not None)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and "\0" not in value


def _refused(message: str, reason: str) -> InvalidArgument:
    return InvalidArgument((FieldViolation("page_token", reason, message),))


def _fingerprint(listing: Listing) -> str:
    """Returns a hash of what a token is made for."""
    content = orjson.dumps([listing.filters, listing.order, listing.descending])
    return hashlib.blake2b(content, digest_size=12).hexdigest()
