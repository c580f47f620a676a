"""One RPC behind HTTP: JSON in, through the interceptor, JSON out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from participants.v1.participant_service_pb2 import CreateParticipantResponse

from server.api.call import Interceptor, Method
from server.errors import FieldViolation, InvalidArgument
from server.gateway.decoding import MessageDecoder
from server.gateway.encoding import MessageEncoder
from server.gateway.http import Answer, Receive, cancelled_when_caller_goes, check_content_type, read_body
from server.gateway.routes import Route


class Endpoint:
    """Answers the requests of one route. `location` is the path template under which what is created can be read."""

    def __init__(self, route: Route, method: Method, interceptor: Interceptor, location: str) -> None:
        self._route = route
        self._method = method
        self._pipeline = interceptor
        self._location = location
        self._decoder = MessageDecoder(route.request)
        self._encoder = MessageEncoder(_content(route))

    async def answer(
        self,
        variables: Mapping[str, str],
        query: bytes,
        headers: dict[str, str],
        receive: Receive,
        *,
        request_id: str,
        peer: Callable[[], str],
    ) -> Answer:
        """Runs the RPC. Raises HttpError, ServiceError and Disconnected."""
        body = b""
        if self._route.body:
            check_content_type(headers)
            body = await read_body(headers, receive)

        async def receive_request(_organization_id: str, _deadline: float) -> Message:
            _refuse_query(query)
            return self._decoder.decode(body) if self._route.body else self._decoder.from_fields(variables)

        async with cancelled_when_caller_goes(receive):
            response = await self._pipeline.run(
                self._route.rpc,
                self._method,
                receive_request,
                headers,
                request_id=request_id,
                time_left=None,
                peer=peer,
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
