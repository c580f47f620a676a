"""Whatever part of the process dies, the process ends with a line that says what, and a status that is not 0."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support import loopback
from tests.support.process import Service, environment, eventually
from tests.support.seed import Seed

# The service with a part that dies a second after the start. The rest of it is what users start.
FAULTS = {
    "the health watch": """
        from server.operations.health import Health
        async def dies(self):
            await asyncio.sleep(1)
            raise RuntimeError("it went wrong")
        Health.watch_forever = dies
    """,
    "the refresh of API keys": """
        from server.auth.authenticator import Authenticator
        async def dies(self):
            await asyncio.sleep(1)
            raise RuntimeError("it went wrong")
        Authenticator.refresh_forever = dies
    """,
    "the HTTP server": """
        from server.gateway.server import HttpServer
        async def dies(self):
            await asyncio.sleep(1)
            raise RuntimeError("it went wrong")
        HttpServer.main_loop = dies
    """,
    "the gRPC server": """
        from server.rpc import server
        make = server.grpc_server
        def one_that_stops(*arguments, **named):
            made = make(*arguments, **named)
            loop = asyncio.get_running_loop()
            loop.call_later(2, lambda: loop.create_task(made.shutdown(0)))
            return made
        server.grpc_server = one_that_stops
    """,
    "the watch over the interpreter": """
        from server.rpc.guard import watchdog
        def dies(self):
            watchdog.time.sleep(2)
            watchdog.os.abort()
        watchdog.Watchdog._watch_forever = dies
    """,
}


@pytest.fixture
def conninfo(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    with new_database() as made:
        yield made


@pytest.fixture(scope="module")
def ended(new_database: Callable[[], AbstractContextManager[str]]) -> Mapping[str, subprocess.CompletedProcess[str]]:
    """What each of them ended with: they run at once, for they wait most of the time."""
    with new_database() as conninfo, ThreadPoolExecutor(len(FAULTS)) as pool:
        return dict(zip(FAULTS, pool.map(partial(served_with, conninfo), FAULTS.values()), strict=True))


def served_with(conninfo: str, fault: str) -> subprocess.CompletedProcess[str]:
    code = f"import asyncio\n{textwrap.dedent(fault)}\nfrom server.cli import main\nmain()"
    ports = {"PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:0", "PARTICIPANTS_HTTP_ADDRESS": "127.0.0.1:0"}
    return subprocess.run(
        [sys.executable, "-c", code, "serve"],
        # Nobody is to be sent to what is half dead: there is no drain.
        env=environment(DATABASE_URL=conninfo, PARTICIPANTS_DRAIN_SECONDS="60", **ports),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("part", FAULTS)
def test_a_part_that_dies_ends_the_process(ended: Mapping[str, subprocess.CompletedProcess[str]], part: str) -> None:
    assert ended[part].returncode == 1
    assert ended[part].stdout.startswith("serving gRPC on ")
    assert ended[part].stderr.splitlines()[-1].startswith(f"participants: {part} ended unexpectedly")


def workers(service: Service) -> list[psutil.Process]:
    """The processes that serve."""
    return [child for child in psutil.Process(service.pid).children() if _is_worker(child)]


def _is_worker(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        # It has ended meanwhile.
        return False


@contextlib.contextmanager
def two_workers(conninfo: str, **variables: str) -> Iterator[Service]:
    """A service that ends as it likes."""
    service = Service(environment(DATABASE_URL=conninfo, PARTICIPANTS_WORKERS="2", **variables))
    try:
        yield service
    finally:
        service.stop()


def test_workers_end_with_their_supervisor_and_the_next_finds_its_ports_free(conninfo: str) -> None:
    with two_workers(conninfo, PARTICIPANTS_DRAIN_SECONDS="60") as service:
        orphans = workers(service)
        assert len(orphans) == 2
        service.signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(orphans, timeout=10)
        assert alive == []
        service.wait()
        addresses = {
            "PARTICIPANTS_GRPC_ADDRESS": service.grpc_address,
            "PARTICIPANTS_HTTP_ADDRESS": service.http_url.removeprefix("http://"),
        }
        with two_workers(conninfo, **addresses) as following:
            assert loopback.get(f"{following.http_url}/livez").is_success


def test_workers_that_die_again_and_again_end_the_service(conninfo: str) -> None:
    with two_workers(conninfo) as service:

        def ended() -> bool:
            with contextlib.suppress(psutil.Error):
                for worker in workers(service):
                    worker.kill()
            return service.has_ended

        eventually(ended, timeout=30)
        assert service.wait() == 1
        assert service.errors.splitlines()[-1].startswith("participants: the workers die again and again")


def test_a_replaced_worker_that_never_begins_to_serve_is_replaced_too(conninfo: str) -> None:
    code = """
        from server import cli, supervisor
        replace_the_dead = supervisor._replace_the_dead
        def impatiently(*arguments):
            supervisor.START_TIMEOUT = 1.0
            replace_the_dead(*arguments)
        supervisor._replace_the_dead = impatiently
        cli.main()
    """
    command = (sys.executable, "-c", textwrap.dedent(code))
    service = Service(environment(DATABASE_URL=conninfo, PARTICIPANTS_WORKERS="2"), command)
    before = {worker.pid for worker in workers(service)}
    psutil.Process(min(before)).kill()
    eventually(lambda: len({worker.pid for worker in workers(service)} - before) == 1)
    (hanging,) = [worker for worker in workers(service) if worker.pid not in before]
    hanging.suspend()
    try:
        eventually(lambda: not hanging.is_running() and len(workers(service)) == 2)
        assert f"worker {hanging.pid} does not start" in service.errors
    finally:
        with contextlib.suppress(psutil.Error):
            hanging.kill()
        service.stop()


def test_the_database_being_away_is_no_death(seed: Seed, data_directory: Path) -> None:
    """The embedded Postgres crashes under the service, which goes on and says that it is not ready."""
    seed.plant(data_directory)
    service = Service(environment(PARTICIPANTS_DATA_DIR=str(data_directory)))
    postmaster = int((data_directory / "postgres" / "postmaster.pid").read_text().splitlines()[0])
    os.kill(postmaster, signal.SIGKILL)
    eventually(lambda: loopback.get(f"{service.http_url}/readyz").status_code == 503, timeout=20)
    assert loopback.get(f"{service.http_url}/livez").is_success
    assert not service.has_ended
    status = service.stop()
    assert status == 0, service.errors
