"""The command `participants`: what operators type, and what scripts read."""

from __future__ import annotations

import getpass
import json
import re
import socket
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
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
    """Runs a command that lists in this process, which takes a tenth of the time."""
    completed = CliRunner(env=environment(DATABASE_URL=conninfo)).invoke(participants, [*arguments, "--json"])
    assert completed.exit_code == 0, completed
    rows: list[dict[str, Any]] = json.loads(completed.stdout)
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
    assert table[0].split() == [
        "KEY_ID",
        "ORGANIZATION",
        "NAME",
        "STATE",
        "CREATED_AT",
        "EXPIRES_AT",
        "REVOKED_AT",
        "LAST_USED_AT",
    ]
    assert re.split(r"\s{2,}", table[1])[:4] == [row["key_id"], "acme", "nightly sync", "revoked"]
    assert listed(database, "keys", "list", "--organization", "globex") == []


def created_key(conninfo: str, *options: str) -> str:
    """Makes a key of the organization acme, and returns its id."""
    succeeds(conninfo, "keys", "create", "--organization", "acme", *options)
    return str(listed(conninfo, "keys", "list")[-1]["key_id"])


def test_a_rotated_key_is_followed_by_one_of_the_same_name_and_expires_after_the_overlap(database: str) -> None:
    old_id = created_key(database, "--name", "nightly sync")
    rotated = run("keys", "rotate", old_id, "--overlap", "24h", env=environment(DATABASE_URL=database))
    assert rotated.returncode == 0
    key = rotated.stdout.removesuffix("\n")
    assert re.fullmatch(r"sk_[A-Za-z0-9]{71}", key)
    assert key not in rotated.stderr

    old, new = listed(database, "keys", "list")
    assert (new["organization"], new["name"], new["state"], new["expires_at"]) == (
        "acme",
        "nightly sync",
        "active",
        None,
    )
    assert new["key_id"] in rotated.stderr
    assert old["state"] == "active"
    assert old["expires_at"] in rotated.stderr
    left = datetime.fromisoformat(old["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=23, minutes=55) < left <= timedelta(hours=24)


def test_a_rotation_without_overlap_ends_the_old_key_at_once(database: str) -> None:
    old_id = created_key(database)
    succeeds(database, "keys", "rotate", old_id, "--overlap", "0s")
    assert [row["state"] for row in listed(database, "keys", "list")] == ["expired", "active"]
    assert "keys create" in refusal(
        run("keys", "rotate", old_id, "--overlap", "7d", env=environment(DATABASE_URL=database))
    )


def test_a_rotation_lets_no_key_live_longer_and_the_next_as_long(database: str) -> None:
    old_id = created_key(database, "--expires-in-days", "2")
    (before,) = listed(database, "keys", "list")
    succeeds(database, "keys", "rotate", old_id, "--overlap", "7d")
    old, new = listed(database, "keys", "list")
    assert old["expires_at"] == before["expires_at"]
    lives = [
        datetime.fromisoformat(row["expires_at"]) - datetime.fromisoformat(row["created_at"]) for row in (old, new)
    ]
    assert abs(lives[0] - lives[1]) < timedelta(minutes=1)


def test_rotating_a_key_that_does_not_exist_is_refused(database: str) -> None:
    arguments = ("keys", "rotate", "0123456789abcdef", "--overlap", "1h")
    assert "keys list" in refusal(run(*arguments, env=environment(DATABASE_URL=database)))


def test_every_administrative_change_leaves_a_line_that_says_who_did_what(database: str) -> None:
    variables = environment(DATABASE_URL=database)
    created = run("keys", "create", "--organization", "acme", "--name", "sync", env=variables).stdout.strip()
    (first,) = listed(database, "keys", "list")
    rotated = succeeds(database, "keys", "rotate", first["key_id"], "--overlap", "1h").strip()
    second = listed(database, "keys", "list")[-1]
    for _ in range(2):
        # The second time changes nothing.
        succeeds(database, "keys", "revoke", second["key_id"])
    program_id = succeeds(database, "programs", "create", "--organization", "acme", "gold").strip()
    refusal(run("programs", "create", "--organization", "acme", "gold", env=variables))

    with psycopg.connect(database) as connection:
        lines = connection.execute(
            """
            SELECT l.action, o.name, l.subject, l.details, l.database_user = session_user, l.host, l.os_user,
                l.recorded_at > now() - interval '1 hour'
            FROM audit_log AS l JOIN organizations AS o USING (organization_id) ORDER BY l.recorded_at, l.entry_id
            """
        ).fetchall()
        text = str(connection.execute("SELECT l::text FROM audit_log AS l").fetchall())
    who = (True, socket.gethostname(), getpass.getuser(), True)
    old = listed(database, "keys", "list")[0]
    expiry = datetime.fromisoformat(old["expires_at"]).isoformat()
    assert lines == [
        ("organization.create", "acme", None, {"name": "acme"}, *who),
        ("key.create", "acme", first["key_id"], {"name": "sync", "expires_at": None}, *who),
        ("key.rotate", "acme", first["key_id"], {"followed_by": second["key_id"], "expires_at": expiry}, *who),
        ("key.revoke", "acme", second["key_id"], {}, *who),
        ("program.create", "acme", program_id, {"name": "gold"}, *who),
    ]
    for key in (created, rotated):
        assert key[3:] not in text
        assert key[-32:] not in text


def test_the_change_and_its_line_are_one_transaction(database: str) -> None:
    key_id = created_key(database)
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ALTER TABLE audit_log ADD CHECK (action NOT IN ('key.revoke', 'key.rotate')) NOT VALID")
    for arguments in (("revoke", key_id), ("rotate", key_id, "--overlap", "0s")):
        assert run("keys", *arguments, env=environment(DATABASE_URL=database)).returncode != 0
    (row,) = listed(database, "keys", "list")
    assert row["state"] == "active"


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
        ("keys", "create", "--organization", "acme", "--name", "x" * 256),
        ("keys", "create", "--organization", "acme", "--name", "two\nlines"),
        ("keys", "create", "--organization", "acme", "--expires-in-days", "0"),
        ("keys", "rotate", "0123456789abcdef"),
        ("keys", "rotate", "0123456789abcdef", "--overlap", "1"),
        ("keys", "rotate", "0123456789abcdef", "--overlap", "-1h"),
        ("keys", "rotate", "0123456789abcdef", "--overlap", "36501d"),
        ("programs", "create", "--organization", "acme"),
        ("programs", "create", "--organization", "acme", ""),
        ("serve", "--workers", "0"),
        ("no-such-command",),
        # What is not UTF-8.
        ("keys", "revoke", "\udcff"),
        ("keys", "rotate", "\udcff", "--overlap", "1h"),
        ("migrate", "--serving-role", "\udcff"),
        ("health", "--service", "\udcff"),
        ("get", "\udcff"),
        ("get", "--external-id", "\udcff"),
        *(("list", option, "\udcff") for option in ("--program-id", "--tag", "--email", "--external-id-prefix")),
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


@pytest.mark.parametrize("group", [(), ("keys",), ("programs",)], ids=str)
def test_a_group_shows_what_its_commands_do_in_whole_sentences(group: tuple[str, ...]) -> None:
    commands = CliRunner().invoke(participants, [*group, "--help"]).output.partition("\nCommands:\n")[2]
    assert all(line.endswith(".") and not line.endswith("...") for line in commands.splitlines()), commands


def test_the_commands_that_scripts_rely_on_are_there() -> None:
    promised: set[tuple[str, ...]] = {("serve",), ("migrate",), ("import",), ("health",)}
    promised |= {("protos",), ("list",), ("get",), ("export",)}
    promised |= {
        ("keys", "create"),
        ("keys", "list"),
        ("keys", "revoke"),
        ("keys", "rotate"),
        ("programs", "create"),
        ("programs", "list"),
    }
    assert promised <= set(every_command(participants))


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
    """Returns how many have asked for the lock in vain, and are to ask again."""
    row = connection.execute(
        """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'participants' AND state = 'idle' AND query = 'COMMIT'
        """
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


def test_the_version_is_that_of_the_distribution() -> None:
    completed = run("--version", env=environment())
    assert (completed.returncode, completed.stdout) == (0, f"participants, version {version('participants-server')}\n")
