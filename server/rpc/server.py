"""The gRPC servers: what they serve and where they listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from server.api.call import Interceptor
from server.api.servicer import SERVICE, ParticipantServicer
from server.config import Address
from server.operations.health import Health
from server.rpc.handlers import service_handlers
from server.sockets import bound

# Room for the largest valid CreateParticipant (256 attributes of 4,096 code points are 4.5 MiB) and for a batch.
MAX_REQUEST_BYTES = 16 << 20
# A grpcio server takes calls in one by one: it asks for the next when the event loop has come round with the last. So
# several share the port, and the kernel deals connections out to them: a burst of calls comes in at once.
SERVERS = 16
# How long calls under way may take to finish once the service is told to stop; in seconds.
GRACE = 1.0


def grpc_servers(
    servicer: ParticipantServicer, interceptor: Interceptor, health_service: Health, *, reflect: bool
) -> Sequence[grpc.aio.Server]:
    """Returns the servers that serve as one; they listen nowhere yet."""
    handlers = service_handlers(SERVICE, servicer, interceptor)
    return [_server(handlers, health_service, reflect=reflect) for _ in range(SERVERS)]


def _server(handlers: grpc.GenericRpcHandler, health_service: Health, *, reflect: bool) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            # What was written is answered, whatever its size.
            ("grpc.max_send_message_length", -1),
        ],
    )
    server.add_generic_rpc_handlers((handlers,))
    health_pb2_grpc.add_HealthServicer_to_server(health_service.servicer, server)
    if reflect:
        reflection.enable_server_reflection((SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server


def listen(servers: Sequence[grpc.aio.Server], address: Address, *, share_port: bool) -> Address:
    """Binds the servers, and returns the address with the port they got. Raises ConfigurationError.

    `share_port` lets several processes listen on one port.
    """
    # Ours is the first try: grpcio says of a port that it cannot have neither why nor in one line, and would share one
    # with whoever else shares it.
    with bound(address, "PARTICIPANTS_GRPC_ADDRESS", share=share_port):
        pass
    for server in servers:
        address = Address(address.host, server.add_insecure_port(str(address)))
    return address


@asynccontextmanager
async def serving(servers: Sequence[grpc.aio.Server]) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
    """Serves where the servers listen, and in the end lets calls under way finish.

    Yields a task for each server that ends when the server does: one that fails shuts itself down without a word.
    """
    try:
        for server in servers:
            await server.start()
        yield [asyncio.create_task(_end_of(server)) for server in servers]
    finally:
        await asyncio.gather(*(server.stop(GRACE) for server in servers))


async def _end_of(server: grpc.aio.Server) -> None:
    await server.wait_for_termination()
