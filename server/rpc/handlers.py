"""The handlers that grpcio calls: each leads the calls of one RPC through the interceptor.

What answers an RPC is made once, where an interceptor would be run anew for every call. Every RPC is unary, and is
registered as one whose request is a stream, which is the same on the wire: so the handler has the metadata before a
message is read, and a caller without a key has none read at all.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from server.api.buffers import Buffers, Room
from server.api.call import Interceptor, request_id_from
from server.api.servicer import ParticipantServicer
from server.api.status import MAX_VIOLATION_BYTES, status_from_error
from server.errors import Internal, RequestTooLarge, ServiceError
from server.rpc.callers import Callers
from server.rpc.calls import Calls, Context
from server.rpc.compression import plain
from server.rpc.receiving import MAX_REQUEST_BYTES, Receiver, malformed

# What a call under way is taken to hold, and one for a list: about the answer with the largest participant, or with as
# many as a page may have, and see ANSWER_COPIES.
CALL_BYTES = 160 << 10
LIST_BYTES = 2_560 << 10
# Python holds an answer until the caller has taken it, and so does grpcio.
ANSWER_COPIES = 2
# Until a client has acknowledged this limit grpcio keeps another, 16 MiB. Many fields take few bytes on the wire where
# they are the same, and are many in memory.
MAX_METADATA_BYTES = 16 << 10
# What a field counts beside its value: its name, and what RFC 7541, section 4.1, adds.
FIELD_BYTES = 32

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def service_handlers(
    service: ServiceDescriptor,
    servicer: ParticipantServicer,
    interceptor: Interceptor,
    *,
    buffers: Buffers,
    calls: Calls,
    callers: Callers,
) -> grpc.GenericRpcHandler:
    """Returns the handlers of all RPCs of a service. They have to come before those of any other."""
    receiver = Receiver(buffers)
    answers = {
        f"/{service.full_name}/{method.name}": _answer(
            method, servicer, interceptor, receiver=receiver, calls=calls, callers=callers
        )
        for method in service.methods
    }
    return _Handlers(answers, callers)


Fields = Sequence[tuple[str, str | bytes]]
Answer = Callable[[Fields, int, object, Context], Awaitable[bytes]]


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a call, and is the first that sees its metadata, of whatever method it is."""

    def __init__(self, answers: Mapping[str, Answer], callers: Callers) -> None:
        self._answers = answers
        self._callers = callers
        self._cut_off: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(self._refuse_all)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns what answers a call, or None where that is another's to say."""
        fields = handler_call_details.invocation_metadata
        size = FIELD_BYTES * len(fields) + sum([len(value) for _, value in fields])
        if size > MAX_METADATA_BYTES:
            return self._cut_off
        answer = self._answers.get(handler_call_details.method)
        if answer is None:
            return None
        # Messages stay bytes: grpcio would answer one that does not parse in its own words. And asked by the call for
        # its metadata, grpcio would copy it once more.
        return grpc.stream_unary_rpc_method_handler(partial(answer, fields, size))

    async def _refuse_all(self, _messages: object, context: Context) -> NoReturn:
        """Refuses a call whose metadata is larger than grpcio lets it be once a client has acknowledged our limit."""
        self._callers.refuse_all(context.peer())
        # grpcio leaves the metadata of every call in a cycle, and this is megabytes, and young.
        gc.collect(1)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the metadata is too large")


def _answer(
    method: MethodDescriptor,
    servicer: ParticipantServicer,
    interceptor: Interceptor,
    *,
    receiver: Receiver,
    calls: Calls,
    callers: Callers,
) -> Answer:
    name = method.name
    call_method = getattr(servicer, name)
    parse = GetMessageClass(method.input_type).FromString
    call_bytes = LIST_BYTES if name == "ListParticipants" else CALL_BYTES

    async def answer(fields: Fields, metadata_bytes: int, _messages: object, context: Context) -> bytes:
        callers.admit(context)
        came = time.monotonic()
        room = Room(receiver.buffers)

        def close(context: Context) -> None:
            # The caller has taken the answer, or has gone.
            room.release()
            callers.close(context)

        context.add_done_callback(close)  # type: ignore[arg-type]  # grpc-stubs has a class where a function goes

        async def receive(organization_id: str, deadline: float) -> Message:
            request = await receiver.receive(context, room, organization_id, deadline)
            callers.arrived(context, len(request))
            message = _parsed(parse, request)
            room.resize(call_bytes)
            return message

        metadata: dict[str, Any] = dict(fields)
        calls.begin()
        try:
            response = await interceptor.run(
                name,
                call_method,
                receive,
                metadata,
                time_left=context.time_remaining(),
                peer=context.peer,
                # Before its turn: what it sends while it waits is of a call with a good key.
                known=partial(callers.open, context, metadata_bytes),
            )
            serialized = response.SerializeToString()
            callers.answered(context, len(serialized))
            size = ANSWER_COPIES * len(serialized)
            if size > call_bytes:
                room.resize(size)
            if calls.hold is not None:
                await calls.hold.wait()
        except asyncio.CancelledError:
            callers.given_up(context, time.monotonic() - came)
            raise
        except ServiceError as error:
            await callers.refused(context, metadata_bytes, error)
            if calls.hold is not None:
                await calls.hold.wait()
            request_id = (isinstance(error, Internal) and error.request_id) or request_id_from(metadata)
            await _abort(context, error, request_id)
            raise AssertionError("abort returned") from None
        else:
            return serialized
        finally:
            calls.end()

    return answer


def _parsed(parse: Callable[[bytes], Message], request: bytes) -> Message:
    if len(request) > MAX_REQUEST_BYTES:
        raise RequestTooLarge(f"a message may have at most {MAX_REQUEST_BYTES} bytes, this one has {len(request)}")
    try:
        return parse(plain(request, MAX_REQUEST_BYTES))
    except DecodeError:
        raise malformed("the request is no message of this method, or not UTF-8") from None


async def _abort(context: Context, error: ServiceError, request_id: str) -> None:
    status = status_from_error(error, limit=MAX_VIOLATION_BYTES)
    metadata = [("grpc-status-details-bin", status.SerializeToString()), ("x-request-id", request_id)]
    if error.retry_after is not None:
        # What gRPC's built-in retries read.
        metadata.append(("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))))
    await context.abort(_CODES[status.code], status.message, tuple(metadata))
