"""The gRPC servers: what they serve and where they listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from server.api.buffers import Buffers
from server.api.call import Interceptor
from server.api.servicer import SERVICE, ParticipantServicer
from server.config import Address
from server.operations.health import Health
from server.rpc.handlers import READ_BYTES, service_handlers
from server.rpc.health import HealthService
from server.sockets import bound

# A grpcio server takes calls in one by one: it asks for the next when the event loop has come round with the last. So
# several share the port, and the kernel deals connections out to them: a burst of calls comes in at once.
SERVERS = 16
# The kernel deals them out by chance, so some are refused from about three quarters of this on.
MAX_CONNECTIONS = 4_096
MAX_METADATA_BYTES = 64 << 10
# How long calls under way may take to finish once the service is told to stop; in seconds.
GRACE = 1.0

# Times in milliseconds, sizes in bytes; each server of the SERVERS has them for itself.
OPTIONS = [
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", READ_BYTES),
    # What was written is answered, whatever its size.
    ("grpc.max_send_message_length", -1),
    # Of what is larger than the first grpcio refuses some, by chance, and of what is larger than the second all.
    ("grpc.max_metadata_size", MAX_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # Connections and what they may hold.
    ("grpc.max_allowed_incoming_connections", MAX_CONNECTIONS // SERVERS),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Callers come back to all replicas, also to new ones, and a connection that is of no use is not kept: at this age
    # it is told to take no new calls, and those under way, which no deadline lets take longer, are let finish. A health
    # watch never ends by itself, nor does a call whose answer is not read.
    ("grpc.max_connection_age_ms", 30_000),
    ("grpc.max_connection_age_grace_ms", 65_000),
    # A peer that is gone without a word is noticed.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # The default takes callers who ping politely for hostile ones.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
]


def grpc_servers(
    servicer: ParticipantServicer, interceptor: Interceptor, health: Health, buffers: Buffers, *, reflect: bool
) -> Sequence[grpc.aio.Server]:
    """Returns the servers that serve as one; they listen nowhere yet."""
    handlers = service_handlers(SERVICE, servicer, interceptor, buffers)
    return [_server(handlers, health, reflect=reflect) for _ in range(SERVERS)]


def _server(handlers: grpc.GenericRpcHandler, health: Health, *, reflect: bool) -> grpc.aio.Server:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers((handlers,))
    health_pb2_grpc.add_HealthServicer_to_server(HealthService(health), server)
    if reflect:
        reflection.enable_server_reflection(
            (SERVICE.full_name, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME),
            server,
        )
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
