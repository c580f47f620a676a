"""Servers of systems as processes: each prints its address once it answers, and ends on SIGTERM."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
from participants.v1.participant_service_pb2_grpc import (
    ParticipantServiceServicer,
    add_ParticipantServiceServicer_to_server,
)

from tests.support.process import Service, environment

STOP_TIMEOUT = 10.0


@dataclass(frozen=True)
class Server:
    """Where to call a server, and the processes whose time it costs."""

    address: str
    pids: Sequence[int]


@contextmanager
def running(module: str, *arguments: str, tuned: bool = False) -> Iterator[Server]:
    """Runs one of these modules as a process, `tuned` with our settings of grpcio and else with its defaults."""
    # Who imports this service has its settings in the environment.
    inherited = {name: value for name, value in os.environ.items() if tuned or not name.startswith("GRPC_")}
    with running_program([sys.executable, "-m", module, *arguments], inherited) as server:
        yield server


@contextmanager
def running_program(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Runs a program that prints its address once it answers."""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            if not address:
                raise RuntimeError(f"{command[:3]} did not start")
            yield Server(address, [process.pid])
        finally:
            stop(process)


@contextmanager
def running_service(conninfo: str) -> Iterator[tuple[Server, Server]]:
    """Runs this service as its users do, and yields its two clients: gRPC and HTTP."""
    process = Service(environment(DATABASE_URL=conninfo))
    try:
        yield Server(process.grpc_address, [process.pid]), Server(process.http_url.partition("//")[2], [process.pid])
    finally:
        process.stop()


def stop(process: subprocess.Popen[str]) -> None:
    """Ends a process, by force if it does not end."""
    process.terminate()
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()


async def serve_grpc(servicer: ParticipantServiceServicer, servers: int = 1) -> None:
    """Serves a servicer on a port that the system chooses, until SIGTERM; with several servers, they share the port."""
    started = []
    port = 0
    for _ in range(servers):
        server = grpc.aio.server(options=[("grpc.so_reuseport", int(servers > 1))])
        add_ParticipantServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        started.append(server)
    print(f"127.0.0.1:{port}", flush=True)
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    await told_to_stop.wait()
    for server in started:
        await server.stop(grace=None)
