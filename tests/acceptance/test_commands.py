"""The command `participants`: what operators type, and what scripts read."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import click
import psycopg
import pytest
from click.testing import CliRunner

from server.cli import participants
from server.postgres.migrations import MIGRATION_LOCK
from tests.conftest import Deployment, fresh_database
from tests.support.process import COMMAND, environment, eventually, refusal, run


def succeeds(conninfo: str, *arguments: str) -> str:
    """Runs a command on a database to its good end, and returns what it printed."""
    completed = run(*arguments, env=environment(DATABASE_URL=conninfo))
    assert completed.returncode == 0, completed
    return completed.stdout


def listed(conninfo: str, *arguments: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(succeeds(conninfo, *arguments, "--json"))
    return rows


def test_a_key_is_printed_once_and_listed_without_itself_until_it_is_revoked(database: str) -> None:
    created = run(
        *("keys", "create", "--organization", "acme", "--name", "nightly sync", "--expires-in-days", "30"),
        env=environment(DATABASE_URL=database),
    )
    key = created.stdout.removesuffix("\n")
    assert re.fullmatch(r"sk_[A-Za-z0-9]{71}", key)
    assert key not in created.stderr

    (row,) = listed(database, "keys", "list")
    assert (row["organization"], row["name"], row["state"], row["revoked_at"]) == (
        "acme",
        "nightly sync",
        "active",
        None,
    )
    assert row["key_id"] in created.stderr
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row["expires_at"])

    assert row["key_id"] in succeeds(database, "keys", "revoke", row["key_id"])
    table = succeeds(database, "keys", "list", "--organization", "acme").splitlines()
    assert table[0].split() == ["KEY_ID", "ORGANIZATION", "NAME", "STATE", "CREATED_AT", "EXPIRES_AT", "REVOKED_AT"]
    assert re.split(r"\s{2,}", table[1])[:4] == [row["key_id"], "acme", "nightly sync", "revoked"]
    assert listed(database, "keys", "list", "--organization", "globex") == []


def test_revoking_a_key_that_does_not_exist_is_refused(database: str) -> None:
    line = refusal(run("keys", "revoke", "0123456789abcdef", env=environment(DATABASE_URL=database)))
    assert "0123456789abcdef" in line
    assert "keys list" in line


def test_a_program_is_made_once_and_listed(database: str) -> None:
    variables = environment(DATABASE_URL=database)
    create = ("programs", "create", "--organization", "acme", "gold")
    assert "participants keys create" in refusal(run(*create, env=variables))

    succeeds(database, "keys", "create", "--organization", "acme")
    program_id = succeeds(database, *create).removesuffix("\n")
    assert str(UUID(program_id)) == program_id
    assert "already" in refusal(run(*create, env=variables))

    (row,) = listed(database, "programs", "list")
    assert (row["program_id"], row["organization"], row["name"]) == (program_id, "acme", "gold")
    table = succeeds(database, "programs", "list").splitlines()
    assert table[0].split() == ["PROGRAM_ID", "ORGANIZATION", "NAME", "CREATED_AT"]
    assert table[1].split()[:3] == [program_id, "acme", "gold"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys", "create"),
        ("keys", "create", "--organization", ""),
        ("keys", "create", "--organization", "two\nlines"),
        ("keys", "create", "--organization", "x" * 256),
        ("keys", "create", "--organization", "acme", "--expires-in-days", "0"),
        ("programs", "create", "--organization", "acme"),
        ("programs", "create", "--organization", "acme", ""),
        ("serve", "--workers", "0"),
        ("no-such-command",),
    ],
)
def test_wrong_usage_has_an_exit_status_of_its_own(arguments: tuple[str, ...]) -> None:
    assert CliRunner().invoke(participants, arguments).exit_code == 2


def every_command(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    yield path
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from every_command(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(every_command(participants)), ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...]) -> None:
    for flag in ("--help", "-h"):
        shown = CliRunner().invoke(participants, [*path, flag])
        assert shown.exit_code == 0
        assert shown.output.startswith("Usage: ")
        # A sentence about the command stands between the usage and the options.
        assert re.search(r"(?s)\n  [A-Z].+\.", shown.output.partition("\nOptions:")[0])


def test_the_commands_of_the_contract_are_there() -> None:
    contract: set[tuple[str, ...]] = {("serve",), ("migrate",), ("import",), ("health",)}
    contract |= {("keys", "create"), ("keys", "list"), ("keys", "revoke"), ("programs", "create"), ("programs", "list")}
    assert contract <= set(every_command(participants))


def test_migrating_twice_does_nothing_the_second_time(postgres: str) -> None:
    with fresh_database(postgres, "participants_test_migrate") as conninfo:
        assert "applied 0001" in succeeds(conninfo, "migrate")
        assert succeeds(conninfo, "migrate") == "the schema is up to date\n"


def test_of_two_migrations_at_once_one_does_the_work(postgres: str) -> None:
    with fresh_database(postgres, "participants_test_migrate") as conninfo, psycopg.connect(conninfo) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        connection.commit()
        command = [str(COMMAND), "migrate"]
        processes = [
            subprocess.Popen(command, env=environment(DATABASE_URL=conninfo), stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        eventually(lambda: waiting_for_lock(connection) == 2)
        connection.execute("SELECT pg_advisory_unlock_all()")
        connection.commit()
        printed = sorted(process.communicate(timeout=20)[0] for process in processes)
        assert [process.returncode for process in processes] == [0, 0]
        assert printed[0].startswith("applied 0001")
        assert printed[1] == "the schema is up to date\n"


def waiting_for_lock(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'"
    ).fetchone()
    connection.commit()
    assert row is not None
    return int(row[0])


@pytest.mark.parametrize(
    ("service", "status", "answer"),
    [("", 0, "SERVING\n"), ("liveness", 0, "SERVING\n"), ("no-such-name", 1, "")],
)
def test_health_tells_by_its_exit_status(deployment: Deployment, service: str, status: int, answer: str) -> None:
    # Listening on every interface is what the image does; the probe finds it on the loopback.
    address = deployment.service.grpc_address.replace("127.0.0.1", "0.0.0.0")
    variables = environment(PARTICIPANTS_GRPC_ADDRESS=address)
    completed = run("health", *(["--service", service] if service else []), env=variables)
    assert (completed.returncode, completed.stdout) == (status, answer)


def test_health_fails_where_nothing_listens() -> None:
    line = refusal(run("health", env=environment(PARTICIPANTS_GRPC_ADDRESS="127.0.0.1:1")))
    assert "127.0.0.1:1" in line
