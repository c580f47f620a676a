"""The ASGI application: which path leads where, and one shape for whatever comes back."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from server.api.call import request_id_from
from server.errors import Code, Internal, ServiceError
from server.gateway.answers import PIECE_BYTES, Answer, HttpError, answer_from_error
from server.gateway.bodies import Receive
from server.gateway.docs import Docs
from server.gateway.endpoint import Endpoints, Request
from server.gateway.operations import Operations
from server.operations.metrics import Metrics

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Gateway:
    """Answers HTTP callers as the servicer answers gRPC's, what operators ask, and what readers of the API ask; without
    endpoints operators alone."""

    def __init__(
        self, operations: Operations, metrics: Metrics, endpoints: Endpoints | None = None, docs: Docs | None = None
    ) -> None:
        self._operations = operations
        self._metrics = metrics
        self._endpoints = endpoints
        self._docs = docs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it. It is cancelled when the caller has gone, or is cut off."""
        started = time.perf_counter()
        # Of a header that is sent twice the last counts.
        headers: dict[str, str] = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = request_id_from(headers)
        try:
            answer = await self._answer(scope, headers, receive, request_id)
        except ServiceError as error:
            answer = answer_from_error(error)
        except asyncio.CancelledError:
            if "cut_off" not in scope["state"]:
                return
            answer = answer_from_error(_cut_off())
        except Exception:
            # What goes wrong with an RPC has been found before; this is HTTP's own.
            logger.exception("a request over HTTP failed, request id %s", request_id)
            answer = answer_from_error(Internal(request_id))
        if answer.pieces is not None and scope["http_version"] == "1.0":
            # Whose bodies have a length, or end with the connection.
            answer.body, answer.pieces = b"".join(answer.pieces), None
        if self._operations.draining:
            answer.headers["connection"] = "close"
        try:
            await _send(answer, request_id, send)
        except asyncio.CancelledError:
            return
        finally:
            if answer.sent is not None:
                answer.sent()
        # The route is known by its template: whoever calls may choose the path, and so make no end of time series.
        seconds = time.perf_counter() - started
        self._metrics.http(scope["method"], scope.get("route", ""), answer.status, seconds)

    async def _answer(self, scope: Scope, headers: dict[str, str], receive: Receive, request_id: str) -> Answer:
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        http_method = "GET" if scope["method"] == "HEAD" else scope["method"]
        page = self._operations.answer(path) or (self._docs.answer(path) if self._docs else None)
        if page is not None:
            scope["route"] = path
            if http_method != "GET":
                raise _method_not_allowed(["GET"])
            return page
        found = self._endpoints.at(path) if self._endpoints else {}
        if not found:
            raise HttpError(404, "not_found", "there is nothing at this path")
        scope["route"] = next(iter(found.values()))[0].template
        if http_method not in found:
            raise _method_not_allowed(sorted(found))
        endpoint, variables = found[http_method]
        request = Request(
            request_id,
            variables,
            scope["query_string"],
            headers,
            receive,
            scope["state"],
            peer=lambda: _peer(scope),
        )
        return await endpoint.answer(request)


def _peer(scope: Scope) -> str:
    # In grpcio's form, as the peers of gRPC have it.
    host, port = scope.get("client") or ("", 0)
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


def _cut_off() -> HttpError:
    headers = {"retry-after": "1", "connection": "close"}
    code = Code.UNAVAILABLE
    return HttpError(
        code.http_status, code.http_code, "the connection had to end before there was an answer; retry", headers
    )


def _method_not_allowed(allowed: list[str]) -> HttpError:
    methods = ", ".join(allowed)
    return HttpError(405, "method_not_allowed", f"this path answers {methods}", {"allow": methods})


async def _send(answer: Answer, request_id: str, send: Send) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [(name.encode(), value.encode()) for name, value in answer.all_headers(request_id).items()],
        }
    )
    for part in answer.pieces or ():
        await _send_body(part, send, more=True)
        # While nobody has to be waited for, others have their turn.
        await asyncio.sleep(0)
    await _send_body(answer.body, send)


async def _send_body(body: bytes, send: Send, *, more: bool = False) -> None:
    sent = 0
    while len(body) - sent > PIECE_BYTES:
        await send({"type": "http.response.body", "body": body[sent : sent + PIECE_BYTES], "more_body": True})
        sent += PIECE_BYTES
    await send({"type": "http.response.body", "body": body[sent:], "more_body": more})
