"""One RPC behind HTTP: JSON in, through the interceptor, JSON out."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from google.rpc import status_pb2
from participants.v1.participant_service_pb2 import CreateParticipantResponse

from server.api.batch_answers import BatchAnswer
from server.api.buffers import Buffers
from server.api.call import Call, Interceptor, Method, Response
from server.api.stints import LARGE_BYTES
from server.gateway.answers import Answer
from server.gateway.bodies import Body, Receive
from server.gateway.deadlines import time_left
from server.gateway.decoding import MessageDecoder
from server.gateway.encoding import MessageEncoder
from server.gateway.parameters import Parameters
from server.gateway.routes import Route, Routes, answered, basic_view

# Of a batch's answer that takes more, as a message, the JSON is made while it is sent; in bytes.
MAX_WHOLE_BYTES = 1 << 20
# What a byte of a body may take while that is parsed: three may be a value, of which Python makes an object.
PARSED_BYTES = 32


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `state` is what the connection says of it, and has `known`, which is to be told whose it is; `peer`
    tells where it comes from."""

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
        self._parameters = Parameters(route.request, route.bound_fields)
        self._encoder = MessageEncoder(answered(route))
        # Of what a caller has not asked for, nothing is said: not that it is empty.
        self._basic_encoder = MessageEncoder(answered(route), with_empty=False)
        self._basic_view = basic_view(route.request)

    async def answer(self, request: Request) -> Answer:
        """Runs the RPC. Raises ServiceError."""
        is_basic = False
        refused: dict[int, status_pb2.Status] = {}
        waits = time_left(request.headers)
        body = Body.announced(request.headers, request.receive, request.state) if self._route.body else None

        async def receive(organization_id: str, deadline: float) -> Message:
            nonlocal is_basic
            fields = {**self._parameters.read(request.query), **request.variables}
            if body is None:
                return self._decoder.from_fields(fields)
            own_deadline = math.inf if waits is None else deadline
            received = await body.received(self._buffers, organization_id, own_deadline)
            if len(received) > LARGE_BYTES:
                steps = self._steps_of_large(organization_id, received, fields, refused)
                message = await self._interceptor.stints.run(steps, deadline)
            else:
                message = self._decoder.decode(received, fields, refused)
            is_basic = self._basic_view is not None and getattr(message, "view", None) == self._basic_view
            return message

        def method(message: Message, call: Call) -> Awaitable[Response]:
            call.refused = refused
            return self._method(message, call)

        response = await self._interceptor.run(
            self._route.rpc,
            method,
            receive,
            request.headers,
            request_id=request.request_id,
            time_left=waits,
            peer=request.peer,
            known=request.state["known"],
            is_large=body is not None and body.size > LARGE_BYTES,
        )
        return self._answer(response, self._basic_encoder if is_basic else self._encoder)

    def _steps_of_large(
        self, organization_id: str, body: bytes, fields: Mapping[str, Any], refused: dict[int, status_pb2.Status]
    ) -> Generator[Message | None]:
        # Whether or not there is room: lest it pass for memory that nobody accounts for.
        with self._buffers.changed(organization_id, PARSED_BYTES * len(body)):
            yield from self._decoder.steps(body, fields, refused)

    def _answer(self, response: Response, encoder: MessageEncoder) -> Answer:
        if isinstance(response, BatchAnswer):
            if response.size > MAX_WHOLE_BYTES:
                pieces = encoder.encode_in_pieces(response.messages())
                return Answer(200, b"", pieces=pieces, sent=response.room.release)
            response.room.release()
            response = response.whole()
        if isinstance(response, Empty):
            return Answer(204, b"")
        field = self._route.response_field
        body = encoder.encode(getattr(response, field) if field else response)
        if isinstance(response, CreateParticipantResponse) and response.result == CreateParticipantResponse.CREATED:
            return Answer(201, body, {"location": self._location.format(id=response.participant.id)})
        return Answer(200, body)
