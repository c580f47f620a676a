"""The service's errors as google.rpc.Status, with the details that callers are promised."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from server.errors import DOMAIN, FieldViolation, ServiceError, more_violations

# gRPC sends the status in the trailing metadata, and clients refuse more than 8 KiB of that. What is beyond this
# many bytes of violations is counted instead of listed.
MAX_VIOLATION_BYTES = 5_000
MAX_MESSAGE_BYTES = 200


def status_from_error(error: ServiceError, *, limit: int | None = None) -> status_pb2.Status:
    """Returns the status that says what the error says. `limit` bounds the bytes of the violations."""
    details: list[Message] = [error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN)]
    if error.violations:
        details.append(_bad_request(error, limit))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(round(error.retry_after * 1000))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=error.code.number, message=_bounded(error.message), details=[_packed(detail) for detail in details]
    )


def _bad_request(error: ServiceError, limit: int | None) -> error_details_pb2.BadRequest:
    bad_request = error_details_pb2.BadRequest()
    size = 0
    left_out = error.more_violations
    for index, violation in enumerate(error.violations):
        size += _add(bad_request, violation).ByteSize() + 4
        if limit is not None and size > limit:
            del bad_request.field_violations[-1]
            left_out += len(error.violations) - index
            break
    if left_out:
        _add(bad_request, more_violations(left_out))
    return bad_request


def _add(
    bad_request: error_details_pb2.BadRequest, violation: FieldViolation
) -> error_details_pb2.BadRequest.FieldViolation:
    # Set in place: to make it by itself and copy it takes three times as long, and there may be very many.
    entry = bad_request.field_violations.add()
    entry.field, entry.reason, entry.description = violation.field, violation.reason, violation.message
    return entry


def _bounded(message: str) -> str:
    # A field path can hold a key of any length, and gRPC sends a byte that is not ASCII as three.
    encoded = message.encode()
    return message if len(encoded) <= MAX_MESSAGE_BYTES else encoded[:MAX_MESSAGE_BYTES].decode(errors="ignore") + "…"


def _packed(message: Message) -> Any:
    packed = Any()
    packed.Pack(message)
    return packed
