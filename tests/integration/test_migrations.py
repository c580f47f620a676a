"""The schema on a real Postgres: up from empty, distributable by organization, and backing the API."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from importlib.metadata import version
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from server.config import ConfigurationError
from server.postgres.migrations import is_current, known, migrate
from tests.conftest import PREFIX, fresh_database
from tests.support.process import eventually

NewDatabase = Callable[[], AbstractContextManager[str]]

ORGANIZATION, OTHER_ORGANIZATION = (f"00000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
PARTICIPANT, OTHER_PARTICIPANT = (f"10000000-0000-0000-0000-00000000000{n}" for n in (1, 2))
PROGRAM, OTHERS_PROGRAM, UNKNOWN = (f"20000000-0000-0000-0000-00000000000{n}" for n in (1, 2, 3))
# Beyond the Basic Multilingual Plane: one code point, two UTF-16 units, four bytes.
WIDE = "\N{PARTY POPPER}"

CHECK = psycopg.errors.CheckViolation
UNIQUE = psycopg.errors.UniqueViolation
FOREIGN = psycopg.errors.ForeignKeyViolation
NOT_NULL = psycopg.errors.NotNullViolation

ABOUT_THE_SCHEMA = ["alembic_version", "schema_compatibility"]

# A row of each table that every constraint accepts.
GOOD: Mapping[str, Mapping[str, Any]] = {
    "organizations": {"organization_id": UNKNOWN, "name": "initech"},
    "api_keys": {"organization_id": ORGANIZATION, "key_id": "0" * 16, "name": "", "digest": b"\0" * 32},
    "audit_log": {
        "organization_id": ORGANIZATION,
        "entry_id": UNKNOWN,
        "action": "key.create",
        "host": "somewhere",
        "os_user": "somebody",
    },
    "programs": {"organization_id": ORGANIZATION, "program_id": UNKNOWN, "name": "silver"},
    "participants": {
        "organization_id": ORGANIZATION,
        "participant_id": UNKNOWN,
        "external_id": "new",
        "status": "ACTIVE",
        "attributes": Jsonb({}),
        "tags": [],
    },
    "enrollments": {"organization_id": ORGANIZATION, "participant_id": PARTICIPANT, "program_id": PROGRAM},
    "participant_labels": {
        "organization_id": ORGANIZATION,
        "label": "tag:vip",
        "created_at": "2026-01-01",
        "participant_id": PARTICIPANT,
        "external_id": "user",
    },
    "counters": {"organization_id": ORGANIZATION, "participant_id": PARTICIPANT, "counter_key": "c", "value": "1.5"},
    "balances": {"organization_id": ORGANIZATION, "participant_id": PARTICIPANT, "asset_id": "points"},
    "tiers": {
        "organization_id": ORGANIZATION,
        "participant_id": PARTICIPANT,
        "tier_key": "loyalty",
        "level": "gold",
        "rank": 2,
    },
}


def short(value: object) -> str:
    """Returns the name of a parameter in the list of tests."""
    return value.__name__ if isinstance(value, type) else repr(value)[:30]


def insert(connection: psycopg.Connection[Any], table: str, row: Mapping[str, Any]) -> None:
    connection.execute(
        sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, row)),
            sql.SQL(", ").join(map(sql.Placeholder, row)),
        ),
        row,
    )


@pytest.fixture(scope="module")
def populated(new_database: NewDatabase) -> Iterator[str]:
    """A database with two organizations, a participant and a program of each."""
    with new_database() as conninfo:
        with psycopg.connect(conninfo) as connection:
            populate(connection)
        yield conninfo


def populate(connection: psycopg.Connection[Any]) -> None:
    for organization, participant, program in (
        (ORGANIZATION, PARTICIPANT, PROGRAM),
        (OTHER_ORGANIZATION, OTHER_PARTICIPANT, OTHERS_PROGRAM),
    ):
        whose = {"organization_id": organization}
        insert(connection, "organizations", {**whose, "name": organization})
        insert(connection, "programs", {**whose, "program_id": program, "name": "gold"})
        row = {**GOOD["participants"], **whose, "participant_id": participant, "external_id": "user"}
        insert(connection, "participants", row)


@pytest.fixture
def connection(populated: str) -> Iterator[psycopg.Connection[Any]]:
    """A transaction whose changes are undone."""
    with psycopg.connect(populated) as opened:
        yield opened
        opened.rollback()


def test_an_empty_database_is_migrated_and_a_second_time_nothing_happens(postgres: str) -> None:
    with fresh_database(postgres, "participants_test_empty") as conninfo:
        assert not is_current(conninfo)
        first: list[str] = []
        migrate(conninfo, report=first.append)
        assert is_current(conninfo)
        assert first[0].startswith("applied 0001")
        second: list[str] = []
        migrate(conninfo, report=second.append)
        assert second == ["the schema is up to date"]
        with psycopg.connect(conninfo) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert {name for (name,) in tables} == {*ABOUT_THE_SCHEMA, *GOOD}


def test_a_migration_that_fails_leaves_nothing_behind(postgres: str) -> None:
    with fresh_database(postgres, "participants_test_failed") as conninfo:
        with psycopg.connect(conninfo) as connection:
            # In the way of the last table of the first migration.
            connection.execute("CREATE TABLE tiers ()")
        with pytest.raises(Exception, match="tiers"):
            migrate(conninfo, report=lambda line: None)
        with psycopg.connect(conninfo) as connection:
            tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert tables == [("tiers",)]


def test_every_migration_says_who_works_on_it(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute("SELECT revision FROM schema_compatibility").fetchall()
    # The first is older than what it would be written to, and every service knows it.
    assert {"0001"} | {revision for (revision,) in rows} == set(known())


def test_the_migrations_are_known_by_the_names_of_their_files() -> None:
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # as below

    from server.postgres.migrations.upgrade import configuration  # noqa: PLC0415

    scripts = ScriptDirectory.from_config(configuration(""))
    assert known() == [script.revision for script in scripts.walk_revisions()][::-1]


def test_serving_does_not_load_what_migrates() -> None:
    """To import Alembic takes as long as all the rest."""
    program = "import sys, server.cli.serve, server.app; print({'alembic', 'sqlalchemy'} & {*sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout == "set()\n"


def newer_schema(conninfo: str, *migrations: tuple[str, str]) -> None:
    """Has the schema be one of the future, by these revisions and the oldest services that work on them."""
    with psycopg.connect(conninfo) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
        for row in migrations:
            connection.execute("INSERT INTO schema_compatibility VALUES (%s, %s)", row)


def test_a_newer_schema_is_served_and_left_alone_when_it_says_that_this_version_works_on_it(database: str) -> None:
    newer_schema(database, ("9998", "0.0.1"), ("9999", version("participants-server")))
    assert is_current(database)
    printed: list[str] = []
    migrate(database, report=printed.append)
    assert printed == ["the schema is newer than this version of the service, which works on it"]


@pytest.mark.parametrize(
    "migrations",
    [[], [("9998", "0.0.1")], [("9999", "0.10.0"), ("9998", "0.0.1")], [("9998", "100.0.0"), ("9999", "0.9.0")]],
)
def test_a_newer_schema_that_says_otherwise_is_refused(database: str, migrations: list[tuple[str, str]]) -> None:
    newer_schema(database, *migrations)
    for work in (is_current, lambda conninfo: migrate(conninfo, report=lambda line: None)):
        with pytest.raises(ConfigurationError, match="9999 is newer than this version of the service"):
            work(database)


def upgrade(conninfo: str, revision: str) -> None:
    """Brings an empty database up to an older schema."""
    # Here, for every test process loads this file, and to load Alembic takes it a fifth of its start.
    from alembic import command  # noqa: PLC0415

    from server.postgres.migrations.upgrade import configuration  # noqa: PLC0415

    command.upgrade(configuration(conninfo), revision)


def test_a_migration_gives_way_to_those_who_use_a_table_until_it_is_free(postgres: str) -> None:
    with fresh_database(postgres, f"{PREFIX}_in_use") as conninfo:
        upgrade(conninfo, "0001")
        with psycopg.connect(conninfo) as user, ThreadPoolExecutor() as pool:
            # As a migration needs it to record itself; others may read.
            user.execute("LOCK TABLE alembic_version IN EXCLUSIVE MODE")
            migrating = pool.submit(migrate, conninfo, report=lambda line: None)
            eventually(lambda: tries(conninfo) > 1)
            assert not migrating.done()
            user.rollback()
            migrating.result(20)
        assert is_current(conninfo)


def tries(conninfo: str) -> int:
    """Returns how many transactions have failed in the database."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(
            "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
        ).fetchone()
    assert row is not None
    return int(row[0])


