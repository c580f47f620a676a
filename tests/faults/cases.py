"""The faults. Each is done to a cluster under load, and is over when its function returns."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import psycopg
from psycopg.types.json import Jsonb

from server.postgres import administration
from tests.faults.cluster import Cluster
from tests.faults.proxy import Mode
from tests.faults.scenes import (
    ROLE,
    Scene,
    as_it_is,
    behind_pgbouncer,
    on_small_disk,
    small_disk,
    with_password,
    with_workers,
    write_password,
)
from tests.faults.trial import Fault
from tests.support.clients import GrpcClient
from tests.support.process import eventually

# How long a fault lasts that could last any time; in seconds.
A_WHILE = 3.0
REVOCATION_TIMEOUT = 10.0


@dataclass(frozen=True)
class Case:
    """A fault by its name, and the scene it needs, which raises NotHere where that cannot be had."""

    name: str
    fault: Fault
    scene: Scene = as_it_is


def kill_replica(cluster: Cluster) -> None:
    cluster.replicas[0].kill()
    time.sleep(1)
    cluster.replicas[0].start()


def kill_worker(cluster: Cluster) -> None:
    """One of two: whether the replica replaces it or ends is the replica's business, but not half of it lives on."""
    replica = cluster.replicas[0]
    replica.kill_worker()
    time.sleep(1)
    if replica.has_ended():
        replica.kill()
        replica.start()


def kill_supervisor(cluster: Cluster) -> None:
    cluster.replicas[0].kill_supervisor()
    cluster.replicas[0].start()


def kill_backend(cluster: Cluster) -> None:
    cluster.postgres.kill_backend()


def kill_postmaster(cluster: Cluster) -> None:
    cluster.postgres.kill()
    cluster.postgres.start()


def freeze_postgres(cluster: Cluster) -> None:
    with cluster.postgres.frozen():
        time.sleep(20)


def make_read_only(cluster: Cluster) -> None:
    with cluster.postgres.read_only():
        time.sleep(A_WHILE)


def lock_table(cluster: Cluster) -> None:
    with cluster.admin() as connection, connection.transaction():
        connection.execute("LOCK TABLE participants IN ACCESS EXCLUSIVE MODE")
        time.sleep(5)


def exhaust_connections(cluster: Cluster) -> None:
    """Others take every connection there is, those of the service too, as soon as it loses them."""
    with ExitStack() as stack:
        admin = stack.enter_context(cluster.admin())
        others: list[int] = []
        ends = time.monotonic() + A_WHILE
        while time.monotonic() < ends:
            try:
                connection = stack.enter_context(cluster.admin())
                others.append(connection.info.backend_pid)
            except psycopg.OperationalError:
                _terminate_others(admin, others)


def through_proxy(mode: Mode, seconds: float = A_WHILE) -> Fault:
    def fault(cluster: Cluster) -> None:
        cluster.set_proxies(mode)
        time.sleep(seconds)
        cluster.set_proxies(Mode.PASS)

    return fault


def cut_connections(cluster: Cluster) -> None:
    """Ends every connection of others than ours, again and again."""
    with cluster.admin() as connection:
        ends = time.monotonic() + A_WHILE
        while time.monotonic() < ends:
            _terminate_others(connection)
            time.sleep(0.1)


def rotate_password(cluster: Cluster) -> None:
    """The role's password changes, then the file that the replicas read it from, and old connections end."""
    with cluster.admin() as connection:
        connection.execute(f"ALTER ROLE {ROLE} PASSWORD 'second'".encode())
        _terminate_others(connection)
        time.sleep(1)
        write_password(cluster, "second")


def fill_disk(cluster: Cluster) -> None:
    """Takes all room on the disk, and then what Postgres has already taken of it."""
    ballast = small_disk(cluster) / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    with cluster.admin() as connection:
        with suppress(psycopg.errors.DiskFull):
            while True:
                connection.execute(
                    "INSERT INTO participants (organization_id, participant_id, external_id, status, attributes, tags) "
                    "VALUES (%s, gen_random_uuid(), 'ballast-' || gen_random_uuid(), 'ACTIVE', %s, '{}')",
                    (cluster.tenant.organization_id, Jsonb({"ballast": "0" * 1000})),
                )
        time.sleep(A_WHILE)
        ballast.unlink()


def revoke_key_meanwhile(cluster: Cluster) -> None:
    """A key is revoked while the database is out of the replicas' reach; they learn of it once they are back."""
    with cluster.admin() as connection:
        key_id, key = administration.create_key(connection, cluster.tenant.name, "revoked", None)
        with _clients(cluster, key) as clients:
            assert [client.create({"external_id": "revoked"}).code for client in clients] == ["OK"] * len(clients)
            cluster.set_proxies(Mode.BLACKHOLE)
            administration.revoke_key(connection, key_id)
            time.sleep(A_WHILE)
            cluster.set_proxies(Mode.PASS)
            for client in clients:
                eventually(
                    lambda client=client: client.create({"external_id": "revoked"}).code == "UNAUTHENTICATED",  # type: ignore[misc]
                    timeout=REVOCATION_TIMEOUT,
                )


@contextmanager
def _clients(cluster: Cluster, key: str) -> Iterator[list[GrpcClient]]:
    with ExitStack() as stack:
        clients = [GrpcClient(replica.grpc_address, key) for replica in cluster.replicas]
        for client in clients:
            stack.callback(client.close)
        yield clients


def _terminate_others(connection: psycopg.Connection, but: Sequence[int] = ()) -> None:
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() AND pid <> ALL (%s)",
        (list(but),),
    )


CASES = [
    Case("SIGKILL of a replica", kill_replica),
    Case("SIGKILL of a worker", kill_worker, with_workers),
    Case("SIGKILL of a supervisor", kill_supervisor, with_workers),
    Case("SIGKILL of a backend of Postgres", kill_backend),
    Case("SIGKILL of the postmaster", kill_postmaster),
    Case("SIGSTOP of Postgres for 20 s", freeze_postgres),
    Case("Postgres read-only and back", make_read_only),
    Case("LOCK TABLE for 5 s", lock_table),
    Case("connections exhausted by others", exhaust_connections),
    Case("connections to Postgres dropped", through_proxy(Mode.DROP)),
    Case("packets delayed by 200 ms", through_proxy(Mode.DELAY)),
    Case("connections to Postgres reset", through_proxy(Mode.RESET)),
    Case("packets to Postgres vanish for 8 s", through_proxy(Mode.BLACKHOLE, 8.0)),
    Case("answers lost, some after a commit", through_proxy(Mode.LOSE_ANSWERS)),
    Case("a password rotated", rotate_password, with_password),
    Case("connections cut behind PgBouncer", cut_connections, behind_pgbouncer),
    Case("disk full", fill_disk, on_small_disk),
    Case("a key revoked while Postgres is away", revoke_key_meanwhile),
]
