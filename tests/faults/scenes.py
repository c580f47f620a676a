"""What some faults need: replicas and a Postgres that are set up in another way for the time of the trial."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from psycopg.conninfo import make_conninfo

from server.postgres.session import SETTINGS
from tests.faults.cluster import Cluster
from tests.support.pgbouncer import KEEPS_PREPARED_STATEMENTS, pgbouncer, version

Scene = Callable[[Cluster], AbstractContextManager[None]]

ROLE = "rotated"
# Brings the sessions' settings, which PgBouncer drops.
POOLED_ROLE = "pooled"
DISK_BYTES = 64 << 20


class NotHere(Exception):
    """What a scene needs is not on this machine, or not permitted; the message says what."""


def as_it_is(cluster: Cluster) -> AbstractContextManager[None]:
    return nullcontext()


def with_workers(cluster: Cluster) -> AbstractContextManager[None]:
    """Gives each replica two workers."""
    return cluster.restarted(PARTICIPANTS_WORKERS="2")


@contextmanager
def with_password(cluster: Cluster) -> Iterator[None]:
    """Has the replicas connect as a role with a password, which they read from a file."""
    rules = cluster.directory / "postgres" / "pg_hba.conf"
    before = rules.read_text()
    rules.write_text(f"local all {ROLE} scram-sha-256\n{before}")
    with cluster.admin() as connection:
        connection.execute("SELECT pg_reload_conf()")
        connection.execute(f"CREATE ROLE {ROLE} LOGIN SUPERUSER PASSWORD 'first'".encode())
    write_password(cluster, "first")
    with cluster.restarted(DATABASE_URL="", DATABASE_URL_FILE=str(_password_file(cluster))):
        yield
    rules.write_text(before)


def write_password(cluster: Cluster, password: str) -> None:
    """Puts a new password into the file."""
    conninfo = make_conninfo(cluster.replicas[0].conninfo, user=ROLE, password=password)
    _password_file(cluster).write_text(conninfo)


def _password_file(cluster: Cluster) -> Path:
    return cluster.directory / "url"


@contextmanager
def behind_pgbouncer(cluster: Cluster) -> Iterator[None]:
    """Has the replicas connect through PgBouncer in transaction mode, past the proxies."""
    if version() < KEEPS_PREPARED_STATEMENTS:
        raise NotHere("no PgBouncer that keeps prepared statements; TEST_PGBOUNCER can name one")
    with cluster.admin() as connection:
        connection.execute(f"CREATE ROLE {POOLED_ROLE} LOGIN SUPERUSER".encode())
        for name, value in SETTINGS.items():
            connection.execute(f"ALTER ROLE {POOLED_ROLE} SET {name} = '{value}'".encode())
    conninfo = make_conninfo(cluster.postgres.conninfo, user=POOLED_ROLE)
    with (
        pgbouncer(conninfo, ignore_startup_parameters="options", max_prepared_statements="50") as through,
        cluster.restarted(DATABASE_URL=through),
    ):
        yield


@contextmanager
def on_small_disk(cluster: Cluster) -> Iterator[None]:
    """Moves the participants to a small disk of their own; Postgres' log stays where it is."""
    disk = small_disk(cluster)
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        raise NotHere("a small disk cannot be mounted")
    try:
        data = disk / "data"
        data.mkdir()
        owner = (cluster.directory / "postgres").stat()
        os.chown(data, owner.st_uid, owner.st_gid)
        with cluster.admin() as connection:
            connection.execute(f"CREATE TABLESPACE small LOCATION '{data}'".encode())
            connection.execute("ALTER TABLE participants SET TABLESPACE small")
        yield
        with cluster.admin() as connection:
            connection.execute("ALTER TABLE participants SET TABLESPACE pg_default")
            connection.execute("DROP TABLESPACE small")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def small_disk(cluster: Cluster) -> Path:
    """Returns where the small disk is."""
    return cluster.directory / "disk"