def test_participants_that_are_there_already_are_labelled_also_after_an_interruption(postgres: str) -> None:
    with fresh_database(postgres, f"{PREFIX}_labelled") as conninfo:
        upgrade(conninfo, "0003")
        with psycopg.connect(conninfo, autocommit=True) as connection:
            populate(connection)
            connection.execute("UPDATE participants SET tags = '{a,b}' WHERE organization_id = %s", (ORGANIZATION,))
            insert(connection, "programs", GOOD["programs"])
            for program, active in ((PROGRAM, True), (UNKNOWN, False)):
                insert(connection, "enrollments", {**GOOD["enrollments"], "program_id": program, "active": active})
            # What an interrupted migration leaves: an index that is none, and no trace in alembic_version.
            connection.execute("CREATE INDEX participants_created_at ON participants (organization_id, created_at)")
            connection.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", ("participants_created_at",)
            )
        migrate(conninfo, report=lambda line: None)
        with psycopg.connect(conninfo) as connection:
            labels = connection.execute(
                "SELECT label FROM participant_labels "
                "JOIN participants USING (organization_id, participant_id, created_at, external_id) ORDER BY label"
            ).fetchall()
            indexed = connection.execute("SELECT pg_get_indexdef('participants_created_at'::regclass)").fetchone()
            invalid = connection.execute("SELECT FROM pg_index WHERE NOT indisvalid").fetchall()
        assert labels == [(f"program:{PROGRAM}",), ("tag:a",), ("tag:b",)]
        assert "participant_id" in str(indexed)
        assert invalid == []


