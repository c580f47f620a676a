"""The gRPC server: what it serves and where it listens."""

from __future__ import annotations

import asyncio
import ctypes
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from server.api.buffers import Buffers
from server.api.call import Interceptor
from server.api.servicer import SERVICE, ParticipantServicer
from server.api.stopping import GRACE, LAST_GRACE
from server.certificates import Certificates
from server.config import Address, ConfigurationError
from server.operations.health import Health
from server.rpc.aio_server import Server
from server.rpc.compression import ACCEPTED
from server.rpc.draining import Calls
from server.rpc.guard.callers import Callers
from server.rpc.guard.eviction import MAX_CONNECTIONS
from server.rpc.handlers import service_rpcs
from server.rpc.health import health_handlers
from server.rpc.intake import Intake
from server.rpc.keyless import Keyless
from server.rpc.metadata import MAX_METADATA_BYTES, MetadataLimit
from server.rpc.reflection import reflection_handlers
from server.rpc.request_message import MAX_CALLS, READ_BYTES, UNASKED_BYTES
from server.rpc.scheduling import give_way
from server.rpc.tls import server_credentials
from server.rpc.wakeups import read_all_at_once
from server.sockets import bound

logger = logging.getLogger(__name__)

# Sockets that listen on the port, to which the kernel deals connections out: see guard/listeners.py.
LISTENERS = 16
# More than there may be for long (see guard/eviction.py): the kernel deals them out by chance, and crowds come at once.
MOST_CONNECTIONS = 2 * MAX_CONNECTIONS
# How long callers who wait for an answer are given to hear that they are to call no more; in seconds. Where the
# processors are busy, it takes grpcio that long to tell them.
GOAWAY_PAUSE = 0.3
# How long grpcio is given to let go of its connections once nobody's call is waited for any more; in seconds.
LAST_PAUSE = 2.0

# What grpcio lets the metadata of a call be until the client has acknowledged our limit; RFC 9113 has none until then.
UNACKNOWLEDGED_METADATA_BYTES = 16 << 20

