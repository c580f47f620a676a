"""One RPC behind HTTP: JSON in, through the interceptor, JSON out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import Message
from participants.v1.participant_service_pb2 import CreateParticipantResponse

from server.api.buffers import Buffers
from server.api.call import Interceptor, Method
from server.errors import FieldViolation, InvalidArgument
from server.gateway.answers import Answer
from server.gateway.bodies import Body, Receive
from server.gateway.deadlines import time_left
from server.gateway.decoding import MessageDecoder
from server.gateway.encoding import MessageEncoder
from server.gateway.routes import Route, Routes


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `state` is what the connection says of it, and is told of it; `peer` tells where it comes from."""

    request_id: str
    variables: Mapping[str, str]
    query: bytes
    headers: dict[str, str]
    receive: Receive
    state: dict[str, Any]
    peer: Callable[[], str]


class Endpoints:
    """The RPCs of a service, each behind its method and path."""

    def __init__(
        self, service: ServiceDescriptor, servicer: object, interceptor: Interceptor, buffers: Buffers
    ) -> None:
        self._routes = Routes(service)
        location = self._routes.template("GetParticipant")
        self._endpoints = {
            route.rpc: Endpoint(route, getattr(servicer, route.rpc), interceptor, buffers, location)
            for route in self._routes
        }

    def at(self, path: str) -> Mapping[str, tuple[Endpoint, Mapping[str, str]]]:
        """Returns, by HTTP method, the endpoints at a percent-encoded path and the variables in it."""
        return {
            method: (self._endpoints[route.rpc], variables)
            for method, (route, variables) in self._routes.find(path).items()
        }


class Endpoint:
    """Answers the requests of one route. `location` is the path template under which what is created can be read."""

    def __init__(self, route: Route, method: Method, interceptor: Interceptor, buffers: Buffers, location: str) -> None:
        self.template = route.template
        self._route = route
        self._method = method
        self._interceptor = interceptor
        self._buffers = buffers
        self._location = location
        self._decoder = MessageDecoder(route.request)
        self._encoder = MessageEncoder(_content(route))

    async def answer(self, request: Request) -> Answer:
        """Runs the RPC. Raises ServiceError."""
        body = Body.announced(request.headers, request.receive, request.state) if self._route.body else None

        async def receive(organization_id: str, deadline: float) -> Message:
            request.state["known"] = True
            _refuse_query(request.query)
            if body is None:
                return self._decoder.from_fields(request.variables)
            return await body.decoded(self._decoder.decode, self._buffers, organization_id, deadline)

        response = await self._interceptor.run(
            self._route.rpc,
            self._method,
            receive,
            request.headers,
            request_id=request.request_id,
            time_left=time_left(request.headers),
            peer=request.peer,
        )
        return self._answer(response)

    def _answer(self, response: Message) -> Answer:
        field = self._route.response_field
        body = self._encoder.encode(getattr(response, field) if field else response)
        if isinstance(response, CreateParticipantResponse) and response.result == CreateParticipantResponse.CREATED:
            return Answer(201, body, {"location": self._location.format(id=response.participant.id)})
        return Answer(200, body)


def _content(route: Route) -> Descriptor:
    if route.response_field is None:
        return route.response
    content = route.response.fields_by_name[route.response_field].message_type
    if content is None:
        raise NotImplementedError(f"the response body of {route.rpc} is no message")
    return content


def _refuse_query(query: bytes) -> None:
    if query:
        name = query.decode("latin-1").partition("=")[0][:100]
        raise InvalidArgument((FieldViolation(name, "UNKNOWN_PARAMETER", "there are no query parameters here"),))