def test_every_index_but_one_begins_with_the_organization(connection: psycopg.Connection[Any]) -> None:
    indexes = connection.execute(
        """
        SELECT i.indexrelid::regclass::text, a.attname
        FROM pg_index AS i
        JOIN pg_class AS c ON c.oid = i.indrelid
        JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
        WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> ALL (%s)
        """,
        (ABOUT_THE_SCHEMA,),
    ).fetchall()
    assert len(indexes) > len(GOOD)
    assert [name for name, column in indexes if column != "organization_id"] == ["organizations_name"]


def test_every_table_has_a_primary_key(connection: psycopg.Connection[Any]) -> None:
    tables = connection.execute("SELECT indrelid::regclass::text FROM pg_index WHERE indisprimary").fetchall()
    assert set(GOOD) <= {name for (name,) in tables}


@pytest.mark.parametrize("table", GOOD)
def test_a_good_row_is_taken(connection: psycopg.Connection[Any], table: str) -> None:
    insert(connection, table, GOOD[table])


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("external_id", WIDE * 255),
        ("display_name", WIDE * 255),
        ("phone", WIDE * 50),
        ("status", "SUSPENDED"),
        ("status", "CLOSED"),
        ("tags", [str(n) for n in range(256)]),
    ],
    ids=short,
)
def test_the_longest_and_every_value_that_the_api_takes_is_taken(
    connection: psycopg.Connection[Any], column: str, value: object
) -> None:
    insert(connection, "participants", {**GOOD["participants"], column: value})


