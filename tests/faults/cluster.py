"""Two replicas of the service on one Postgres, each behind a proxy of its own."""

from __future__ import annotations

import os
import random
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from server.postgres.migrations import migrate
from tests.conftest import Tenant, new_tenant
from tests.faults.proxy import Mode, Proxy
from tests.support.own_postgres import OwnPostgres
from tests.support.process import COMMAND, Service, environment

REPLICAS = 2


class Replica:
    """A service that is started anew on the same ports, as by an orchestrator."""

    def __init__(self, conninfo: str, **variables: str) -> None:
        self._addresses = [f"127.0.0.1:{_free_port()}" for _ in range(2)]
        self.conninfo = conninfo
        self._variables = variables
        self.start()

    @property
    def grpc_address(self) -> str:
        return self._addresses[0]

    @property
    def http_url(self) -> str:
        return f"http://{self._addresses[1]}"

    def start(self, command: Sequence[str | Path] = (COMMAND,)) -> None:
        grpc_address, http_address = self._addresses
        settings = {
            "DATABASE_URL": self.conninfo,
            "PARTICIPANTS_GRPC_ADDRESS": grpc_address,
            "PARTICIPANTS_HTTP_ADDRESS": http_address,
            **self._variables,
        }
        self.service = Service(environment(**settings), command)

    def restart(self, **variables: str) -> None:
        """Stops it, and starts it with these variables."""
        self.stop()
        self._variables = variables
        self.start()

    def kill(self) -> None:
        """Kills all of its processes at once."""
        with suppress(ProcessLookupError):
            os.killpg(self.service.pid, signal.SIGKILL)
        self.service.kill()

    def kill_supervisor(self) -> None:
        """Kills the process that others know; its workers are to follow it."""
        workers = self._workers()
        self.service.signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(workers, timeout=10)
        for worker in alive:
            worker.kill()
        self.service.kill()
        assert not alive, "the workers outlive their supervisor"

    def kill_worker(self) -> None:
        self._workers()[0].kill()

    def has_ended(self) -> bool:
        return self.service.has_ended

    def stop(self) -> None:
        self.service.stop()

    def _workers(self) -> list[psutil.Process]:
        children = psutil.Process(self.service.pid).children()
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


@dataclass(frozen=True)
class Cluster:
    """What a fault can be done to."""

    directory: Path
    postgres: OwnPostgres
    proxies: Sequence[Proxy]
    replicas: Sequence[Replica]
    tenant: Tenant

    def set_proxies(self, mode: Mode) -> None:
        for proxy in self.proxies:
            proxy.set(mode)

    @contextmanager
    def restarted(self, **variables: str) -> Iterator[None]:
        """Runs the replicas with these variables besides their own."""
        for replica in self.replicas:
            replica.restart(**variables)
        yield
        for replica in self.replicas:
            replica.restart()

    def admin(self) -> psycopg.Connection:
        """Connects to Postgres past the proxies, in autocommit."""
        return psycopg.connect(self.postgres.conninfo, autocommit=True)

    def final_state(self, prefix: str) -> Mapping[str, frozenset[str]]:
        """Returns the attributes' names of all participants whose external_id begins so, by external_id."""
        with self.admin() as connection:
            rows = connection.execute(
                "SELECT external_id, array(SELECT jsonb_object_keys(attributes)) FROM participants "
                "WHERE starts_with(external_id, %s)",
                (prefix,),
            ).fetchall()
        return {external_id: frozenset(names) for external_id, names in rows}


@contextmanager
def cluster(directory: Path, seed: int) -> Iterator[Cluster]:
    """Runs all of it."""
    with ExitStack() as stack:
        postgres = OwnPostgres(directory)
        stack.callback(postgres.stop)
        migrate(postgres.conninfo, report=lambda line: None)
        tenant = new_tenant(postgres.conninfo, "acme")
        proxies, replicas = [], []
        for number in range(REPLICAS):
            proxy = Proxy(f"{conninfo_to_dict(postgres.conninfo)['host']}/.s.PGSQL.5432", seed + number)
            stack.callback(proxy.close)
            host, port = proxy.address
            replica = Replica(make_conninfo(postgres.conninfo, host=host, port=port))
            stack.callback(replica.stop)
            proxies.append(proxy)
            replicas.append(replica)
        yield Cluster(directory, postgres, proxies, replicas, tenant)


def _free_port() -> int:
    """Returns a port below those that the system gives to callers, who must not have it while a replica restarts."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind(("127.0.0.1", port))
            return port
