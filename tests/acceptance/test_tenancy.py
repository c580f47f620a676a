"""A key reaches its own organization's data alone; what belongs to another does not exist (contract, section 3)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
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
