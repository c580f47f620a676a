"""Checks rows by the service's rules without the service."""

from __future__ import annotations

from collections.abc import Iterable

from server.errors import InvalidArgument
from server.importer.rows import Row
from server.importer.sender import REJECTED, Report
from server.participants.limits import check_totals
from server.participants.service import normalized_tags

VALID = "VALID"


def check(rows: Iterable[Row], report: Report) -> None:
    """Reports each row as VALID, or as REJECTED and why. What only the database knows, such as whether a program
    exists, is not looked at."""
    # protovalidate takes longer to import than most imports take: only this needs it.
    from server.api.validation import validate  # noqa: PLC0415

    for row in rows:
        problem = row.problem
        if not problem:
            try:
                validate(row.request)
                check_totals(row.request.attributes, normalized_tags(row.request.tags))
            except InvalidArgument as error:
                problem = error.message
        report(row, REJECTED if problem else VALID, problem)
