"""Collects what is wrong with a request."""

from __future__ import annotations

from google.rpc import status_pb2

from server.errors import MAX_VIOLATIONS, FieldViolation, InvalidArgument


class Violations:
    """The first of the violations, and how many there are: a small body can have very many.

    `refused` is what is said of items that are wrong by themselves and spoil no other, by their number in the request.
    """

    def __init__(self, refused: dict[int, status_pb2.Status] | None = None) -> None:
        self._listed: list[FieldViolation] = []
        self.count = 0
        self.refused = {} if refused is None else refused

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
    return name[:100].encode(errors="backslashreplace").decode()
