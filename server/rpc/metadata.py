"""How large the metadata of a call may be, also before a client has acknowledged our limit."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any, Never

import grpc

from server.rpc.contexts import Context, end, sends
from server.rpc.guard.gate import Gate

# Until a client has acknowledged this limit grpcio keeps another, 16 MiB. Many fields take few bytes on the wire where
# they are the same, and are many in memory.
MAX_METADATA_BYTES = 16 << 10
# What a field counts beside its name and value (RFC 7541, section 4.1), and what of that is never sent: on the wire it
# takes 3 bytes beside them (section 6.2).
FIELD_BYTES, UNSENT_FIELD_BYTES = 32, 29

Fields = Sequence[tuple[str, str | bytes]]


def size_of(fields: Fields) -> int:
    """Returns what metadata counts, in bytes."""
    return FIELD_BYTES * len(fields) + sum([len(name) + len(value) for name, value in fields])


async def refuse(context: Context, gate: Gate) -> Never:
    """Refuses a call whose metadata is larger than grpcio lets it be once a client has acknowledged our limit."""
    gate.refuse_all(context.peer())
    # grpcio leaves the metadata of every call in a cycle, and this is megabytes, and young.
    gc.collect(1)
    await end(context, grpc.StatusCode.RESOURCE_EXHAUSTED, "the metadata is too large")


class MetadataLimit(grpc.GenericRpcHandler):
    """Sees the metadata of calls of any method before other handlers, and refuses those in which it is too large."""

    def __init__(self, gate: Gate) -> None:
        async def refuse_call(_messages: object, context: Context) -> Never:
            sends()
            await refuse(context, gate)

        self._refusal: grpc.RpcMethodHandler[Any, Any] = grpc.stream_unary_rpc_method_handler(refuse_call)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Returns what refuses a call, or None where that is another's to answer."""
        if size_of(handler_call_details.invocation_metadata) > MAX_METADATA_BYTES:
            return self._refusal
        # Where nobody knows the method, grpcio says so at once.
        sends()
        return None
