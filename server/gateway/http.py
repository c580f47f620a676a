"""The HTTP side of a request and an answer: headers, bodies, and the one shape of errors."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.message import Message as HeaderParser
from typing import Any

import orjson

from server.errors import FieldViolation, ServiceError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES = 1 << 20
# How long a caller may take to send its body, in seconds.
BODY_TIMEOUT = 10.0


@dataclass(slots=True)
class Answer:
    """What is sent back."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"

    def all_headers(self, request_id: str) -> dict[str, str]:
        """Returns the headers of the answer to a request."""
        return {
            "content-type": self.content_type,
            "content-length": str(len(self.body)),
            "x-request-id": request_id,
            **self.headers,
        }


class HttpError(Exception):
    """What is wrong with a request before it is any RPC's."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.answer = Answer(status, _error_body(code, message), headers or {})


class Disconnected(Exception):
    """The caller has gone; there is nobody to answer."""


def answer_from_error(error: ServiceError) -> Answer:
    """Returns what the error table says of an error."""
    headers = {}
    if error.retry_after is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after))
    if error.code.http_status == 401:
        headers["www-authenticate"] = "Bearer"
    body = _error_body(error.code.http_code, error.message, error.violations)
    return Answer(error.code.http_status, body, headers)


def _error_body(code: str, message: str, violations: Sequence[FieldViolation] = ()) -> bytes:
    body: dict[str, Any] = {"code": code, "message": message}
    if violations:
        body["details"] = {
            "fields": [
                {"field": violation.field, "reason": violation.reason, "message": violation.message}
                for violation in violations
            ]
        }
    return orjson.dumps(body)


def check_content_type(headers: Mapping[str, str]) -> None:
    """Raises HttpError unless the body is said to be JSON in UTF-8."""
    given = headers.get("content-type", "")
    if given == "application/json":
        return
    parser = HeaderParser()
    parser["content-type"] = given
    charset = parser.get_param("charset", "utf-8")
    if parser.get_content_type() != "application/json" or str(charset).lower() not in {"utf-8", "utf8"}:
        raise HttpError(415, "unsupported_media_type", "the Content-Type must be application/json")


async def read_body(headers: Mapping[str, str], receive: Receive) -> bytes:
    """Returns the request's body. Raises HttpError when it is too large or too slow, and Disconnected."""
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > MAX_BODY_BYTES:
        raise _too_large()
    first = await _received(receive)
    if not first.get("more_body"):
        body: bytes = first.get("body", b"")
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
        return body
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            return await _rest_of_body(bytearray(first["body"]), receive)
    except TimeoutError:
        raise HttpError(408, "request_timeout", f"the body did not arrive within {BODY_TIMEOUT:.0f} s") from None


async def _rest_of_body(body: bytearray, receive: Receive) -> bytes:
    more = True
    while more:
        message = await _received(receive)
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MAX_BODY_BYTES:
            raise _too_large()
    return bytes(body)


async def _received(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise Disconnected
    return message


def _too_large() -> HttpError:
    # What is left of the body is not read, so the connection cannot be used again.
    return HttpError(
        413, "payload_too_large", f"the body must be at most {MAX_BODY_BYTES} bytes", {"connection": "close"}
    )


@asynccontextmanager
async def cancelled_when_caller_goes(receive: Receive) -> AsyncIterator[None]:
    """Cancels what runs inside when the caller disconnects, which then comes out as Disconnected."""
    caller_is_gone = False
    running = asyncio.current_task()
    assert running is not None

    async def watch() -> None:
        nonlocal caller_is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        caller_is_gone = True
        running.cancel()

    watcher = asyncio.get_running_loop().create_task(watch())
    try:
        yield
    except asyncio.CancelledError:
        if caller_is_gone:
            running.uncancel()
            raise Disconnected from None
        raise
    finally:
        watcher.cancel()
