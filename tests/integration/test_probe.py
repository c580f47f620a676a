"""The probe on a real Postgres: ready means that the database takes writes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from server.errors import Unavailable
from server.postgres import queries
from server.postgres.database import Database
from server.postgres.migrations import migrate
from server.postgres.probe import Probe
from server.postgres.queries.query import Query
from tests.faults.proxy import Mode, Proxy
from tests.support.own_postgres import OwnPostgres
from tests.support.seed import own_directory

# A query that finds nothing, and its parameters.
NOBODY = (queries.GET, b"00000000-0000-0000-0000-000000000000", b"00000000-0000-0000-0000-000000000000")


@pytest.fixture
async def probe(own_postgres: OwnPostgres) -> AsyncIterator[Probe]:
    """A probe that has just found that it can write."""
    opened = Probe(own_postgres.conninfo)
    assert await opened.can_write()
    yield opened
    await opened.close()


async def test_three_probes_of_a_frozen_postgres_answer_in_time(own_postgres: OwnPostgres, probe: Probe) -> None:
    with own_postgres.frozen():
        started = time.monotonic()
        assert [await probe.can_write() for _ in range(3)] == [False] * 3
        # With two pauses of a second between them it is 5 s.
        assert time.monotonic() - started < 3.5
    assert await probe.can_write()


async def test_a_postgres_that_becomes_read_only_takes_no_writes(own_postgres: OwnPostgres, probe: Probe) -> None:
    with own_postgres.read_only():
        while await probe.can_write():
            pass  # A session reads the setting a moment later.
    while not await probe.can_write():
        pass


async def test_a_postgres_that_was_restarted_is_found_again(own_postgres: OwnPostgres, probe: Probe) -> None:
    own_postgres.stop()
    assert not await probe.can_write()
    own_postgres.start()
    assert await probe.can_write()


async def test_a_probe_leaves_nothing_behind(database: str) -> None:
    # What all databases share grows with those of other tests.
    sizes = "SELECT count(*), sum(pg_table_size(oid)) FROM pg_class WHERE NOT relisshared"
    with psycopg.connect(database, autocommit=True) as connection:
        before = connection.execute(sizes).fetchone()
        probe = Probe(database)
        assert [await probe.can_write() for _ in range(100)] == [True] * 100
        await probe.close()
        assert connection.execute(sizes).fetchone() == before


@pytest.fixture
def small_disk() -> Iterator[Path]:
    with own_directory() as directory:
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=200m,mode=755", "tmpfs", directory], capture_output=True, check=False
        )
        if mounted.returncode != 0:
            pytest.skip("a disk can be mounted by root alone")
        try:
            yield directory
        finally:
            subprocess.run(["umount", "--lazy", directory], check=True)


async def test_a_full_disk_takes_no_writes(small_disk: Path) -> None:
    postgres = OwnPostgres(small_disk)
    probe = Probe(postgres.conninfo)
    try:
        assert await probe.can_write()
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            free = os.statvfs(small_disk)
            file.write(bytes(free.f_bavail * free.f_frsize))
        assert not await probe.can_write()
        ballast.unlink()
        assert await probe.can_write()
    finally:
        await probe.close()
        postgres.stop()


@pytest.fixture
def proxy(own_postgres: OwnPostgres) -> Iterator[Proxy]:
    started = Proxy(f"{conninfo_to_dict(own_postgres.conninfo)['host']}/.s.PGSQL.5432", seed=1)
    yield started
    started.close()


@pytest.fixture
async def beyond(own_postgres: OwnPostgres, proxy: Proxy) -> AsyncIterator[Database]:
    """Connections through the proxy."""
    migrate(own_postgres.conninfo, report=lambda line: None)
    host, port = proxy.address
    database = Database(make_conninfo(own_postgres.conninfo, host=host, port=port))
    await database.open()
    await database.read(*NOBODY)
    yield database
    await database.close()


async def test_an_answer_that_the_network_lost_is_not_waited_for_and_neither_is_the_next(
    own_postgres: OwnPostgres, proxy: Proxy, beyond: Database
) -> None:
    probe = Probe(own_postgres.conninfo, beyond)
    proxy.set(Mode.BLACKHOLE)
    lost = asyncio.create_task(beyond.read(*NOBODY))
    # What is open stays dead.
    proxy.set(Mode.PASS)
    await until(lost.done, probe)
    with pytest.raises(Unavailable):
        await lost
    async with asyncio.timeout(5):
        assert await beyond.read(*NOBODY) == []
    await probe.close()


async def test_a_statement_that_takes_long_is_waited_for(own_postgres: OwnPostgres, beyond: Database) -> None:
    slow = Query(b"slow", b"SELECT 'done' FROM pg_sleep(2.5)")
    await beyond._idle[0].prepare(slow)
    probe = Probe(own_postgres.conninfo, beyond)
    running = asyncio.create_task(beyond.read(slow))
    await until(running.done, probe)
    assert await running == [("done",)]
    await probe.close()


async def until(done: Callable[[], bool], probe: Probe) -> None:
    """Probes again and again, as the health watch does, until then."""
    async with asyncio.timeout(20):
        while not done():
            assert await probe.can_write()
            await asyncio.sleep(0.3)