# Times in milliseconds, sizes in bytes.
OPTIONS = [
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", READ_BYTES),
    # See compression.py.
    ("grpc.per_message_decompression", 0),
    ("grpc.compression_enabled_algorithms_bitset", ACCEPTED),
    ("grpc.per_message_compression", 0),
    # It keeps books on every connection and call, which nobody can ask for.
    ("grpc.enable_channelz", 0),
    # What was written is answered, whatever its size.
    ("grpc.max_send_message_length", -1),
    # Of what is larger than the first grpcio refuses some, by chance, with an error that holds the names of all fields.
    # So it is the limit that there is until a client has acknowledged the second; then that holds alone.
    ("grpc.max_metadata_size", UNACKNOWLEDGED_METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
    # Connections and what they may hold.
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS // LISTENERS),
    # What is read at once, unless a frame is larger: a few kilobytes of headers may become megabytes of metadata.
    ("grpc.experimental.tcp_max_read_buffer_size", 4 << 10),
    ("grpc.tcp_receive_buffer_size", 32 << 10),
    # Only who has acknowledged our limits is held to them.
    ("grpc.http2.settings_timeout", 10_000),
    # Left on, a call whose headers are too large is kept for up to a second before it is refused, with its headers.
    ("grpc.http.tarpit", 0),
    ("grpc.max_concurrent_streams", MAX_CALLS),
    # Calls that have their answers count until the event loop comes round, when there may be as many new ones.
    ("grpc.http2.max_deallocating_streams", MAX_CALLS),
    # What a call may send before its message is asked for. Left to find out by itself what a connection can carry,
    # grpcio lets it be megabytes.
    ("grpc.http2.lookahead_bytes", UNASKED_BYTES),
    ("grpc.http2.bdp_probe", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Calls of one RPC that wait to be taken in, and take some kilobytes each, also those of callers who have gone. From
    # the first on grpcio refuses some, whosever they are, by chance, and from the second on all; before that the guard
    # sees who fills the memory with them.
    ("grpc.server.max_pending_requests", 16_000),
    ("grpc.server.max_pending_requests_hard_limit", 20_000),
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
    # To answer pings costs little. Cut off for them, a client goes on until what is being written has been, and every
    # further ping takes grpcio longer than the last: a few hundred kilobytes of them a second take a whole processor.
    ("grpc.http2.max_ping_strikes", 0),
]


def grpc_server(
    servicer: ParticipantServicer,
    interceptor: Interceptor,
    health: Health,
    *,
    buffers: Buffers,
    calls: Calls,
    callers: Callers,
    reflect: bool,
) -> Server:
    """Returns the server, which listens nowhere yet."""
    read_all_at_once()
    keyless = Keyless(callers.ledger)
    handlers = [MetadataLimit(callers.gate), health_handlers(health, keyless)]
    if reflect:
        handlers += reflection_handlers(keyless, callers.ledger)
    rpcs = service_rpcs(SERVICE, servicer, interceptor, buffers=buffers, calls=calls, callers=callers)
    server = Server(rpcs, handlers, callers.gate, Intake(callers.ledger), OPTIONS)
    give_way()
    return server


def listen(server: Server, address: Address, *, share_port: bool, certificates: Certificates | None = None) -> Address:
    """Binds the server, and returns the address with the port it got. Raises ConfigurationError.

    `share_port` lets several processes listen on one port.
    """
    # Ours is the first try: grpcio says of a port that it cannot have neither why nor in one line, and would share one
    # with whoever else shares it.
    with bound(address, "PARTICIPANTS_GRPC_ADDRESS", share=share_port):
        pass
    for _ in range(LISTENERS):
        address = Address(address.host, _add_port(server, str(address).encode(), certificates))
    return address


def _add_port(server: Server, address: bytes, certificates: Certificates | None) -> int:
    port: int
    if certificates is None:
        port, problem = server.add_insecure_port(address), "the port is another's by now; set PARTICIPANTS_GRPC_ADDRESS"
    else:
        port = server.add_secure_port(address, server_credentials(certificates))
        # The port was free, and OpenSSL takes the files. What grpcio is built with knows fewer curves.
        problem = "the TLS files cannot be used by gRPC; take an RSA or a P-256 key"
    if not port:
        raise ConfigurationError(problem)
    return port


@asynccontextmanager
async def serving(server: Server, calls: Calls, hurry: asyncio.Event) -> AsyncIterator[asyncio.Task[None]]:
    """Serves where the server listens, and in the end lets calls under way finish, unless it is to hurry.

    Yields a task that ends when the server does: one that fails shuts itself down without a word.
    """
    try:
        await server.start()
        yield asyncio.create_task(server.wait_for_termination(None))
    finally:
        await _stop(server, calls, hurry)


async def _stop(server: Server, calls: Calls, hurry: asyncio.Event) -> None:
    # A server that stops tells its clients, and answers CANCELLED to every call that was sent before they heard. So
    # answers are held back for a moment: whoever waits for one does not call again before it has heard.
    await calls.quiet()
    stopping = asyncio.ensure_future(server.shutdown(GRACE))
    # Once it has begun to stop, which takes a while itself where the processors are busy.
    await asyncio.sleep(0)
    if calls.under_way:
        await asyncio.sleep(GOAWAY_PAUSE)
    calls.release()
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(calls.idle()), asyncio.ensure_future(hurry.wait())]
    await asyncio.wait([stopping, *waits], timeout=GRACE, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()
    # What is left are health watches, which never end, and answers that nobody reads.
    ends = {stopping, asyncio.ensure_future(server.shutdown(None if hurry.is_set() else LAST_GRACE))}
    ended, left = await asyncio.wait(ends, timeout=LAST_GRACE + LAST_PAUSE)
    for end in ended:
        end.result()
    if left:
        # Whatever grpcio still waits for is nobody's answer. Freed, the server would wait for it, too: so it never is.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(server))
        logger.warning("grpcio does not let go of a connection, and is left behind")
