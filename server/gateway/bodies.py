"""Takes in the body of a request, whose caller is known by then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from email.message import Message as HeaderParser
from typing import Any

from server.api.buffers import Buffers, Room
from server.errors import DeadlineExceeded
from server.gateway.answers import HttpError

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

MAX_BODY_BYTES = 1 << 20
# How long a caller may take to send its body, in seconds.
BODY_TIMEOUT = 10.0
# Python's parser takes seconds for the parameters of a longer one, and it runs before the caller is known.
MAX_TYPE_LENGTH = 256


@dataclass(frozen=True, slots=True)
class Body:
    """A body that may still be on its way. `size` is the most bytes it can have; `state` has `complete` when it is
    here."""

    size: int
    receive: Receive
    state: Mapping[str, Any]

    @classmethod
    def announced(cls, headers: Mapping[str, str], receive: Receive, state: Mapping[str, Any]) -> Body:
        """Returns the body that the headers announce. Raises HttpError where it would not be taken."""
        _check_type(headers)
        return cls(_announced_size(headers), receive, state)

    async def received(self, buffers: Buffers, organization_id: str, deadline: float) -> bytes:
        """Returns the body. Raises ServiceError.

        `deadline` is the caller's own, on the event loop's clock, and infinite for one that has set none.
        A body that is still on its way holds room in `buffers`, so that all that is on its way is bounded.
        """
        if "complete" in self.state:
            return await _read(self.receive)
        latest = asyncio.get_running_loop().time() + BODY_TIMEOUT
        room = Room(buffers)
        await room.acquire(organization_id, self.size, min(deadline, latest))
        try:
            async with asyncio.timeout_at(min(deadline, latest)):
                return await _read(self.receive)
        except TimeoutError:
            if deadline < latest:
                raise DeadlineExceeded from None
            raise HttpError(
                408, "request_timeout", "the body did not arrive in time", {"connection": "close"}
            ) from None
        finally:
            room.release()


def _check_type(headers: Mapping[str, str]) -> None:
    """Raises HttpError unless the body is said to be plain JSON in UTF-8."""
    encoding = headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise HttpError(
            415,
            "unsupported_media_type",
            f"the Content-Encoding {_shown(encoding)} is not taken: send the body as it is",
            {"accept-encoding": "identity"},
        )
    given = headers.get("content-type", "")
    if given == "application/json":
        return
    if len(given) > MAX_TYPE_LENGTH or not _is_json(given):
        raise HttpError(415, "unsupported_media_type", "the Content-Type must be application/json")


def _is_json(content_type: str) -> bool:
    parser = HeaderParser()
    parser["content-type"] = content_type
    charset = parser.get_param("charset", "utf-8")
    return parser.get_content_type() == "application/json" and str(charset).lower() in {"utf-8", "utf8"}


def _shown(value: str) -> str:
    return value[:50].encode("ascii", "backslashreplace").decode()


def _announced_size(headers: Mapping[str, str]) -> int:
    """Returns the most bytes that the body can have."""
    length = headers.get("content-length", "")
    if not length.isdecimal():
        return MAX_BODY_BYTES
    digits = length.lstrip("0")
    # Python converts no number of very many digits.
    if len(digits) > len(str(MAX_BODY_BYTES)) or int(digits or "0") > MAX_BODY_BYTES:
        raise _too_large()
    return int(digits or "0")


async def _read(receive: Receive) -> bytes:
    message = await _received(receive)
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        parts = bytearray(body)
        while message.get("more_body") and len(parts) <= MAX_BODY_BYTES:
            message = await _received(receive)
            parts += message.get("body", b"")
        body = bytes(parts)
    if len(body) > MAX_BODY_BYTES:
        raise _too_large()
    return body


async def _received(receive: Receive) -> MutableMapping[str, Any]:
    message = await receive()
    if message["type"] == "http.disconnect":
        raise asyncio.CancelledError
    return message


def _too_large() -> HttpError:
    return HttpError(
        413, "payload_too_large", f"the body must be at most {MAX_BODY_BYTES} bytes", {"connection": "close"}
    )