@pytest.mark.parametrize(
    ("table", "column", "value", "error"),
    [
        ("organizations", "name", "", CHECK),
        ("organizations", "name", "x" * 256, CHECK),
        ("organizations", "name", ORGANIZATION, UNIQUE),
        ("api_keys", "organization_id", UNKNOWN, FOREIGN),
        ("api_keys", "key_id", "0" * 15, CHECK),
        ("api_keys", "key_id", "G" * 16, CHECK),
        ("api_keys", "digest", b"\0" * 31, CHECK),
        ("audit_log", "organization_id", UNKNOWN, FOREIGN),
        ("audit_log", "action", "", CHECK),
        ("audit_log", "details", Jsonb([]), CHECK),
        ("audit_log", "os_user", None, NOT_NULL),
        ("programs", "name", "", CHECK),
        ("programs", "name", "gold", UNIQUE),
        ("programs", "organization_id", UNKNOWN, FOREIGN),
        ("participants", "organization_id", UNKNOWN, FOREIGN),
        ("participants", "participant_id", PARTICIPANT, UNIQUE),
        ("participants", "external_id", "user", UNIQUE),
        ("participants", "external_id", "", CHECK),
        ("participants", "external_id", WIDE * 256, CHECK),
        ("participants", "external_id", None, NOT_NULL),
        ("participants", "status", "STATUS_UNSPECIFIED", CHECK),
        ("participants", "status", "active", CHECK),
        ("participants", "status", None, NOT_NULL),
        ("participants", "display_name", "", CHECK),
        ("participants", "display_name", "x" * 256, CHECK),
        ("participants", "email", "x" * 256, CHECK),
        ("participants", "first_name", "x" * 256, CHECK),
        ("participants", "last_name", "x" * 256, CHECK),
        ("participants", "phone", "5" * 51, CHECK),
        ("participants", "attributes", Jsonb([]), CHECK),
        ("participants", "tags", [str(n) for n in range(257)], CHECK),
        ("participants", "updated_at", "2000-01-01", CHECK),
        ("enrollments", "program_id", UNKNOWN, FOREIGN),
        ("enrollments", "program_id", OTHERS_PROGRAM, FOREIGN),
        ("enrollments", "participant_id", OTHER_PARTICIPANT, FOREIGN),
        ("counters", "value", "NaN", CHECK),
        ("counters", "value", "Infinity", CHECK),
        ("counters", "counter_key", "", CHECK),
        ("counters", "participant_id", OTHER_PARTICIPANT, FOREIGN),
        ("balances", "available", "NaN", CHECK),
        ("balances", "held", "-Infinity", CHECK),
        ("balances", "deferred", "NaN", CHECK),
        ("balances", "asset_id", "", CHECK),
        ("balances", "participant_id", OTHER_PARTICIPANT, FOREIGN),
        ("tiers", "level", "", CHECK),
        ("tiers", "tier_key", "", CHECK),
        ("tiers", "participant_id", OTHER_PARTICIPANT, FOREIGN),
    ],
    ids=short,
)
def test_what_the_api_refuses_the_database_refuses_too(
    connection: psycopg.Connection[Any], table: str, column: str, value: object, error: type[psycopg.Error]
) -> None:
    with pytest.raises(error):
        insert(connection, table, {**GOOD[table], column: value})


@pytest.mark.parametrize("table", ["enrollments", "counters", "balances", "tiers"])
def test_a_participant_has_one_row_of_each_thing(connection: psycopg.Connection[Any], table: str) -> None:
    insert(connection, table, GOOD[table])
    with pytest.raises(UNIQUE):
        insert(connection, table, GOOD[table])


@pytest.mark.parametrize("external_id", ["User", " user", "user ", "user\u200b", "\uff55ser"])
def test_external_ids_are_compared_byte_for_byte(connection: psycopg.Connection[Any], external_id: str) -> None:
    insert(connection, "participants", {**GOOD["participants"], "external_id": external_id})


def test_two_organizations_may_use_the_same_external_id(connection: psycopg.Connection[Any]) -> None:
    rows = connection.execute("SELECT organization_id::text FROM participants WHERE external_id = 'user'").fetchall()
    assert {organization for (organization,) in rows} == {ORGANIZATION, OTHER_ORGANIZATION}
