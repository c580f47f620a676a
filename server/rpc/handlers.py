"""A call of the service, from its metadata to its answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Never, Self

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from server.api.batch_answers import BatchAnswer
from server.api.buffers import Buffers, Room
from server.api.call import Interceptor, Response, request_id_from
from server.api.cutting import cut
from server.api.servicer import ParticipantServicer
from server.api.status import MAX_VIOLATION_BYTES, status_from_error
from server.api.stints import LARGE_BYTES
from server.errors import DeadlineExceeded, Internal, Overloaded, RequestTooLarge, ServiceError
from server.rpc.compression import is_compressed, plain
from server.rpc.contexts import Context, end, this_call
from server.rpc.draining import Calls
from server.rpc.guard.callers import Callers
from server.rpc.metadata import MAX_METADATA_BYTES, UNSENT_FIELD_BYTES, Fields, refuse, size_of
from server.rpc.request_message import MAX_REQUEST_BYTES, Receiver, malformed

# What a call under way is taken to hold, and one for a list: about the answer with the largest participant, or with as
# many as a page may have, and see ANSWER_COPIES.
CALL_BYTES = 160 << 10
LIST_BYTES = 2_560 << 10
# What a byte of a message may take while that is parsed: two may be an item, of which protobuf keeps where it is, twice
# while it makes room for more.
PARSED_BYTES = 16
# Python holds an answer until the caller has taken it, and so does grpcio.
ANSWER_COPIES = 2

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class Rpc:
    """An RPC of the service, and what its calls pass through; grpcio calls it.

    Every RPC is unary, and is registered as one whose request is a stream, which is the same on the wire: so its
    metadata is there before a message is read, and of a caller without a key none is read at all. Messages stay bytes:
    grpcio would answer one that does not parse in its own words.
    """

    def __init__(
        self,
        method: MethodDescriptor,
        servicer: ParticipantServicer,
        interceptor: Interceptor,
        *,
        receiver: Receiver,
        calls: Calls,
        callers: Callers,
    ) -> None:
        self.name = method.name
        self.method: Callable[[Any, Any], Awaitable[Response]] = getattr(servicer, method.name)
        self.parse: Callable[[bytes], Message] = GetMessageClass(method.input_type).FromString
        self.cut = cut(method.input_type)
        self.call_bytes = LIST_BYTES if method.name == "ListParticipants" else CALL_BYTES
        self.interceptor = interceptor
        self.receiver = receiver
        self.calls = calls
        self.callers = callers

    def __call__(self, message: Context, context: Context) -> Awaitable[bytes]:
        """Returns what answers a call, whose message is read by another context of it."""
        fields: Fields = context.invocation_metadata()  # type: ignore[assignment]  # there is some
        size = size_of(fields)
        if size > MAX_METADATA_BYTES:
            return refuse(context, self.callers.gate)
        return IncomingCall(self, message, context, fields, size - UNSENT_FIELD_BYTES * len(fields)).answer()

    def __await__(self) -> Generator[Never, None, Never]:
        # Never awaited. grpcio asks whether this can be, and takes what cannot for what blocks. It asks twice a call,
        # which takes long to see of what is neither.
        raise NotImplementedError

    async def refuse(self, context: Context) -> None:
        """Ends a call at once, for too many of its caller's wait. It takes little: there are many of them."""
        self.interceptor.not_begun(self.name, _TOO_MANY, context.peer)
        with suppress(grpc.aio.AbortError):
            await _end(context, _TOO_MANY_STATUS, request_id_from({}))

    def expired(self, context: Context) -> None:
        """Counts a call whose deadline had passed before it was its turn."""
        self.interceptor.not_begun(self.name, DeadlineExceeded(), context.peer)


