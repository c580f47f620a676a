"""The ASGI application: which path leads where, and one shape for whatever comes back."""

from __future__ import annotations

import time

from google.protobuf.descriptor import ServiceDescriptor

from server.api.call import Interceptor, request_id_from
from server.errors import ServiceError
from server.gateway.endpoint import Endpoint
from server.gateway.http import Answer, Disconnected, HttpError, Receive, Scope, Send, answer_from_error
from server.gateway.routes import Routes
from server.operations.health import Health
from server.operations.metrics import Metrics


class Gateway:
    """Answers HTTP callers as the servicer answers gRPC's, and `/livez`, `/readyz` and `/metrics`."""

    def __init__(
        self, service: ServiceDescriptor, servicer: object, interceptor: Interceptor, health: Health, metrics: Metrics
    ) -> None:
        self._routes = Routes(service)
        self._endpoints = {
            route.rpc: Endpoint(
                route, getattr(servicer, route.rpc), interceptor, self._routes.template("GetParticipant")
            )
            for route in self._routes
        }
        self._health = health
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, as ASGI has it."""
        started = time.perf_counter()
        # Of a header that is sent twice the last counts.
        headers: dict[str, str] = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = request_id_from(headers)
        try:
            answer = await self._answer(scope, headers, receive, request_id)
        except Disconnected:
            return
        except HttpError as error:
            answer = error.answer
        except ServiceError as error:
            answer = answer_from_error(error)
        await _send(answer, request_id, send)
        # The route is known by its template: whoever calls may choose the path, and so make no end of time series.
        seconds = time.perf_counter() - started
        self._metrics.http(scope["method"], scope.get("route", ""), answer.status, seconds)

    async def _answer(self, scope: Scope, headers: dict[str, str], receive: Receive, request_id: str) -> Answer:
        path = scope["raw_path"].decode("latin-1").partition("?")[0]
        http_method = "GET" if scope["method"] == "HEAD" else scope["method"]
        operational = self._operational(path)
        if operational is not None:
            scope["route"] = path
            if http_method != "GET":
                raise _method_not_allowed(["GET"])
            return operational
        found = self._routes.find(path)
        if not found:
            raise HttpError(404, "not_found", "there is nothing at this path")
        scope["route"] = next(iter(found.values()))[0].template
        if http_method not in found:
            raise _method_not_allowed(sorted(found))
        route, variables = found[http_method]
        return await self._endpoints[route.rpc].answer(
            variables, scope["query_string"], headers, receive, request_id=request_id, peer=lambda: _peer(scope)
        )

    def _operational(self, path: str) -> Answer | None:
        match path:
            case "/livez":
                return Answer(200, b'{"status":"live"}')
            case "/readyz" if self._health.ready:
                return Answer(200, b'{"status":"ready"}')
            case "/readyz":
                return Answer(503, b'{"status":"not ready"}')
            case "/metrics":
                return Answer(200, self._metrics.exposition(), content_type=Metrics.CONTENT_TYPE)
            case _:
                return None


def _peer(scope: Scope) -> str:
    # In grpcio's form, as the peers of gRPC have it.
    host, port = scope.get("client") or ("", 0)
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"


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
    await send({"type": "http.response.body", "body": answer.body})
