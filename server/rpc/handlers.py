"""The handlers that grpcio calls: each leads the calls of one RPC through the interceptor.

They are made once, where an interceptor would be run anew for every call. Every RPC is unary, and is registered as one
whose request is a stream, which is the same on the wire: so the handler has the metadata before a message is read, and
a caller without a key has none read at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from server.api.buffers import Buffers
from server.api.call import Interceptor, request_id_from
from server.api.servicer import ParticipantServicer
from server.api.status import MAX_VIOLATION_BYTES, status_from_error
from server.errors import DeadlineExceeded, FieldViolation, Internal, InvalidArgument, RequestTooLarge, ServiceError

# gRPC's own default, and more than a participant can hold.
MAX_REQUEST_BYTES = 4 << 20
# What grpcio reads at the most. It refuses what is larger in its own words, so a little more is read to refuse in ours.
READ_BYTES = 5 << 20
# How long a message may take to arrive, in seconds.
RECEIVE_TIMEOUT = 10.0

_CODES = {code.value[0]: code for code in grpc.StatusCode}

Context = grpc.aio.ServicerContext[Any, Any]


def service_handlers(
    service: ServiceDescriptor, servicer: ParticipantServicer, interceptor: Interceptor, buffers: Buffers
) -> grpc.GenericRpcHandler:
    """Returns the handlers of all RPCs of a service. They share one room for what is on its way."""
    handlers = {method.name: _handler(method, servicer, interceptor, buffers) for method in service.methods}
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor, servicer: ParticipantServicer, interceptor: Interceptor, buffers: Buffers
) -> Any:
    name = method.name
    call_method = getattr(servicer, name)
    parse = GetMessageClass(method.input_type).FromString

    async def answer(_messages: object, context: Context) -> bytes:
        caller = ""

        async def receive(organization_id: str, deadline: float) -> Message:
            nonlocal caller
            caller = organization_id
            return _decoded(parse, await _received(context, buffers, organization_id, deadline))

        metadata: dict[str, Any] = dict(context.invocation_metadata() or ())
        time_left = context.time_remaining()
        try:
            response = await interceptor.run(
                name, call_method, receive, metadata, time_left=time_left, peer=context.peer
            )
        except ServiceError as error:
            failure = error
        else:
            serialized = response.SerializeToString()
            size = len(serialized)
            buffers.take(caller, size)
            # Called when the caller has taken the answer, or has gone.
            context.add_done_callback(lambda _: buffers.release(caller, size))  # type: ignore[arg-type]  # as grpc-stubs has it
            return serialized
        request_id = (isinstance(failure, Internal) and failure.request_id) or request_id_from(metadata)
        await _abort(context, failure, request_id)
        raise AssertionError("abort returned")

    # Messages stay bytes: grpcio would answer one that does not parse in its own words.
    return grpc.stream_unary_rpc_method_handler(answer, request_deserializer=None, response_serializer=None)


async def _received(context: Context, buffers: Buffers, organization_id: str, deadline: float) -> bytes:
    """Returns the call's one message. Raises InvalidArgument, DeadlineExceeded and Overloaded."""
    deadline = min(deadline, asyncio.get_running_loop().time() + RECEIVE_TIMEOUT)
    # How long the message is shows when it is there.
    if not buffers.try_acquire(organization_id, READ_BYTES):
        await buffers.acquire(organization_id, READ_BYTES, deadline)
    try:
        async with asyncio.timeout_at(deadline):
            # Whether there is a second one is not asked: that costs a tenth of a call, and nobody reads it.
            request = await context.read()
    except TimeoutError:
        raise DeadlineExceeded from None
    finally:
        buffers.release(organization_id, READ_BYTES)
    if not isinstance(request, bytes):
        raise _malformed("the call ended without a message")
    if len(request) > MAX_REQUEST_BYTES:
        raise RequestTooLarge(f"a message may have at most {MAX_REQUEST_BYTES} bytes, this one has {len(request)}")
    return request


def _decoded(parse: Callable[[bytes], Message], request: bytes) -> Message:
    try:
        return parse(request)
    except DecodeError:
        raise _malformed("the request is no message of this method, or not UTF-8") from None


def _malformed(message: str) -> InvalidArgument:
    violation = FieldViolation("", "MALFORMED", message)
    return InvalidArgument((violation,), message, reason="MALFORMED_REQUEST")


async def _abort(context: Context, error: ServiceError, request_id: str) -> None:
    status = status_from_error(error, limit=MAX_VIOLATION_BYTES)
    metadata = [("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", request_id)]
    if error.retry_after is not None:
        # What gRPC's built-in retries read.
        metadata.append(("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))))
    await context.abort(_CODES[status.code], status.message, tuple(metadata))
