"""The composition root: puts the service together, runs it until it is told to stop, and takes it apart in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import math
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from server.api.buffers import Buffers
from server.api.call import Interceptor
from server.api.servicer import SERVICE, ParticipantServicer
from server.api.turns import Turns
from server.auth.authenticator import Authenticator
from server.certificates import Certificates
from server.config import ConfigurationError, Conninfo, Settings
from server.gateway import server as http
from server.gateway.application import Gateway
from server.gateway.docs import Docs
from server.gateway.endpoint import Endpoints
from server.gateway.openapi import document
from server.gateway.operations import Operations
from server.operations.health import Health
from server.operations.memory import give_back_forever, share_memory
from server.operations.metrics import Metrics
from server.operations.telemetry import Telemetry
from server.participants.changes import Changes
from server.participants.reading import Reading
from server.participants.service import Participants
from server.parts import PartFailed, Parts
from server.postgres.changes import PostgresChanges
from server.postgres.database import Database
from server.postgres.keys import PostgresKeys
from server.postgres.participants import PostgresParticipants
from server.postgres.probe import Probe
from server.postgres.reading import PostgresReading
from server.rpc import server as rpc
from server.rpc.draining import Calls
from server.rpc.guard.callers import Callers
from server.rpc.guard.slow_readers import cut_off_slow_readers_forever
from server.rpc.guard.watch import watch_forever
from server.rpc.guard.watchdog import Watchdog
from server.sockets import Listening, allow_open_files
from server.writes.group_commit import GroupCommit

if TYPE_CHECKING:
    from server.operations.traces import Traces

logger = logging.getLogger(__name__)

# grpcio leaves six dead objects a call in cycles. With Python's threshold the collector would look for them among what
# is in use; with a far larger one the dead fill the processor's caches, and each collection is a pause.
GARBAGE_THRESHOLD = 5_000
# The threads that watch over connections need the interpreter for milliseconds where there are many. For so long at the
# most they keep it from the event loop, which lets go of it with every system call; in seconds.
THREADS_SWITCH_AFTER = 0.001
# Ctrl-C reaches a worker from the terminal and by its supervisor: what follows sooner is the same signal; in seconds.
SECOND_SIGNAL_AFTER = 0.5


async def serve(
    settings: Settings, conninfo: Conninfo, fixed_organization_id: str | None, ready: Callable[[Listening], None]
) -> None:
    """Runs the service on a migrated database until SIGINT or SIGTERM. Raises ConfigurationError and PartFailed.

    `fixed_organization_id` is the organization of `settings.api_key`; `ready` is called once the service answers.
    """
    share_memory()
    gc.set_threshold(GARBAGE_THRESHOLD)
    sys.setswitchinterval(THREADS_SWITCH_AFTER)
    allow_open_files()
    stop, hurry = _signals()
    parts = Parts()
    async with service(settings, conninfo, fixed_organization_id, parts, hurry) as listening:
        # What the start has made stays: no collection needs to look at it again.
        gc.collect()
        gc.freeze()
        ready(listening)
        try:
            await parts.run_until(stop)
        except PartFailed:
            # Half of it is no use to anybody.
            hurry.set()
            raise
        logger.info("stopping")


def _signals() -> tuple[asyncio.Event, asyncio.Event]:
    """Returns what is set by the first SIGINT or SIGTERM, and what by the next."""
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    first = math.inf

    def on_signal() -> None:
        nonlocal first
        if not stop.is_set():
            first = loop.time()
            stop.set()
        elif loop.time() - first >= SECOND_SIGNAL_AFTER:
            hurry.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)
    return stop, hurry


@asynccontextmanager
async def service(
    settings: Settings, conninfo: Conninfo, fixed_organization_id: str | None, parts: Parts, hurry: asyncio.Event
) -> AsyncIterator[Listening]:
    """Opens the service, yields where it listens, drains and closes it.

    `parts` are told what must not end before that; `hurry` is set once it is not to wait.
    """
    async with AsyncExitStack() as stack:
        # First, while there are no threads.
        watchdog = stack.enter_context(contextlib.closing(Watchdog()))
        database = Database(conninfo, settings.database_connections)
        stack.push_async_callback(database.close)
        await database.open()
        repository = PostgresParticipants(database)
        metrics = Metrics(SERVICE.full_name, [method.name for method in SERVICE.methods])
        telemetry = Telemetry(metrics, await stack.enter_async_context(_traces()) if settings.tracing else None)
        turns = Turns()
        writer = GroupCommit(repository, telemetry, crowded=lambda: turns.crowded)
        stack.push_async_callback(writer.close)
        authenticator = Authenticator(
            PostgresKeys(database), fixed_key=settings.api_key, fixed_organization_id=fixed_organization_id
        )
        stack.push_async_callback(authenticator.close)
        probe = Probe(conninfo, database)
        stack.push_async_callback(probe.close)
        health = Health(probe.can_write)
        _watch(metrics, database, writer, health, turns)
        certificates = await stack.enter_async_context(_certificates(settings, parts, metrics))
        interceptor = Interceptor(authenticator, turns, telemetry)
        buffers, calls, callers = Buffers(), Calls(), Callers()
        servicer = ParticipantServicer(
            Participants(writer),
            Reading(PostgresReading(database)),
            Changes(PostgresChanges(database)),
            turns,
            buffers,
            lists_at_once=max(2, settings.database_connections - 2),
        )
        share_ports = settings.workers > 1
        grpc_server = rpc.grpc_server(
            servicer,
            interceptor,
            health,
            buffers=buffers,
            calls=calls,
            callers=callers,
            reflect=settings.reflection,
        )
        grpc_address = rpc.listen(grpc_server, settings.grpc_address, share_port=share_ports, certificates=certificates)
        watches = {
            "the return of free memory": give_back_forever(),
            "the watch over the interpreter": watchdog.ended(),
            "the watch over connections": watch_forever(
                grpc_address.port, callers, buffers, watchdog, tls=certificates is not None
            ),
            "the watch over unread answers": cut_off_slow_readers_forever(grpc_address.port, callers.ledger),
        }
        for name, watch in watches.items():
            await stack.enter_async_context(_background(parts, name, watch))
        public = operators = None
        if settings.http_address is not None:
            operations = Operations(health, metrics if settings.operations_address is None else None)
            docs = Docs(document(SERVICE)) if settings.docs else None
            public = await stack.enter_async_context(
                http.serving(
                    Gateway(operations, metrics, Endpoints(SERVICE, servicer, interceptor, buffers), docs),
                    settings.http_address,
                    "PARTICIPANTS_HTTP_ADDRESS",
                    hurry,
                    share_port=share_ports,
                    certificates=certificates,
                )
            )
            parts.watch("the HTTP server", public.running)
        if settings.operations_address is not None:
            operators = await stack.enter_async_context(
                http.serving(
                    Gateway(Operations(health, metrics), metrics),
                    settings.operations_address,
                    "PARTICIPANTS_OPERATIONS_ADDRESS",
                    hurry,
                    share_port=share_ports,
                )
            )
            parts.watch("the HTTP server for operators", operators.running)
        await stack.enter_async_context(_background(parts, "the refresh of API keys", authenticator.refresh_forever()))
        await stack.enter_async_context(
            _background(parts, "the record of when keys were used", authenticator.mark_used_forever())
        )
        await health.check()
        await stack.enter_async_context(_background(parts, "the health watch", health.watch_forever()))
        await stack.enter_async_context(_background(parts, "the metrics", metrics.sample_forever()))
        running = await stack.enter_async_context(rpc.serving(grpc_server, calls, hurry))
        parts.watch("the gRPC server", running)
        if public is not None:
            # Both stop at once, and callers of both have the same time.
            stack.callback(public.stop)
        stack.push_async_callback(_drain, health, settings.drain_seconds, hurry)
        yield Listening(grpc_address, public.address if public else None, operators.address if operators else None)


async def _drain(health: Health, seconds: float, hurry: asyncio.Event) -> None:
    """Says that the service is not ready, and goes on serving until those who call it have noticed."""
    health.drain()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await hurry.wait()


@asynccontextmanager
async def _certificates(settings: Settings, parts: Parts, metrics: Metrics) -> AsyncIterator[Certificates | None]:
    if settings.tls is None:
        yield None
        return
    certificates = Certificates(settings.tls)
    metrics.watch("participants_certificate_expiry_timestamp_seconds", certificates.ends)
    async with _background(parts, "the watch over certificates", certificates.renew_forever()):
        yield certificates


@asynccontextmanager
async def _traces() -> AsyncIterator[Traces]:
    try:
        # Its library is there only where spans are wanted.
        from server.operations.traces import Traces  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError(
            "OTEL_EXPORTER_OTLP_ENDPOINT asks for traces, which this installation cannot make; "
            "install the service with its extra `tracing`, or unset it"
        ) from None
    traces = Traces(SERVICE.full_name, os.environ)
    try:
        yield traces
    finally:
        await asyncio.to_thread(traces.close)


def _watch(metrics: Metrics, database: Database, writer: GroupCommit, health: Health, turns: Turns) -> None:
    metrics.watch("participants_calls_waiting", lambda: turns.waiting)
    metrics.watch("participants_queue_upserts", lambda: writer.load()[0])
    metrics.watch("participants_queue_bytes", lambda: writer.load()[1])
    metrics.watch("participants_ready", lambda: health.ready)
    metrics.watch("participants_draining", lambda: health.draining)
    metrics.watch("participants_pool_connections", lambda: database.load().open)
    metrics.watch("participants_pool_connections_in_use", lambda: database.load().in_use)
    metrics.watch("participants_pool_waiting", lambda: database.load().waiting)


@asynccontextmanager
async def _background(parts: Parts, name: str, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    parts.watch(name, task)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
