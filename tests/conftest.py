"""A real Postgres for every test that wants one: an embedded one, or the one at TEST_DATABASE_URL.

A template database is migrated once; a test gets a clone of it, which takes milliseconds.
"""

from __future__ import annotations

import signal
from asyncio import AbstractEventLoop
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from os import cpu_count, environ
from pathlib import Path

import psycopg
import pytest
import uvloop
from psycopg.conninfo import make_conninfo

from server.postgres import administration
from server.postgres.embedded import embedded_postgres
from server.postgres.grants import grant
from server.postgres.migrations import migrate
from tests.support.clients import Client, GrpcClient, HttpClient
from tests.support.process import Service, environment
from tests.support.seed import Seed, own_directory

# Test processes that share a Postgres must not share a database.
PREFIX = f"participants_test_{environ.get('PYTEST_XDIST_WORKER', 'main')}"
TEMPLATE = f"{PREFIX}_template"
SERVING_ROLE = f"{PREFIX}_serving"
# How much is shown of the log of a service whose test failed.
SHOWN_LINES = 50

# Shells ignore SIGINT for what they start in the background, and a process that is started with it ignored goes on to
# ignore it: then nothing that these tests interrupt would end.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """Has tests run on the event loop that the service runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_xdist_auto_num_workers() -> int:
    """Has as many tests run at once as keep the processors busy: half of the time a test waits for a process."""
    return 2 * (cpu_count() or 1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mixes the folders evenly: the tests of one mostly compute, those of another mostly wait."""
    folders: dict[Path, list[Path]] = {}
    for path in dict.fromkeys(item.path for item in items):
        folders.setdefault(path.parent, []).append(path)
    places = {path: place / len(paths) for paths in folders.values() for place, path in enumerate(paths)}
    items.sort(key=lambda item: places[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Shows of a test that failed what the service that it called has said last."""
    report = yield
    deployment = getattr(item, "funcargs", {}).get("deployment")
    if report.failed and isinstance(deployment, Deployment):
        lines = deployment.service.errors.splitlines()
        report.sections.append(("the service's log", "\n".join(lines[-SHOWN_LINES:])))
    return report


@pytest.fixture(scope="session")
def seed(tmp_path_factory: pytest.TempPathFactory) -> Seed:
    """Data directories with a Postgres of a test's own, for tests that a first start is nothing to."""
    own = tmp_path_factory.getbasetemp()
    return Seed(own.parent if "PYTEST_XDIST_WORKER" in environ else own)


@pytest.fixture(scope="session")
def postgres(request: pytest.FixtureRequest) -> Iterator[str]:
    """How to connect to a Postgres as somebody who may create databases."""
    url = environ.get("TEST_DATABASE_URL")
    if url:
        yield url
        with psycopg.connect(url, autocommit=True) as admin:
            admin.execute(f'DROP ROLE IF EXISTS "{SERVING_ROLE}"'.encode())
    else:
        seed: Seed = request.getfixturevalue("seed")
        with seed.planted() as directory, embedded_postgres(directory) as conninfo:
            yield conninfo


@pytest.fixture(scope="session")
def new_database(postgres: str) -> Iterator[Callable[[], AbstractContextManager[str]]]:
    """Makes databases with the current schema and nothing in them."""
    numbers = count(1)

    @contextmanager
    def clone() -> Iterator[str]:
        name = f"{PREFIX}_{next(numbers)}"
        with fresh_database(postgres, name, template=TEMPLATE) as conninfo:
            yield conninfo

    # The embedded one has been migrated, as a first start does it.
    source = "template1" if environ.get("TEST_DATABASE_URL") else "postgres"
    with fresh_database(postgres, TEMPLATE, source) as template:
        migrate(template, report=lambda line: None)
        yield clone


@contextmanager
def fresh_database(postgres: str, name: str, template: str = "template1", options: str = "") -> Iterator[str]:
    """Makes an empty database, or a copy of one, and drops it in the end. `options` are those of CREATE DATABASE."""
    with psycopg.connect(postgres, autocommit=True) as admin:
        admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
        # Without it, Postgres 15 and later write all of the copy to the log, too, which takes longer here.
        strategy = "STRATEGY file_copy" if admin.info.server_version >= 150_000 else ""
        admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" {strategy} {options}'.encode())
        try:
            yield make_conninfo(postgres, dbname=name)
        finally:
            admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


@pytest.fixture
def database(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """How to connect to a migrated database of the test's own."""
    with new_database() as conninfo:
        yield conninfo


@dataclass(frozen=True)
class Tenant:
    """An organization with a key and two programs."""

    name: str
    organization_id: str
    key_id: str
    key: str
    program_id: str
    other_program_id: str


def new_tenant(conninfo: str, name: str) -> Tenant:
    with psycopg.connect(conninfo, autocommit=True) as connection:
        key_id, key = administration.create_key(connection, name, "test", None)
        organization_id = administration.organization_id(connection, name)
        programs = [administration.create_program(connection, name, program) for program in ("one", "two")]
    return Tenant(name, organization_id, key_id, key, *programs)


@dataclass(frozen=True)
class Deployment:
    """A running service, its database, and two organizations that use it."""

    service: Service
    conninfo: str
    tenant: Tenant
    stranger: Tenant


def by_serving_role(conninfo: str) -> str:
    """Returns how a role connects that may only do what serving needs; it is made where there is none."""
    with psycopg.connect(conninfo, autocommit=True) as owner:
        with suppress(psycopg.errors.DuplicateObject):
            owner.execute(f"CREATE ROLE \"{SERVING_ROLE}\" LOGIN PASSWORD 'serving'".encode())
        grant(owner, SERVING_ROLE)
    return make_conninfo(conninfo, user=SERVING_ROLE, password="serving")


@contextmanager
def deployed(conninfo: str, **variables: str) -> Iterator[Deployment]:
    tenant, stranger = new_tenant(conninfo, "acme"), new_tenant(conninfo, "globex")
    service = Service(environment(DATABASE_URL=by_serving_role(conninfo), **variables))
    try:
        yield Deployment(service, conninfo, tenant, stranger)
    finally:
        status = service.stop()
    # Whatever was done to it, it has neither crashed nor been killed.
    assert status == 0, service.errors


@pytest.fixture(scope="module")
def deployment(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Deployment]:
    """A service that the tests of a module share."""
    with new_database() as conninfo, deployed(conninfo) as running:
        yield running


@pytest.fixture(scope="module", params=["grpc", "http"])
def client(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[Client]:
    """Each way into the shared service, with the key of `deployment.tenant`."""
    service, key = deployment.service, deployment.tenant.key
    opened: Client = (
        GrpcClient(service.grpc_address, key) if request.param == "grpc" else HttpClient(service.http_url, key)
    )
    yield opened
    opened.close()


@pytest.fixture
def data_directory() -> Iterator[Path]:
    """A data directory of the test's own."""
    with own_directory() as directory:
        yield directory / "data"
