"""The service's own errors, and the one table that says how each looks over gRPC and over HTTP."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

DOMAIN = "participants.v1"


class Code(Enum):
    """Number in google.rpc.Code, HTTP status, and the `code` of the JSON error body."""

    INVALID_ARGUMENT = (3, 400, "bad_request")
    UNAUTHENTICATED = (16, 401, "unauthorized")
    PERMISSION_DENIED = (7, 403, "forbidden")
    NOT_FOUND = (5, 404, "not_found")
    ALREADY_EXISTS = (6, 409, "already_exists")
    FAILED_PRECONDITION = (9, 409, "failed_precondition")
    ABORTED = (10, 409, "conflict")
    RESOURCE_EXHAUSTED = (8, 429, "too_many_requests")
    UNAVAILABLE = (14, 503, "unavailable")
    DEADLINE_EXCEEDED = (4, 504, "deadline_exceeded")
    INTERNAL = (13, 500, "internal")

    def __init__(self, number: int, http_status: int, http_code: str) -> None:
        self.number = number
        self.http_status = http_status
        self.http_code = http_code


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing that is wrong with a request: a path such as `tags[2]`, an UPPER_SNAKE_CASE reason, a sentence."""

    field: str
    reason: str
    message: str


# So many violations are listed, and the rest counted.
MAX_VIOLATIONS = 100


def more_violations(count: int) -> FieldViolation:
    """Returns what stands in the place of those that are not listed."""
    return FieldViolation("", "MORE_VIOLATIONS", f"{count} more violations are not listed")


class ServiceError(Exception):
    """What a caller is told. `message` and `reason` are public: no SQL, no driver text, no stack.

    `retry_after` is in seconds, and None where sending the same request again makes no sense.
    """

    code: Code = Code.INTERNAL
    reason: str = "INTERNAL"
    retry_after: float | None = None
    violations: tuple[FieldViolation, ...] = ()
    more_violations: int = 0

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if reason is not None:
            self.reason = reason


class InvalidArgument(ServiceError):
    """The request breaks a rule; every violation is reported at once, or, where there are very many, counted.

    `more` counts violations beside those given.
    """

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_FIELDS"

    def __init__(
        self,
        violations: tuple[FieldViolation, ...],
        message: str | None = None,
        *,
        reason: str | None = None,
        more: int = 0,
    ) -> None:
        super().__init__(message or _sentence(violations, len(violations) + more), reason=reason)
        self.violations = violations[:MAX_VIOLATIONS]
        self.more_violations = len(violations) + more - len(self.violations)


def _sentence(violations: tuple[FieldViolation, ...], count: int) -> str:
    first = f"{violations[0].field}: {violations[0].message}"
    return first if count == 1 else f"{first} (and {count - 1} more)"


class Unauthenticated(ServiceError):
    """There is no usable key. One message for every cause, so that nobody can probe which keys exist."""

    code = Code.UNAUTHENTICATED
    reason = "API_KEY_INVALID"

    def __init__(self) -> None:
        super().__init__("a valid API key is required, as x-api-key or authorization: Bearer")


class NotFound(ServiceError):
    """There is no such thing, or it belongs to another organization: the caller cannot tell which."""

    code = Code.NOT_FOUND


class AlreadyExists(ServiceError):
    """Another participant of the organization has the external_id that the request wants."""

    code = Code.ALREADY_EXISTS
    reason = "EXTERNAL_ID_TAKEN"

    def __init__(self) -> None:
        super().__init__("another participant has this external_id")


class EtagMismatch(ServiceError):
    """The participant is no longer as the caller saw it. To be read again, so the same request makes no sense."""

    code = Code.ABORTED
    reason = "ETAG_MISMATCH"

    def __init__(self) -> None:
        super().__init__("the participant has changed: the etag is no longer current")


class Conflict(ServiceError):
    """Another transaction holds what the request wants to write, and did not let go in time."""

    code = Code.ABORTED
    reason = "PARTICIPANT_LOCKED"
    retry_after = 0.5


class Overloaded(ServiceError):
    """More requests wait than the service will hold."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUEUE_FULL"
    retry_after = 1.0


class RequestTooLarge(ServiceError):
    """The message is larger than any that the service takes."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "REQUEST_TOO_LARGE"


class Unavailable(ServiceError):
    """The database cannot be reached now. Whether a write under way was committed is unknown; sending the same
    request again is safe."""

    code = Code.UNAVAILABLE
    reason = "DATABASE_UNAVAILABLE"
    retry_after = 1.0

    def __init__(self) -> None:
        super().__init__("the database is not available; retry")


class DeadlineExceeded(ServiceError):
    """The caller's deadline, or the service's own for callers that set none, has passed."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"

    def __init__(self) -> None:
        super().__init__("the deadline has passed")


class Internal(ServiceError):
    """A fault of the service. The caller is told the request id and nothing else; the log has the rest.

    Where the fault is found the request is not known; whoever answers the call names it.
    """

    def __init__(self, request_id: str | None = None) -> None:
        super().__init__("internal error" if request_id is None else f"internal error, request id {request_id}")
        self.request_id = request_id


class CommandError(Exception):
    """A command cannot do what it was asked to. The message says why and what to do, in one line."""
