"""The handlers that grpcio calls: each leads the calls of one RPC through the interceptor.

They are made once, where an interceptor would be run anew for every call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from server.api.call import Interceptor, request_id_from
from server.api.servicer import ParticipantServicer
from server.api.status import MAX_VIOLATION_BYTES, status_from_error
from server.errors import FieldViolation, Internal, InvalidArgument, ServiceError

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def service_handlers(
    service: ServiceDescriptor, servicer: ParticipantServicer, interceptor: Interceptor
) -> grpc.GenericRpcHandler:
    """Returns the handlers of all RPCs of a service."""
    handlers = {method.name: _handler(method, servicer, interceptor) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(method: MethodDescriptor, servicer: ParticipantServicer, interceptor: Interceptor) -> Any:
    name = method.name
    call_method = getattr(servicer, name)
    parse = GetMessageClass(method.input_type).FromString

    async def answer(request: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> Message:
        async def receive(_organization_id: str, _deadline: float) -> Message:
            return _decoded(parse, request)

        metadata = dict(context.invocation_metadata() or ())
        time_left = context.time_remaining()
        try:
            return await interceptor.run(name, call_method, receive, metadata, time_left=time_left)
        except ServiceError as error:
            failure = error
        request_id = (isinstance(failure, Internal) and failure.request_id) or request_id_from(metadata)
        await _abort(context, failure, request_id)
        raise AssertionError("abort returned")

    # The request is left as bytes: grpcio would answer one that does not parse in its own words.
    return grpc.unary_unary_rpc_method_handler(
        answer, request_deserializer=None, response_serializer=GetMessageClass(method.output_type).SerializeToString
    )


def _decoded(parse: Callable[[bytes], Message], request: bytes) -> Message:
    try:
        return parse(request)
    except DecodeError:
        violation = FieldViolation("", "MALFORMED", "the request is no message of this method, or not UTF-8")
        raise InvalidArgument((violation,), violation.message, reason="MALFORMED_REQUEST") from None


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: ServiceError, request_id: str) -> None:
    status = status_from_error(error, limit=MAX_VIOLATION_BYTES)
    await context.abort(
        _CODES[status.code],
        status.message,
        (("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", request_id)),
    )
