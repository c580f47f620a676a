"""The handlers that grpcio calls: each leads the calls of one RPC through the interceptor.

They are made once, where an interceptor would be run anew for every call. Every RPC is unary, and is registered as one
whose request is a stream, which is the same on the wire: so the handler has the metadata before a message is read, and
a caller without a key has none read at all.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from server.api.buffers import Buffers, Room
from server.api.call import Interceptor, request_id_from
from server.api.servicer import ParticipantServicer
from server.api.status import MAX_VIOLATION_BYTES, status_from_error
from server.errors import Internal, RequestTooLarge, ServiceError
from server.rpc.calls import Calls, Context
from server.rpc.crowding import Crowd
from server.rpc.receiving import Receiver, malformed

# What a call under way is taken to hold, and one for a list: about the answer with the largest participant, or with as
# many as a page may have, and see ANSWER_COPIES.
CALL_BYTES = 160 << 10
LIST_BYTES = 2_560 << 10
# Python holds an answer until the caller has taken it, and so does grpcio.
ANSWER_COPIES = 2
# Until a client has acknowledged this limit grpcio keeps another, 16 MiB. Many fields take few bytes on the wire where
# they are the same, and are many in memory.
MAX_METADATA_BYTES = 16 << 10
MANY_FIELDS = 32

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def service_handlers(
    service: ServiceDescriptor,
    servicer: ParticipantServicer,
    interceptor: Interceptor,
    buffers: Buffers,
    calls: Calls,
    *,
    crowd: Crowd,
) -> grpc.GenericRpcHandler:
    """Returns the handlers of all RPCs of a service."""
    receiver = Receiver(buffers)
    handlers = {
        method.name: _handler(method, servicer, interceptor, receiver, calls, crowd=crowd) for method in service.methods
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor,
    servicer: ParticipantServicer,
    interceptor: Interceptor,
    receiver: Receiver,
    calls: Calls,
    *,
    crowd: Crowd,
) -> Any:
    name = method.name
    call_method = getattr(servicer, name)
    parse = GetMessageClass(method.input_type).FromString
    call_bytes = LIST_BYTES if name == "ListParticipants" else CALL_BYTES

    async def answer(_messages: object, context: Context) -> bytes:
        room = Room(receiver.buffers)

        def close(context: Context) -> None:
            # The caller has taken the answer, or has gone.
            room.release()
            calls.close(context)

        context.add_done_callback(close)  # type: ignore[arg-type]  # grpc-stubs has a class where a function goes

        async def receive(organization_id: str, deadline: float) -> Message:
            calls.open(context)
            crowd.showed_key(context.peer(), organization_id)
            request = await receiver.receive(context, room, organization_id, deadline)
            room.resize(call_bytes)
            return _decoded(parse, request)

        fields = context.invocation_metadata() or ()
        if len(fields) > MANY_FIELDS and sum(len(name) + len(value) for name, value in fields) > MAX_METADATA_BYTES:
            calls.refuse_all(context.peer())
            error = RequestTooLarge(
                f"metadata may have at most {MAX_METADATA_BYTES} bytes", reason="METADATA_TOO_LARGE"
            )
            await _abort(context, error, request_id_from({}))
        metadata: dict[str, Any] = dict(fields)
        calls.begin()
        try:
            response = await interceptor.run(
                name, call_method, receive, metadata, time_left=context.time_remaining(), peer=context.peer
            )
            serialized = response.SerializeToString()
            size = ANSWER_COPIES * len(serialized)
            if size > call_bytes:
                room.resize(size)
            if calls.hold is not None:
                await calls.hold.wait()
        except ServiceError as error:
            if calls.hold is not None:
                await calls.hold.wait()
            request_id = (isinstance(error, Internal) and error.request_id) or request_id_from(metadata)
            await _abort(context, error, request_id)
            raise AssertionError("abort returned") from None
        else:
            return serialized
        finally:
            calls.end()

    # Messages stay bytes: grpcio would answer one that does not parse in its own words.
    return grpc.stream_unary_rpc_method_handler(answer, request_deserializer=None, response_serializer=None)


def _decoded(parse: Callable[[bytes], Message], request: bytes) -> Message:
    try:
        return parse(request)
    except DecodeError:
        raise malformed("the request is no message of this method, or not UTF-8") from None


async def _abort(context: Context, error: ServiceError, request_id: str) -> None:
    status = status_from_error(error, limit=MAX_VIOLATION_BYTES)
    metadata = [("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", request_id)]
    if error.retry_after is not None:
        # What gRPC's built-in retries read.
        metadata.append(("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))))
    await context.abort(_CODES[status.code], status.message, tuple(metadata))
