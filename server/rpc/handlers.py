"""The handlers that grpcio asks for: they find the RPC of a call."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from typing import Any, Never

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from server.api.buffers import Buffers
from server.api.call import Interceptor
from server.api.servicer import ParticipantServicer
from server.rpc.callers import Callers
from server.rpc.calls import Calls
from server.rpc.contexts import Context, abort, sends
from server.rpc.incoming import IncomingCall, Rpc
from server.rpc.receiving import Receiver

# Until a client has acknowledged this limit grpcio keeps another, 16 MiB. Many fields take few bytes on the wire where
# they are the same, and are many in memory.
MAX_METADATA_BYTES = 16 << 10
# What a field counts beside its value: its name, and what RFC 7541, section 4.1, adds.
FIELD_BYTES = 32


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
    rpcs = {
        f"/{service.full_name}/{method.name}": Rpc(
            method, servicer, interceptor, receiver=receiver, calls=calls, callers=callers
        )
        for method in service.methods
    }
    return _Handlers(rpcs, callers)


class _Handlers(grpc.GenericRpcHandler):
    """Finds the handler of a call, and is the first that sees its metadata, of whatever method it is."""

    def __init__(self, rpcs: Mapping[str, Rpc], callers: Callers) -> None:
        self._rpcs = rpcs
        self._callers = callers
        self._cut_off: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(self._refuse_all)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns what answers a call, or None where that is another's to say."""
        fields = handler_call_details.invocation_metadata
        size = FIELD_BYTES * len(fields) + sum([len(value) for _, value in fields])
        if size > MAX_METADATA_BYTES:
            return self._cut_off
        rpc = self._rpcs.get(handler_call_details.method)
        if rpc is None:
            # Where nobody knows the method, grpcio says so at once.
            sends()
            return None
        # A call looks to grpcio like the handlers that it makes.
        return IncomingCall(rpc, fields, size)  # type: ignore[return-value]

    async def _refuse_all(self, _messages: object, context: Context) -> Never:
        """Refuses a call whose metadata is larger than grpcio lets it be once a client has acknowledged our limit."""
        self._callers.refuse_all(context.peer())
        # grpcio leaves the metadata of every call in a cycle, and this is megabytes, and young.
        gc.collect(1)
        await abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "the metadata is too large")
