"""What an upsert does (contract, section 2), through both doors of the real process."""

from __future__ import annotations

from uuid import uuid4

from tests.conftest import Deployment
from tests.support.doors import Door


def test_a_new_external_id_creates(door: Door, deployment: Deployment) -> None:
    external_id = f"new-{uuid4()}"
    reply = door.create({"external_id": external_id})
    assert (reply.code, reply.result) == ("OK", "CREATED")
    assert reply.participant["status"] == "ACTIVE"
    assert door.get(reply.participant["id"]).participant == reply.participant