class IncomingCall:
    """One call of an RPC, whose metadata is known."""

    __slots__ = ("_context", "_fields", "_message", "_metadata_bytes", "_room", "_rpc", "_task")
    _task: asyncio.Task[Any]

    def __init__(self, rpc: Rpc, message: Context, context: Context, fields: Fields, metadata_bytes: int) -> None:
        self._rpc = rpc
        self._message = message
        self._context = context
        # Asked once more for its metadata, grpcio would copy it once more.
        self._fields = fields
        self._metadata_bytes = metadata_bytes
        self._room = Room(rpc.receiver.buffers)

    async def answer(self) -> bytes:
        """Returns the answer, or ends the call with an error."""
        rpc, context = self._rpc, self._context
        calls, callers = rpc.calls, rpc.callers
        came = time.monotonic()
        self._task = this_call()
        self._task.add_done_callback(self._close)
        metadata: dict[str, Any] = dict(self._fields)
        refusal: ServiceError | None = None
        calls.begin()
        try:
            try:
                response = await rpc.interceptor.run(
                    rpc.name,
                    rpc.method,
                    self._receive,
                    metadata,
                    time_left=context.time_remaining(),
                    peer=context.peer,
                    known=self._open,
                )
                answer = await self._serialized(response)
                callers.ledger.answered(context, len(answer))
            except ServiceError as error:
                await callers.wasted.refused(context, self._metadata_bytes, error)
                # Without the frames, of which this is one.
                refusal = error.with_traceback(None)
            if calls.hold is not None:
                await calls.hold.wait()
            if refusal is not None:
                request_id = (isinstance(refusal, Internal) and refusal.request_id) or request_id_from(metadata)
                await _end(context, _Status.of(refusal), request_id)
        except asyncio.CancelledError:
            callers.wasted.given_up(context, time.monotonic() - came)
            raise
        else:
            return answer
        finally:
            calls.end()

    def _open(self, organization_id: str) -> None:
        # Before its turn: what it sends while it waits is of a call with a good key.
        self._rpc.callers.ledger.open(self._context, self._metadata_bytes, organization_id)

    async def _receive(self, organization_id: str, deadline: float) -> Message:
        rpc = self._rpc
        message = await rpc.receiver.receive(self._message, self._task, self._room, organization_id, deadline)
        rpc.callers.ledger.arrived(self._context, len(message))
        if len(message) > LARGE_BYTES or is_compressed(message):
            request = await rpc.interceptor.stints.run(self._parse_large(message), deadline)
        else:
            request = _parsed(rpc, message)
        self._room.resize(rpc.call_bytes)
        return request

    async def _serialized(self, response: Response) -> bytes:
        if not isinstance(response, BatchAnswer):
            answer = response.SerializeToString()
            self._hold(answer)
            return answer
        try:
            answer = await response.joined()
            self._hold(answer)
        finally:
            response.room.release()
        return answer

    def _hold(self, answer: bytes) -> None:
        if ANSWER_COPIES * len(answer) > self._rpc.call_bytes:
            self._room.resize(ANSWER_COPIES * len(answer))

    def _parse_large(self, message: bytes) -> Generator[Message]:
        # Lest it pass for what is sent outside of calls.
        with self._room.resized(PARSED_BYTES * (MAX_REQUEST_BYTES if is_compressed(message) else len(message))):
            yield _parsed(self._rpc, message)

    def _close(self, _task: object) -> None:
        self._room.release()
        self._rpc.callers.ledger.close(self._context)


def service_rpcs(
    service: ServiceDescriptor,
    servicer: ParticipantServicer,
    interceptor: Interceptor,
    *,
    buffers: Buffers,
    calls: Calls,
    callers: Callers,
) -> Mapping[str, Rpc]:
    """Returns all RPCs of a service by their paths."""
    receiver = Receiver(buffers)
    return {
        f"/{service.full_name}/{method.name}": Rpc(
            method, servicer, interceptor, receiver=receiver, calls=calls, callers=callers
        )
        for method in service.methods
    }


def _parsed(rpc: Rpc, message: bytes) -> Message:
    if len(message) > MAX_REQUEST_BYTES:
        raise RequestTooLarge(f"a message may have at most {MAX_REQUEST_BYTES} bytes, this one has {len(message)}")
    try:
        return rpc.parse(rpc.cut(plain(message, MAX_REQUEST_BYTES)))
    except DecodeError:
        raise malformed("the request is no message of this method, or not UTF-8") from None


class _Status(NamedTuple):
    """What grpcio is to say of an error."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]

    @classmethod
    def of(cls, error: ServiceError) -> Self:
        """Returns what is to be said of an error."""
        status = status_from_error(error, limit=MAX_VIOLATION_BYTES)
        fields: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
        if error.retry_after is not None:
            # What gRPC's built-in retries read.
            fields.append(("grpc-retry-pushback-ms", str(round(error.retry_after * 1000))))
        return cls(_CODES[status.code], status.message, tuple(fields))


async def _end(context: Context, status: _Status, request_id: str) -> Never:
    trailing_metadata = (*status.trailing_metadata, ("x-request-id", request_id))
    await end(context, status.code, status.message, trailing_metadata)


_TOO_MANY = Overloaded("too many calls of this caller are waiting; retry")
_TOO_MANY_STATUS = _Status.of(_TOO_MANY)
