"""Changing and erasing participants, through both clients of the real process."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import Deployment
from tests.support.clients import Client, Reply

Participant = dict[str, Any]
EVERYTHING: dict[str, Any] = {
    "display_name": "Jane Doe",
    "email": "jane@example.com",
    "first_name": "Jane",
    "last_name": "Doe",
    "phone": "+15551234567",
    "attributes": {"plan": "premium", "region": "us-east"},
    "tags": ["vip", "beta"],
}
MOVING = {"updated_at", "etag"}


@pytest.fixture
def participant(caller: Client, deployment: Deployment, external_id: str) -> Participant:
    """A participant with everything."""
    return caller.create(
        {"external_id": external_id, **EVERYTHING, "program_id": deployment.tenant.program_id}
    ).participant


def changed(caller: Client, before: Participant, reply: Reply) -> Participant:
    """Returns of what a change answered the part that is not what it was; checks that it was a change, and is read."""
    assert reply.code == "OK", reply
    after = reply.participant
    assert datetime.fromisoformat(after["updated_at"]) > datetime.fromisoformat(before["updated_at"])
    assert after["etag"] != before["etag"]
    assert caller.get(after["id"]).participant == after
    return {name: after.get(name) for name in {*before, *after} - MOVING if after.get(name) != before.get(name)}


def test_an_update_changes_what_it_carries_and_nothing_else(caller: Client, participant: Participant) -> None:
    reply = caller.update(
        participant["id"],
        {"first_name": "Joan", "phone": "", "attributes": {"plan": "basic", "seat": ""}, "tags": ["New", "NEW"]},
    )
    assert changed(caller, participant, reply) == {
        "first_name": "Joan",
        "phone": None,
        "attributes": {"plan": "basic", "region": "us-east", "seat": ""},
        "tags": ["new"],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"external_id": "", "attributes": {}, "tags": [], "add_tags": [], "remove_tags": [], "remove_attributes": []},
        EVERYTHING,
        {"tags": ["VIP", "Beta"], "add_tags": ["BETA"], "remove_tags": ["absent"], "remove_attributes": ["absent"]},
    ],
    ids=["nothing", "what is empty", "what it is already", "what is there or not there already"],
)
def test_a_change_that_changes_nothing_writes_nothing(
    caller: Client, participant: Participant, connection: psycopg.Connection[Any], changes: dict[str, Any]
) -> None:
    version = "SELECT ctid, xmin FROM participants WHERE participant_id = %s"
    before = connection.execute(version, (participant["id"],)).fetchone()
    reply = caller.update(participant["id"], changes)
    assert (reply.code, reply.participant) == ("OK", participant)
    assert connection.execute(version, (participant["id"],)).fetchone() == before


def test_attributes_and_tags_are_added_and_removed(caller: Client, participant: Participant) -> None:
    reply = caller.update(
        participant["id"],
        {
            "attributes": {"seat": "window"},
            "remove_attributes": ["plan", "absent"],
            "add_tags": ["Gold", "BETA"],
            "remove_tags": ["ViP", "absent"],
        },
    )
    assert changed(caller, participant, reply) == {
        "attributes": {"region": "us-east", "seat": "window"},
        "tags": ["beta", "gold"],
    }
    cleared = caller.update(participant["id"], {"remove_tags": ["beta", "gold"]})
    assert changed(caller, reply.participant, cleared) == {"tags": []}


def test_what_is_set_and_removed_at_once_is_refused(caller: Client, participant: Participant) -> None:
    reply = caller.update(
        participant["id"],
        {
            "attributes": {"plan": ""},
            "remove_attributes": ["region", "plan"],
            "tags": ["a"],
            "add_tags": ["Vip"],
            "remove_tags": ["vIP", "x", "A"],
        },
    )
    assert reply.code == "INVALID_ARGUMENT"
    assert reply.fields == ["remove_attributes[1]", "remove_tags[0]", "remove_tags[2]"]
    assert caller.get(participant["id"]).participant == participant


@pytest.mark.parametrize(
    ("changes", "fields"),
    [
        ({"external_id": "x" * 256}, ["external_id"]),
        ({"external_id": "a\0"}, ["external_id"]),
        ({"email": "nobody", "phone": "1" * 51}, ["email", "phone"]),
        ({"add_tags": [""]}, ["add_tags[0]"]),
        ({"add_tags": ["\u0130" * 200]}, ["add_tags[0]"]),
        ({"remove_attributes": ["", "\0"]}, ["remove_attributes[0]", "remove_attributes[1]"]),
        ({"attributes": {str(n): "" for n in range(255)}}, ["attributes"]),
        ({"attributes": {str(n): "\U0001f389" * 4096 for n in range(4)}}, ["attributes"]),
        ({"add_tags": [str(n) for n in range(255)]}, ["tags"]),
        ({"add_tags": [f"{n:0255}" for n in range(65)]}, ["tags"]),
    ],
    ids=[
        "a long external_id",
        "U+0000",
        "a bad profile",
        "an empty tag",
        "a tag that is long in lower case",
        "keys to remove",
        "too many attributes",
        "too large attributes",
        "too many tags",
        "too large tags",
    ],
)
def test_what_is_wrong_with_an_update_is_said_and_nothing_is_written(
    caller: Client, participant: Participant, changes: dict[str, Any], fields: list[str]
) -> None:
    reply = caller.update(participant["id"], {"first_name": "Joan", **changes})
    assert (reply.code, reply.fields) == ("INVALID_ARGUMENT", fields)
    assert caller.get(participant["id"]).participant == participant


def test_what_is_too_large_already_is_readable_and_may_shrink_or_change(
    caller: Client, participant: Participant, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(
        "UPDATE participants SET attributes = "
        "(SELECT jsonb_object_agg(n, repeat('x', 1000)) FROM generate_series(1, 300) AS n) WHERE participant_id = %s",
        (participant["id"],),
    )
    assert len(caller.get(participant["id"]).participant["attributes"]) == 300
    assert caller.update(participant["id"], {"attributes": {"301": ""}}).fields == ["attributes"]
    assert caller.update(participant["id"], {"attributes": {"1": "x" * 1001}}).fields == ["attributes"]
    assert caller.update(participant["id"], {"attributes": {"1": "y" * 1000}}).code == "OK"
    assert caller.update(participant["id"], {"remove_attributes": ["1"], "attributes": {"0": ""}}).code == "OK"
    assert caller.update(participant["id"], {"first_name": "Joan"}).code == "OK"


def test_a_rename_moves_the_key(caller: Client, participant: Participant, external_id: str) -> None:
    new = f"{external_id}-é"
    assert changed(caller, participant, caller.update(participant["id"], {"external_id": new})) == {"external_id": new}
    assert caller.lookup(new).participant["id"] == participant["id"]
    assert caller.lookup(external_id).code == "NOT_FOUND"
    assert caller.create({"external_id": new}).participant["id"] == participant["id"]
    assert caller.create({"external_id": external_id}).participant["id"] != participant["id"]
    taken = caller.update(participant["id"], {"external_id": external_id, "first_name": "Joan"})
    assert taken.code == "ALREADY_EXISTS"
    assert caller.get(participant["id"]).participant["first_name"] == "Jane"


def test_concurrent_renames_and_upserts_leave_one_participant_a_key(caller: Client, external_id: str) -> None:
    ids = [caller.create({"external_id": f"{external_id}-{n}"}).participant["id"] for n in range(4)]
    target = f"{external_id}-target"

    def call(number: int) -> Reply:
        if number % 2:
            return caller.create({"external_id": target, "attributes": {str(number): ""}})
        return caller.update(ids[number // 2 % 4], {"external_id": target})

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(call, range(16)))
    assert {reply.code for reply in replies} <= {"OK", "ALREADY_EXISTS"}
    final = caller.lookup(target).participant
    assert {reply.participant["id"] for reply in replies if reply.code == "OK"} == {final["id"]}
    assert set(final["attributes"]) == {str(number) for number in range(1, 16, 2)}


def test_a_status_moves_between_any_two(caller: Client, participant: Participant) -> None:
    before = participant
    for status in ["SUSPENDED", "CLOSED", "ACTIVE", "CLOSED", "SUSPENDED", "ACTIVE"]:
        reply = caller.set_status(participant["id"], status)
        assert changed(caller, before, reply) == {"status": status}
        assert caller.set_status(participant["id"], status).participant == reply.participant
        before = reply.participant
    assert caller.set_status(participant["id"], "STATUS_UNSPECIFIED").fields == ["status"]


def test_an_enrollment_ends_and_comes_back_in_its_old_place(
    caller: Client, deployment: Deployment, participant: Participant
) -> None:
    one, two = deployment.tenant.program_id, deployment.tenant.other_program_id
    both = caller.enroll(participant["id"], two)
    assert changed(caller, participant, both) == {"program_ids": [one, two]}
    assert caller.enroll(participant["id"], two).participant == both.participant
    ended = caller.unenroll(participant["id"], one)
    assert changed(caller, both.participant, ended) == {"program_ids": [two]}
    assert caller.unenroll(participant["id"], one).participant == ended.participant
    again = caller.enroll(participant["id"], one)
    assert changed(caller, ended.participant, again) == {"program_ids": [one, two]}


def test_an_unenrollment_where_there_was_none_changes_nothing(
    caller: Client, deployment: Deployment, participant: Participant
) -> None:
    reply = caller.unenroll(participant["id"], deployment.tenant.other_program_id)
    assert (reply.code, reply.participant) == ("OK", participant)


@pytest.mark.parametrize("action", ["enroll", "unenroll"])
def test_an_unknown_program_is_not_found(caller: Client, participant: Participant, action: str) -> None:
    assert getattr(caller, action)(participant["id"], str(uuid4())).code == "NOT_FOUND"
    assert getattr(caller, action)(participant["id"], "one").fields == ["program_id"]
    assert caller.get(participant["id"]).participant == participant


def test_an_etag_is_a_precondition(caller: Client, participant: Participant) -> None:
    old, participant_id = participant["etag"], participant["id"]
    new = caller.update(participant_id, {"first_name": "Joan", "etag": old})
    assert new.code == "OK"
    for etag in (old, "nonsense", old + "0"):
        replies = [
            caller.update(participant_id, {"first_name": "Jean", "etag": etag}),
            caller.update(participant_id, {"etag": etag}),
            caller.set_status(participant_id, "CLOSED", etag),
            caller.delete(participant_id, etag),
        ]
        assert [reply.code for reply in replies] == ["ABORTED"] * 4
        assert {reply.retry_after for reply in replies} == {None}
    assert caller.get(participant_id).participant == new.participant
    suspended = caller.set_status(participant_id, "SUSPENDED", new.participant["etag"])
    assert suspended.code == "OK"
    assert caller.delete(participant_id, suspended.participant["etag"]).code == "OK"


def test_what_is_erased_is_gone_and_comes_back_as_another(
    caller: Client, participant: Participant, external_id: str
) -> None:
    participant_id = participant["id"]
    assert caller.delete(participant_id).code == "OK"
    gone = [
        caller.get(participant_id),
        caller.lookup(external_id),
        caller.update(participant_id, {"first_name": "Joan"}),
        caller.set_status(participant_id, "CLOSED"),
        caller.enroll(participant_id, participant["program_ids"][0]),
        caller.unenroll(participant_id, participant["program_ids"][0]),
        caller.delete(participant_id),
        caller.delete(participant_id, participant["etag"]),
    ]
    assert [reply.code for reply in gone] == ["NOT_FOUND"] * len(gone)
    again = caller.create({"external_id": external_id})
    assert again.result == "CREATED"
    assert again.participant["id"] != participant_id
    assert again.participant["etag"] != participant["etag"]
    assert (again.participant["attributes"], again.participant["program_ids"]) == ({}, [])


def test_nothing_of_an_erased_participant_is_left_in_any_table(
    caller: Client, deployment: Deployment, connection: psycopg.Connection[Any]
) -> None:
    secret = f"secret{uuid4().hex}"
    request = {
        "external_id": secret,
        "first_name": f"{secret}-name",
        "attributes": {f"{secret}-key": f"{secret}-value"},
        "tags": [f"{secret}-tag"],
        "program_id": deployment.tenant.program_id,
    }
    participant = caller.create(request).participant
    ids = (deployment.tenant.organization_id, participant["id"])
    connection.execute("INSERT INTO counters VALUES (%s, %s, 'points', 1)", ids)
    connection.execute("INSERT INTO balances VALUES (%s, %s, 'points', 1)", ids)
    connection.execute("INSERT INTO tiers VALUES (%s, %s, 'loyalty', 'gold', 1)", ids)
    caller.update(participant["id"], {"external_id": f"{secret}-renamed", "add_tags": [f"{secret}-other"]})
    traces = [secret, participant["id"]]
    assert all(trace in dump(connection) for trace in traces)
    assert caller.delete(participant["id"]).code == "OK"
    assert not [trace for trace in traces if trace in dump(connection)]


def dump(connection: psycopg.Connection[Any]) -> str:
    """Returns all rows of all tables as text."""
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    rows = [connection.execute(f"SELECT t::text FROM {table} AS t".encode()).fetchall() for (table,) in tables]
    return "\n".join(row for table in rows for (row,) in table)


def test_changes_wait_for_nobody_for_long(
    caller: Client, participant: Participant, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction():
        connection.execute("SELECT FROM participants WHERE participant_id = %s FOR UPDATE", (participant["id"],))
        locked = caller.update(participant["id"], {"first_name": "Joan"})
    assert locked.code == "ABORTED"
    assert locked.retry_after is not None
    assert caller.update(participant["id"], {"first_name": "Joan"}).code == "OK"


def test_many_changes_of_one_participant_all_come_to_pass(
    caller: Client, deployment: Deployment, participant: Participant, external_id: str
) -> None:
    def call(number: int) -> Reply:
        match number % 4:
            case 0:
                return caller.update(participant["id"], {"attributes": {f"update-{number}": ""}})
            case 1:
                return caller.create({"external_id": external_id, "attributes": {f"upsert-{number}": ""}})
            case 2:
                return caller.update(participant["id"], {"add_tags": [f"tag-{number}"]})
            case _:
                return caller.enroll(participant["id"], deployment.tenant.other_program_id)

    with ThreadPoolExecutor(32) as pool:
        assert {reply.code for reply in pool.map(call, range(64))} == {"OK"}
    final = caller.get(participant["id"]).participant
    added = {f"update-{n}" for n in range(0, 64, 4)} | {f"upsert-{n}" for n in range(1, 64, 4)}
    assert set(final["attributes"]) == {*participant["attributes"], *added}
    assert set(final["tags"]) == {*participant["tags"], *(f"tag-{n}" for n in range(2, 64, 4))}
