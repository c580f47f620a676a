"""The composition root: puts the service together, runs it until it is told to stop, and takes it apart in reverse."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from server.api.call import Interceptor
from server.api.servicer import SERVICE, ParticipantServicer
from server.auth.authenticator import Authenticator
from server.config import Address, Conninfo, Settings
from server.gateway import server as http
from server.gateway.application import Gateway
from server.gateway.endpoint import Endpoints
from server.gateway.operations import Operations
from server.operations.health import Health
from server.operations.metrics import Metrics
from server.participants.service import Participants
from server.parts import Parts
from server.postgres.database import Database
from server.postgres.keys import PostgresKeys
from server.postgres.participants import PostgresParticipants
from server.postgres.probe import Probe
from server.rpc import server as rpc
from server.writes.group_commit import GroupCommit

logger = logging.getLogger(__name__)

# grpcio leaves six dead objects a call in cycles. With Python's threshold the collector would look for them among what
# is in use; with a far larger one the dead fill the processor's caches, and each collection is a pause.
GARBAGE_THRESHOLD = 5_000


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the service answers, with the ports it got."""

    grpc: Address
    http: Address | None
    operations: Address | None


async def serve(
    settings: Settings, conninfo: Conninfo, fixed_organization_id: str | None, ready: Callable[[Listening], None]
) -> None:
    """Runs the service on a migrated database until SIGINT or SIGTERM. Raises ConfigurationError and PartFailed.

    `fixed_organization_id` is the organization of `settings.api_key`; `ready` is called once the service answers.
    """
    gc.set_threshold(GARBAGE_THRESHOLD)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    parts = Parts()
    async with service(settings, conninfo, fixed_organization_id, parts) as listening:
        # What the start has made stays: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        ready(listening)
        await parts.run_until(stop)
        logger.info("stopping")


@asynccontextmanager
async def service(
    settings: Settings, conninfo: Conninfo, fixed_organization_id: str | None, parts: Parts
) -> AsyncIterator[Listening]:
    """Opens the service, yields where it listens, and closes it. `parts` are told what must not end before that."""
    async with AsyncExitStack() as stack:
        database = Database(conninfo, settings.database_connections)
        stack.push_async_callback(database.close)
        await database.open()
        repository = PostgresParticipants(database)
        writer = GroupCommit(repository)
        stack.push_async_callback(writer.close)
        authenticator = Authenticator(
            PostgresKeys(database), fixed_key=settings.api_key, fixed_organization_id=fixed_organization_id
        )
        stack.push_async_callback(authenticator.close)
        probe = Probe(conninfo)
        stack.push_async_callback(probe.close)
        health = Health(probe.can_write)
        metrics = Metrics()
        interceptor = Interceptor(authenticator, metrics)
        servicer = ParticipantServicer(Participants(repository, writer))

        share_ports = settings.workers > 1
        grpc_servers = rpc.grpc_servers(servicer, interceptor, health, reflect=settings.reflection)
        grpc_address = rpc.listen(grpc_servers, settings.grpc_address, share_port=share_ports)
        http_address = operations_address = None
        if settings.http_address is not None:
            public = Operations(health, metrics if settings.operations_address is None else None)
            http_address, running = await stack.enter_async_context(
                http.serving(
                    Gateway(public, Endpoints(SERVICE, servicer, interceptor)),
                    settings.http_address,
                    "PARTICIPANTS_HTTP_ADDRESS",
                    share_port=share_ports,
                    tls=settings.tls,
                )
            )
            parts.watch("the HTTP server", running)
        if settings.operations_address is not None:
            operations_address, running = await stack.enter_async_context(
                http.serving(
                    Gateway(Operations(health, metrics)),
                    settings.operations_address,
                    "PARTICIPANTS_OPERATIONS_ADDRESS",
                    share_port=share_ports,
                )
            )
            parts.watch("the HTTP server for operators", running)
        await stack.enter_async_context(_background(parts, "the refresh of API keys", authenticator.refresh_forever()))
        await stack.enter_async_context(
            _background(parts, "the record of when keys were used", authenticator.mark_used_forever())
        )
        await health.check()
        await stack.enter_async_context(_background(parts, "the health watch", health.watch_forever()))
        for running in await stack.enter_async_context(rpc.serving(grpc_servers)):
            parts.watch("a gRPC server", running)
        stack.push_async_callback(health.drain)
        yield Listening(grpc_address, http_address, operations_address)


@asynccontextmanager
async def _background(parts: Parts, name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    parts.watch(name, task)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
