"""Server reflection, in the two versions that tools ask for: v1, and v1alpha, its name of old. They look alike on the
wire, so one servicer answers both."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio

from server.api.servicer import SERVICE
from server.api.sources import described_files
from server.operations.allowance import Allowance
from server.rpc.contexts import Context, abort, this_call, write
from server.rpc.guard.ledger import Ledger
from server.rpc.keyless import Keyless, reader

# To ask for everything takes about 200 KB, and some milliseconds of the event loop for each file that is described.
BYTES_A_SECOND, BYTES_SAVED = 4 << 20, 8 << 20
SECONDS_A_SECOND, SECONDS_SAVED = 0.1, 0.1
MAX_ASKING = 64

_NAMES = ("grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection")


class _Reflection(aio.ReflectionServicer):  # type: ignore[misc]  # the package comes without types
    """Reflection that shows the comments of our protos, which the descriptors in the stubs are without.

    Its answers are large, and anybody may ask without end: so there are so many bytes a second for all who ask, and so
    much of the event loop; and where too many ask at once, who has asked for longest makes way.
    """

    def __init__(self, names: tuple[str, ...], keyless: Keyless, ledger: Ledger) -> None:
        super().__init__(names, _Pool())
        self._keyless = keyless
        self._ledger = ledger
        self._bytes = Allowance(BYTES_A_SECOND, BYTES_SAVED)
        self._seconds = Allowance(SECONDS_A_SECOND, SECONDS_SAVED)
        # When the last answer was begun.
        self._began = 0.0
        # The tasks of those who ask, the oldest first.
        self._asking: OrderedDict[asyncio.Task[None], None] = OrderedDict()
        # By what reflection answers by itself.
        self._described = {_bare(file.name): file.SerializeToString() for file in described_files()}

    async def ServerReflectionInfo(  # noqa: N802  # the RPC's name
        self, requests: AsyncIterable[reflection_pb2.ServerReflectionRequest], context: Context
    ) -> None:
        await self._keyless.admit(context)
        if len(self._asking) >= MAX_ASKING:
            # Whoever it is may wait for more to ask, or not read.
            self._asking.popitem(last=False)[0].cancel()
        task = this_call()
        self._asking[task] = None
        sends = False
        try:
            async for answer in super().ServerReflectionInfo(self._in_time(requests), context):
                self._describe(answer)
                self._seconds.take(time.monotonic() - self._began)
                await _allowed(self._bytes, answer.ByteSize())
                self._ledger.asked(context.peer())
                sends = True
                await write(context, answer)
                sends = False
        except asyncio.CancelledError:
            # To whoever does not read grpcio still sends an answer, and can send nothing else.
            if sends or task in self._asking or task.uncancel():
                raise
        else:
            return
        finally:
            self._asking.pop(task, None)
        await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "too many ask for reflection at once; ask again")

    async def _in_time(
        self, requests: AsyncIterable[reflection_pb2.ServerReflectionRequest]
    ) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        """Yields requests, each when there is time to answer it; nothing else runs until it is."""
        async for request in requests:
            await _allowed(self._seconds)
            self._began = time.monotonic()
            yield request

    def _describe(self, answer: reflection_pb2.ServerReflectionResponse) -> None:
        """Puts our descriptors, which have comments, in the place of those of the stubs."""
        if answer.HasField("file_descriptor_response"):
            files = answer.file_descriptor_response.file_descriptor_proto
            files[:] = [self._described.get(file, file) for file in files]


async def _allowed(allowance: Allowance, amount: float = 0.0) -> None:
    """Takes some, once there is any."""
    while wait := allowance.wait():  # noqa: ASYNC110  # time passes by itself
        await asyncio.sleep(wait)
    allowance.take(amount)


class _Pool:
    """The pool of all descriptors, which finds a file by one of its RPCs, too."""

    def __getattr__(self, name: str) -> Any:
        return getattr(descriptor_pool.Default(), name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802  # the pool's name
        pool = descriptor_pool.Default()
        try:
            return pool.FindFileContainingSymbol(symbol)
        except KeyError:
            return pool.FindMethodByName(symbol).containing_service.file


def _bare(name: str) -> bytes:
    file = descriptor_pb2.FileDescriptorProto()
    descriptor_pool.Default().FindFileByName(name).CopyToProto(file)
    return file.SerializeToString()


def _describe_v1() -> None:
    """Lets reflection describe itself in v1, too: the package carries the protos of v1alpha alone."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    text = text_format.MessageToString(file).replace("v1alpha", "v1")
    descriptor_pool.Default().Add(text_format.Parse(text, descriptor_pb2.FileDescriptorProto()))


def reflection_handlers(keyless: Keyless, ledger: Ledger) -> list[grpc.GenericRpcHandler]:
    """Returns the handlers of both versions. They need no key."""
    _describe_v1()
    health = health_pb2.DESCRIPTOR.services_by_name["Health"]
    servicer = _Reflection((SERVICE.full_name, health.full_name, *_NAMES), keyless, ledger)
    read = reader(reflection_pb2.ServerReflectionRequest)
    method = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        # What asks for nothing is answered that it does.
        request_deserializer=lambda data: read(data) or reflection_pb2.ServerReflectionRequest(),
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    return [grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method}) for name in _NAMES]
