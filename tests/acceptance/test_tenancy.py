"""A key reaches its own organization's data alone; what belongs to another does not exist."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from server.postgres import administration
from tests.conftest import Deployment
from tests.support.clients import Client, Reply


@pytest.fixture
def second_key(deployment: Deployment) -> str:
    """Another key of the organization that the client's key belongs to."""
    with psycopg.connect(deployment.conninfo, autocommit=True) as connection:
        _, key = administration.create_key(connection, deployment.tenant.name, "second", None)
    return key


def without_id(reply: Reply, participant_or_program_id: str) -> Reply:
    """Returns the reply as it must be whatever was asked for."""
    assert participant_or_program_id not in reply.message
    return reply


def test_another_organizations_participant_cannot_be_read(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    theirs = client.create({"external_id": external_id}, key=deployment.stranger.key).participant
    absent = str(uuid4())
    foreign, unknown = client.get(theirs["id"]), client.get(absent)
    assert foreign.code == "NOT_FOUND"
    assert without_id(foreign, theirs["id"]) == without_id(unknown, absent)
    assert client.get(theirs["id"], key=deployment.stranger.key).participant == theirs


def test_the_same_external_id_is_another_participant(client: Client, deployment: Deployment, external_id: str) -> None:
    theirs = client.create(
        {"external_id": external_id, "first_name": "Jane", "attributes": {"plan": "premium"}, "tags": ["vip"]},
        key=deployment.stranger.key,
    )
    ours = client.create({"external_id": external_id, "last_name": "Doe"})
    assert (theirs.result, ours.result) == ("CREATED", "CREATED")
    assert ours.participant["id"] != theirs.participant["id"]
    assert (ours.participant["attributes"], ours.participant["tags"]) == ({}, [])
    assert "first_name" not in ours.participant


def test_an_upsert_does_not_touch_another_organizations_participant(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    theirs = client.create({"external_id": external_id}, key=deployment.stranger.key).participant
    client.create({"external_id": external_id, "status": "CLOSED", "program_id": deployment.tenant.program_id})
    assert client.get(theirs["id"], key=deployment.stranger.key).participant == theirs


@pytest.mark.parametrize("exists", [False, True], ids=["at creation", "on update"])
def test_another_organizations_program_is_as_unknown_as_any(
    client: Client, deployment: Deployment, external_id: str, exists: bool
) -> None:
    if exists:
        client.create({"external_id": external_id})
    theirs, absent = deployment.stranger.program_id, str(uuid4())
    foreign = client.create({"external_id": external_id, "program_id": theirs})
    unknown = client.create({"external_id": external_id, "program_id": absent})
    assert foreign.code == "NOT_FOUND"
    assert without_id(foreign, theirs) == without_id(unknown, absent)


def test_a_batch_reaches_its_own_organization_alone(client: Client, deployment: Deployment, external_id: str) -> None:
    theirs = client.create({"external_id": external_id}, key=deployment.stranger.key).participant
    [ours] = client.create_batch([{"external_id": external_id, "first_name": "Jane"}]).items
    assert (ours.result, ours.participant["id"] == theirs["id"]) == ("CREATED", False)
    assert client.get(theirs["id"], key=deployment.stranger.key).participant == theirs


def test_two_keys_of_one_organization_reach_the_same_data(
    client: Client, deployment: Deployment, external_id: str, second_key: str
) -> None:
    ours = client.create({"external_id": external_id}).participant
    assert client.get(ours["id"], key=second_key).participant == ours
    assert client.create({"external_id": external_id}, key=second_key).participant == ours


def test_requests_of_two_organizations_that_are_written_together_stay_apart(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    keys = [deployment.tenant.key, deployment.stranger.key]
    with ThreadPoolExecutor(16) as pool:
        replies = list(
            pool.map(
                lambda number: client.create(
                    {"external_id": external_id, "attributes": {f"{number}": ""}}, key=keys[number % 2]
                ),
                range(16),
            )
        )
    for side in (0, 1):
        ids = {reply.participant["id"] for reply in replies[side::2]}
        assert len(ids) == 1
        final = client.get(ids.pop(), key=keys[side]).participant
        assert final["attributes"] == {f"{number}": "" for number in range(side, 16, 2)}


def test_another_organizations_participant_can_be_neither_found_nor_changed(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    theirs = client.create({"external_id": external_id, "tags": ["x"]}, key=deployment.stranger.key).participant
    program_id = deployment.tenant.program_id

    def replies(participant_id: str, external_id: str) -> list[Reply]:
        return [
            client.lookup(external_id),
            client.update(participant_id, {"first_name": "Jane"}),
            client.update(participant_id, {"etag": theirs["etag"]}),
            client.set_status(participant_id, "CLOSED"),
            client.enroll(participant_id, program_id),
            client.unenroll(participant_id, program_id),
            client.delete(participant_id),
            client.delete(participant_id, theirs["etag"]),
        ]

    foreign = replies(theirs["id"], external_id)
    assert {reply.code for reply in foreign} == {"NOT_FOUND"}
    assert foreign == replies(str(uuid4()), f"{external_id}-absent")
    assert client.get(theirs["id"], key=deployment.stranger.key).participant == theirs


def test_a_list_has_the_organizations_own_participants_alone(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    tag = f"tag-{external_id}"
    request = {"external_id": external_id, "tags": [tag], "email": f"{external_id}@example.com"}
    theirs = client.create({**request, "program_id": deployment.stranger.program_id}, key=deployment.stranger.key)
    filters: list[dict[str, Any]] = [
        {"tag": tag},
        {"email": request["email"]},
        {"external_id_prefix": external_id},
        {"program_id": deployment.stranger.program_id},
    ]
    for filtered in filters:
        assert client.list(filtered).participants == []
        assert theirs.participant in client.list(filtered, key=deployment.stranger.key).participants
    assert all(participant["external_id"] != external_id for participant in client.list({}).participants)


def test_a_page_token_is_for_the_organization_it_was_made_for(client: Client, deployment: Deployment) -> None:
    for number in range(2):
        client.create({"external_id": f"token-{number}"}, key=deployment.stranger.key)
    token = client.list({"page_size": 1}, key=deployment.stranger.key).next_page_token
    assert token
    assert client.list({"page_token": token}).fields == ["page_token"]


def test_another_organizations_external_id_is_free_to_be_taken_by_a_rename(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    theirs = client.create({"external_id": external_id}, key=deployment.stranger.key).participant
    ours = client.create({"external_id": f"{external_id}-ours"}).participant
    assert client.update(ours["id"], {"external_id": external_id}).code == "OK"
    assert client.lookup(external_id, key=deployment.stranger.key).participant == theirs
    assert client.enroll(ours["id"], deployment.stranger.program_id).code == "NOT_FOUND"
