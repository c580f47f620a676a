"""Collects what is wrong with a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from google.rpc import status_pb2

from server.errors import MAX_VIOLATIONS, FieldViolation, InvalidArgument


class Violations:
    """The first of the violations, and how many there are: a small body can have very many.

    `batch` decodes the items of a batch, one a step, and is given where to put what is wrong with each by its number:
    such an item spoils no other.
    """

    def __init__(self) -> None:
        self._listed: list[FieldViolation] = []
        self.count = 0
        self.batch: Callable[[dict[int, status_pb2.Status]], Iterator[None]] | None = None

    def add(self, field: str, reason: str, message: str) -> None:
        """Counts one more."""
        self.count += 1
        if self.count <= MAX_VIOLATIONS:
            self._listed.append(FieldViolation(field, reason, message))

    def add_violation(self, violation: FieldViolation) -> None:
        """Counts one that is put in words already."""
        self.add(violation.field, violation.reason, violation.message)

    def raise_if_any(self) -> None:
        """Raises InvalidArgument if there are any."""
        if self.count:
            raise InvalidArgument(tuple(self._listed), more=self.count - len(self._listed))


def shown(name: str) -> str:
    """Returns a caller's key so that it can be shown: whole characters, and not too many."""
    if name.isascii() and len(name) <= 100:
        return name
    return name[:100].encode(errors="backslashreplace").decode()
