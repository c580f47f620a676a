"""What is sent back over HTTP: answers, and the one shape of errors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from server.errors import Code, FieldViolation, ServiceError, more_violations

# So much of a body is written at once; the next when the caller has read.
PIECE_BYTES = 64 << 10


@dataclass(slots=True)
class Answer:
    """What is sent back. Without a body there is neither a type nor a length.

    Of one that is too large to be held whole, `pieces` make the body while it is sent, and its length is not known;
    `sent` is called when it is, or when its caller has gone.
    """

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    pieces: Iterator[bytes] | None = None
    sent: Callable[[], None] | None = None

    def all_headers(self, request_id: str) -> dict[str, str]:
        """Returns the headers of the answer to a request."""
        if self.status == 204:
            return {"x-request-id": request_id, **self.headers}
        length = {"content-length": str(len(self.body))} if self.pieces is None else {}
        return {"content-type": self.content_type, **length, "x-request-id": request_id, **self.headers}


class HttpError(ServiceError):
    """What is wrong with a request as far as HTTP goes. `status` and `http_code` are what no gRPC caller ever gets."""

    code = Code.INVALID_ARGUMENT

    def __init__(self, status: int, http_code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message, reason=http_code.upper())
        self.answer = Answer(status, _error_body(http_code, message), headers or {})


def answer_from_error(error: ServiceError) -> Answer:
    """Returns what the error table says of an error."""
    if isinstance(error, HttpError):
        return error.answer
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.code.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    body = _error_body(error.code.http_code, error.message, error.violations, error.more_violations)
    return Answer(error.code.http_status, body, headers)


def _error_body(code: str, message: str, violations: Sequence[FieldViolation] = (), more: int = 0) -> bytes:
    body: dict[str, Any] = {"code": code, "message": message}
    if violations:
        listed = [*violations, more_violations(more)] if more else violations
        body["details"] = {
            "fields": [
                {"field": violation.field, "reason": violation.reason, "message": violation.message}
                for violation in listed
            ]
        }
    return orjson.dumps(body)
