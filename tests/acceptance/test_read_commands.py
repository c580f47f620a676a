"""`participants list`, `get` and `export`: what a support agent and a data engineer type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import psycopg
import pytest
from participants.v1.participant_pb2 import Participant
from participants.v1.participant_service_pb2 import BatchCreateParticipantsRequest, CreateParticipantRequest
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from server.config import DEVELOPMENT_KEY_FILE
from tests.conftest import Deployment, deployed
from tests.support.process import environment, refusal, run

GIVEN = ("id", "created_at", "updated_at", "etag")


@pytest.fixture(scope="module")
def own(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[Deployment]:
    """A service whose participants are known: 450 plain ones, and some that are not."""
    with new_database() as conninfo, deployed(conninfo) as running:
        programs = [running.tenant.program_id, running.tenant.other_program_id]
        odd = [
            CreateParticipantRequest(
                external_id="jane/1 %", display_name='Doe,\n"Jane"', email="jane@example.com", phone="",
                status=Participant.SUSPENDED, attributes={"plan": "gold", "empty": ""},
                tags=["vip", "ärger"], program_id=programs[1],
            ),
            CreateParticipantRequest(external_id="jane/1 %", program_id=programs[0]),
            CreateParticipantRequest(external_id="closed", status=Participant.CLOSED, first_name="\x1b[31mred"),
        ]  # fmt: skip
        plain = [CreateParticipantRequest(external_id=f"plain-{number:03}") for number in reversed(range(450))]
        with grpc.insecure_channel(running.service.grpc_address) as channel:
            answer: Any = ParticipantServiceStub(channel).BatchCreateParticipants(
                BatchCreateParticipantsRequest(requests=[*odd, *plain]),
                metadata=(("x-api-key", running.tenant.key),),
                timeout=30,
            )
        assert not [item for item in answer.results if item.HasField("status")]
        yield running


@pytest.fixture
def env(own: Deployment) -> dict[str, str]:
    return environment(
        PARTICIPANTS_GRPC_ADDRESS=own.service.grpc_address,
        PARTICIPANTS_API_KEY=own.tenant.key,
    )


def listed(env: dict[str, str], *arguments: str) -> list[str]:
    """Returns the external_ids that a list shows."""
    completed = run("list", "--json", *arguments, env=env)
    assert completed.returncode == 0, completed
    return [participant["external_id"] for participant in json.loads(completed.stdout)]


def test_a_list_is_a_table(env: dict[str, str]) -> None:
    completed = run("list", "--email", "jane@example.com", env=env)
    heading, row = completed.stdout.splitlines()
    assert heading.split() == ["ID", "EXTERNAL_ID", "STATUS", "DISPLAY_NAME", "EMAIL", "TAGS", "CREATED_AT"]
    shown = re.split(r"\s{2,}", row)[1:-1]
    assert shown == ["jane/1 %", "SUSPENDED", 'Doe,?"Jane"', "jane@example.com", "vip, ärger"]
    assert completed.stderr == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--status", "CLOSED"), ["closed"]),
        (("--tag", "VIP"), ["jane/1 %"]),
        (("--external-id-prefix", "plain-00", "--limit", "2"), ["plain-000", "plain-001"]),
        (("--external-id-prefix", "plain-00", "--order-by", "created_at", "--limit", "1"), ["plain-009"]),
        (("--order-by", "external_id desc", "--limit", "1"), ["plain-449"]),
        (("--created-after", "2999-01-01T00:00:00Z"), []),
        (("--created-before", "2999-01-01T00:00:00+02:00", "--status", "SUSPENDED"), ["jane/1 %"]),
    ],
)
def test_a_list_is_filtered(env: dict[str, str], options: tuple[str, ...], expected: list[str]) -> None:
    assert listed(env, *options) == expected


def test_a_list_is_filtered_by_program(env: dict[str, str], own: Deployment) -> None:
    assert listed(env, "--program-id", own.tenant.program_id) == ["jane/1 %"]


def test_a_list_is_as_long_as_was_asked_and_says_when_there_is_more(env: dict[str, str]) -> None:
    completed = run("list", env=env)
    assert len(completed.stdout.splitlines()) == 51
    assert completed.stderr == "these are the first 50; there are more\n"
    assert len(listed(env, "--limit", "1000")) == 452


def test_a_participant_is_shown_by_either_id(env: dict[str, str]) -> None:
    found = json.loads(run("get", "--external-id", "jane/1 %", "--json", env=env).stdout)
    assert (found["display_name"], found["attributes"]) == ('Doe,\n"Jane"', {"plan": "gold", "empty": ""})
    assert json.loads(run("get", found["id"], "--json", env=env).stdout) == found
    shown = dict(re.split(r"\s{2,}", line) for line in run("get", found["id"], env=env).stdout.splitlines())
    assert (shown["id"], shown["attributes.plan"], shown["attributes.empty"]) == (found["id"], "gold", "-")
    assert shown["program_ids"] == ", ".join(found["program_ids"])


def test_what_is_not_there_is_one_line(env: dict[str, str]) -> None:
    assert "NOT_FOUND" in refusal(run("get", str(uuid4()), env=env))
    assert "NOT_FOUND" in refusal(run("get", "--external-id", "nobody", env=env))
    assert "INVALID_ARGUMENT" in refusal(run("get", "no id", env=env))
    assert "UNAUTHENTICATED" in refusal(run("list", env={**env, "PARTICIPANTS_API_KEY": "sk_nobody"}))
    assert "UNAVAILABLE" in refusal(run("list", env={**env, "PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:1"}))


def test_a_development_key_that_cannot_be_read_is_one_line(data_directory: Path) -> None:
    file = data_directory / DEVELOPMENT_KEY_FILE
    # As it is to whoever is not its owner; a test that runs as root may read every file.
    file.mkdir(parents=True)
    line = refusal(run("list", env=environment(PARTICIPANTS_DATA_DIR=str(data_directory))))
    assert str(file) in line
    assert "PARTICIPANTS_API_KEY" in line


@pytest.mark.parametrize(
    "arguments",
    [("get",), ("get", "a", "--external-id", "b"), ("list", "--limit", "0"), ("list", "--created-after", "2026-01-01")],
)
def test_what_cannot_be_meant_is_wrong_usage(env: dict[str, str], arguments: tuple[str, ...]) -> None:
    assert run(*arguments, env=env).returncode == 2


def test_what_is_exported_and_erased_is_imported_again(env: dict[str, str], own: Deployment, tmp_path: Path) -> None:
    def everybody() -> dict[str, dict[str, Any]]:
        shown = json.loads(run("list", "--limit", "1000", "--json", env=env).stdout)
        return {each["external_id"]: {name: each[name] for name in each if name not in GIVEN} for each in shown}

    before = everybody()
    exported = run("export", env=env)
    assert (exported.returncode, exported.stderr.split(" (")[0]) == (0, "exported 452")
    (tmp_path / "all.jsonl").write_text(exported.stdout)
    with psycopg.connect(own.conninfo) as connection:
        connection.execute("TRUNCATE participants CASCADE")
    assert everybody() == {}
    imported = run("import", str(tmp_path / "all.jsonl"), env=env)
    assert imported.stdout.startswith("created 452, updated 1, unchanged 0, rejected 0"), imported
    assert everybody() == before
    assert list(everybody()) == list(before)
