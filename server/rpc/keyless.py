"""The calls that need no key: few at once on a connection, since anybody may make them, and let them lie."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from server.errors import ServiceError
from server.rpc.compression import plain
from server.rpc.contexts import Context, abort, sends, this_call
from server.rpc.guard.ledger import Ledger
from server.rpc.request_message import RECEIVE_TIMEOUT

# More than any of these has, once it is inflated.
MAX_MESSAGE_BYTES = 4 << 10
# Open at once on a connection. A client watches once, and a prober asks one thing after another.
MAX_OPEN = 4


T = TypeVar("T", bound=Message)


class Keyless:
    """Makes the handlers of such calls, and counts those that are open.

    All are registered as calls whose request is a stream, so that a call is seen before its message has come.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._open: Counter[str] = Counter()

    def answering(self, method: Callable[[Any, Context], Awaitable[Message]], request: type[Message]) -> Any:
        """Returns the handler of an RPC that answers once."""

        async def answer(_messages: object, context: Context) -> Message:
            await self.admit(context)
            answer = await method(await _received(context), context)
            sends()
            return answer

        return grpc.stream_unary_rpc_method_handler(answer, reader(request), _serialized)

    def sending(self, method: Callable[[Any, Context], Awaitable[None]], request: type[Message]) -> Any:
        """Returns the handler of an RPC that answers any number of times."""

        async def send(_messages: object, context: Context) -> None:
            await self.admit(context)
            # Whoever has gone gets no more, and what grpcio says of it is nobody's fault.
            with suppress(grpc.aio.InternalError):
                await method(await _received(context), context)

        return grpc.stream_stream_rpc_method_handler(send, reader(request), _serialized)

    async def admit(self, context: Context) -> None:
        """Lets a call in until it has ended, or ends it where its connection has too many."""
        peer = context.peer()
        if self._open[peer] >= MAX_OPEN:
            message = f"a connection may have {MAX_OPEN} calls without a key at once"
            await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, message)
        self._open[peer] += 1
        self._ledger.asked(peer)

        def close(_task: object) -> None:
            self._open[peer] -= 1
            if not self._open[peer]:
                del self._open[peer]

        this_call().add_done_callback(close)


def reader(request: type[T]) -> Callable[[bytes], T | None]:
    """Returns what makes a message of what came, or None where that is none."""

    def read(data: bytes) -> T | None:
        try:
            return request.FromString(plain(data, MAX_MESSAGE_BYTES))
        except (DecodeError, ServiceError):
            return None

    return read


async def _received(context: Context) -> Any:
    message: object = None
    code, problem = grpc.StatusCode.DEADLINE_EXCEEDED, "no message came"
    with suppress(TimeoutError):
        async with asyncio.timeout(RECEIVE_TIMEOUT):
            message = await context.read()
        code, problem = grpc.StatusCode.INVALID_ARGUMENT, "the call has no message of this method"
    if not isinstance(message, Message):
        await abort(context, code, problem)
    return message


def _serialized(message: Message) -> bytes:
    return message.SerializeToString()
