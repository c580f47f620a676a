"""What a participant as a whole may hold, and how more of it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.errors import FieldViolation, InvalidArgument
from server.participants.model import MAX_ATTRIBUTE_BYTES, MAX_ATTRIBUTES, MAX_PROGRAMS, MAX_TAG_BYTES, MAX_TAGS


def check_totals(attributes: Mapping[str, str], tags: Sequence[str]) -> None:
    """Raises InvalidArgument where these attributes and normalized tags alone are more than a participant may hold.

    For who has no database to ask: there a participant that is larger already, as of before there were these limits,
    may be sent what it has.
    """
    if sum(len(key.encode()) + len(value.encode()) for key, value in attributes.items()) > MAX_ATTRIBUTE_BYTES:
        raise attributes_too_large()
    if sum(len(tag.encode()) for tag in tags) > MAX_TAG_BYTES:
        raise tags_too_large()


def too_many_attributes() -> InvalidArgument:
    """Returns what is raised of too many keys."""
    return _refused("attributes", "TOO_MANY_ATTRIBUTES", f"have more than {MAX_ATTRIBUTES} attributes")


def attributes_too_large() -> InvalidArgument:
    """Returns what is raised of too many bytes of keys and values."""
    what = f"have attributes of more than {MAX_ATTRIBUTE_BYTES} bytes, keys and values together"
    return _refused("attributes", "ATTRIBUTES_TOO_LARGE", what)


def too_many_tags() -> InvalidArgument:
    """Returns what is raised of too many tags."""
    return _refused("tags", "TOO_MANY_TAGS", f"have more than {MAX_TAGS} tags")


def tags_too_large() -> InvalidArgument:
    """Returns what is raised of too many bytes of tags."""
    return _refused("tags", "TAGS_TOO_LARGE", f"have tags of more than {MAX_TAG_BYTES} bytes")


def too_many_programs() -> InvalidArgument:
    """Returns what is raised of one enrollment too many."""
    return _refused("program_id", "TOO_MANY_PROGRAMS", f"be enrolled in more than {MAX_PROGRAMS} programs")


def _refused(field: str, reason: str, what: str) -> InvalidArgument:
    return InvalidArgument((FieldViolation(field, reason, f"the participant would {what}"),))
