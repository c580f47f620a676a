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
# Makes programs, and enrolls a participant in all of them but for the last, which it returns after them.
OF_255_PROGRAMS_IN_ALL_BUT_ONE = """
    WITH added AS (
        INSERT INTO programs (organization_id, program_id, name)
        SELECT organization_id, gen_random_uuid(), 'program ' || n || ' of ' || participant_id
        FROM participants, generate_series(1, 255) AS n
        WHERE participant_id = %(id)s
        RETURNING organization_id, program_id
    ),
    numbered AS (SELECT *, row_number() OVER () AS n FROM added),
    enrolled AS (
        INSERT INTO enrollments (organization_id, participant_id, program_id)
        SELECT organization_id, %(id)s, program_id FROM numbered WHERE n < 255
    )
    SELECT program_id FROM numbered ORDER BY n
"""


@pytest.fixture
def participant(client: Client, deployment: Deployment, external_id: str) -> Participant:
    """A participant with everything."""
    return client.create(
        {"external_id": external_id, **EVERYTHING, "program_id": deployment.tenant.program_id}
    ).participant


def changed(client: Client, before: Participant, reply: Reply) -> Participant:
    """Returns of what a change answered the part that is not what it was; checks that it was a change, and is read."""
    assert reply.code == "OK", reply
    after = reply.participant
    assert datetime.fromisoformat(after["updated_at"]) > datetime.fromisoformat(before["updated_at"])
    assert after["etag"] != before["etag"]
    assert client.get(after["id"]).participant == after
    return {name: after.get(name) for name in {*before, *after} - MOVING if after.get(name) != before.get(name)}


def test_an_update_changes_what_it_carries_and_nothing_else(client: Client, participant: Participant) -> None:
    reply = client.update(
        participant["id"],
        {"first_name": "Joan", "phone": "", "attributes": {"plan": "basic", "seat": ""}, "tags": ["New", "NEW"]},
    )
    assert changed(client, participant, reply) == {
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
    client: Client, participant: Participant, connection: psycopg.Connection[Any], changes: dict[str, Any]
) -> None:
    version = "SELECT ctid, xmin FROM participants WHERE participant_id = %s"
    before = connection.execute(version, (participant["id"],)).fetchone()
    reply = client.update(participant["id"], changes)
    assert (reply.code, reply.participant) == ("OK", participant)
    assert connection.execute(version, (participant["id"],)).fetchone() == before


def test_attributes_and_tags_are_added_and_removed(client: Client, participant: Participant) -> None:
    reply = client.update(
        participant["id"],
        {
            "attributes": {"seat": "window"},
            "remove_attributes": ["plan", "absent"],
            "add_tags": ["Gold", "BETA"],
            "remove_tags": ["ViP", "absent"],
        },
    )
    assert changed(client, participant, reply) == {
        "attributes": {"region": "us-east", "seat": "window"},
        "tags": ["beta", "gold"],
    }
    cleared = client.update(participant["id"], {"remove_tags": ["beta", "gold"]})
    assert changed(client, reply.participant, cleared) == {"tags": []}


def test_what_is_set_and_removed_at_once_is_refused(client: Client, participant: Participant) -> None:
    reply = client.update(
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
    assert client.get(participant["id"]).participant == participant


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
    client: Client, participant: Participant, changes: dict[str, Any], fields: list[str]
) -> None:
    reply = client.update(participant["id"], {"first_name": "Joan", **changes})
    assert (reply.code, reply.fields) == ("INVALID_ARGUMENT", fields)
    assert client.get(participant["id"]).participant == participant


def test_what_is_too_large_already_is_readable_and_may_shrink_or_change(
    client: Client, participant: Participant, connection: psycopg.Connection[Any]
) -> None:
    connection.execute(
        "UPDATE participants SET attributes = "
        "(SELECT jsonb_object_agg(n, repeat('x', 1000)) FROM generate_series(1, 300) AS n) WHERE participant_id = %s",
        (participant["id"],),
    )
    assert len(client.get(participant["id"]).participant["attributes"]) == 300
    assert client.update(participant["id"], {"attributes": {"301": ""}}).fields == ["attributes"]
    assert client.update(participant["id"], {"attributes": {"1": "x" * 1001}}).fields == ["attributes"]
    assert client.update(participant["id"], {"attributes": {"1": "y" * 1000}}).code == "OK"
    assert client.update(participant["id"], {"remove_attributes": ["1"], "attributes": {"0": ""}}).code == "OK"
    assert client.update(participant["id"], {"first_name": "Joan"}).code == "OK"


def test_a_rename_moves_the_key(client: Client, participant: Participant, external_id: str) -> None:
    new = f"{external_id}-é"
    assert changed(client, participant, client.update(participant["id"], {"external_id": new})) == {"external_id": new}
    assert client.lookup(new).participant["id"] == participant["id"]
    assert client.lookup(external_id).code == "NOT_FOUND"
    assert client.create({"external_id": new}).participant["id"] == participant["id"]
    assert client.create({"external_id": external_id}).participant["id"] != participant["id"]
    taken = client.update(participant["id"], {"external_id": external_id, "first_name": "Joan"})
    assert taken.code == "ALREADY_EXISTS"
    assert client.get(participant["id"]).participant["first_name"] == "Jane"


def test_concurrent_renames_and_upserts_leave_one_participant_a_key(client: Client, external_id: str) -> None:
    ids = [client.create({"external_id": f"{external_id}-{n}"}).participant["id"] for n in range(4)]
    target = f"{external_id}-target"

    def call(number: int) -> Reply:
        if number % 2:
            return client.create({"external_id": target, "attributes": {str(number): ""}})
        return client.update(ids[number // 2 % 4], {"external_id": target})

    with ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(call, range(16)))
    assert {reply.code for reply in replies} <= {"OK", "ALREADY_EXISTS"}
    final = client.lookup(target).participant
    assert {reply.participant["id"] for reply in replies if reply.code == "OK"} == {final["id"]}
    assert set(final["attributes"]) == {str(number) for number in range(1, 16, 2)}


def test_a_status_moves_between_any_two(client: Client, participant: Participant) -> None:
    before = participant
    for status in ["SUSPENDED", "CLOSED", "ACTIVE", "CLOSED", "SUSPENDED", "ACTIVE"]:
        reply = client.set_status(participant["id"], status)
        assert changed(client, before, reply) == {"status": status}
        assert client.set_status(participant["id"], status).participant == reply.participant
        before = reply.participant
    assert client.set_status(participant["id"], "STATUS_UNSPECIFIED").fields == ["status"]


def test_an_enrollment_ends_and_comes_back_in_its_old_place(
    client: Client, deployment: Deployment, participant: Participant
) -> None:
    one, two = deployment.tenant.program_id, deployment.tenant.other_program_id
    both = client.enroll(participant["id"], two)
    assert changed(client, participant, both) == {"program_ids": [one, two]}
    assert client.enroll(participant["id"], two).participant == both.participant
    ended = client.unenroll(participant["id"], one)
    assert changed(client, both.participant, ended) == {"program_ids": [two]}
    assert client.unenroll(participant["id"], one).participant == ended.participant
    again = client.enroll(participant["id"], one)
    assert changed(client, ended.participant, again) == {"program_ids": [one, two]}


@pytest.mark.parametrize("way", ["enroll", "upsert"])
def test_an_enrollment_comes_after_those_that_were_there_whatever_the_time(
    *,
    client: Client,
    deployment: Deployment,
    participant: Participant,
    connection: psycopg.Connection[Any],
    way: str,
) -> None:
    """A statement may have come before one that it follows: the time of the other is in its future then."""
    one, two = deployment.tenant.program_id, deployment.tenant.other_program_id
    for table, column in (("participants", "updated_at"), ("enrollments", "enrolled_at")):
        later = (
            f"UPDATE {table} SET {column} = date_trunc('hour', now()) + interval '2 hours' WHERE participant_id = %s"
        )
        connection.execute(later.encode(), [participant["id"]])
    if way == "enroll":
        both = client.enroll(participant["id"], two)
    else:
        both = client.create({"external_id": participant["external_id"], "program_id": two})
    assert both.participant["program_ids"] == [one, two]
    assert client.get(participant["id"]).participant["program_ids"] == [one, two]


def test_an_unenrollment_where_there_was_none_changes_nothing(
    client: Client, deployment: Deployment, participant: Participant
) -> None:
    reply = client.unenroll(participant["id"], deployment.tenant.other_program_id)
    assert (reply.code, reply.participant) == ("OK", participant)


@pytest.mark.parametrize("action", ["enroll", "unenroll"])
def test_an_unknown_program_is_not_found(client: Client, participant: Participant, action: str) -> None:
    assert getattr(client, action)(participant["id"], str(uuid4())).code == "NOT_FOUND"
    assert getattr(client, action)(participant["id"], "one").fields == ["program_id"]
    assert client.get(participant["id"]).participant == participant


def test_a_participant_is_in_at_most_256_programs_at_a_time(
    client: Client, deployment: Deployment, participant: Participant, connection: psycopg.Connection[Any]
) -> None:
    one, last = deployment.tenant.program_id, deployment.tenant.other_program_id
    participant_id, external_id = participant["id"], participant["external_id"]
    *_, beyond = [str(program_id) for (program_id,) in connection.execute(OF_255_PROGRAMS_IN_ALL_BUT_ONE, participant)]
    assert len(client.enroll(participant_id, last).participant["program_ids"]) == 256
    full = client.get(participant_id).participant
    for reply in (
        client.enroll(participant_id, beyond),
        client.create({"external_id": external_id, "first_name": "Joan", "program_id": beyond}),
    ):
        assert (reply.code, reply.violations) == ("INVALID_ARGUMENT", [("program_id", "TOO_MANY_PROGRAMS")])
    assert client.get(participant_id).participant == full
    # It can still change, and in what it is enrolled in already it is enrolled again.
    repeated = client.create({"external_id": external_id, "first_name": "Joan", "program_id": one})
    assert changed(client, full, repeated) == {"first_name": "Joan"}
    assert client.enroll(participant_id, last).participant == repeated.participant
    assert client.unenroll(participant_id, one).code == "OK"
    with ThreadPoolExecutor(2) as pool:
        ways = (
            lambda: client.enroll(participant_id, one),
            lambda: client.create({"external_id": external_id, "program_id": beyond}),
        )
        codes = sorted(future.result().code for future in [pool.submit(way) for way in ways])
    assert codes == ["INVALID_ARGUMENT", "OK"]
    assert len(client.get(participant_id).participant["program_ids"]) == 256


def test_an_etag_is_a_precondition(client: Client, participant: Participant) -> None:
    old, participant_id = participant["etag"], participant["id"]
    new = client.update(participant_id, {"first_name": "Joan", "etag": old})
    assert new.code == "OK"
    for etag in (old, "nonsense", old + "0"):
        replies = [
            client.update(participant_id, {"first_name": "Jean", "etag": etag}),
            client.update(participant_id, {"etag": etag}),
            client.set_status(participant_id, "CLOSED", etag),
            client.delete(participant_id, etag),
        ]
        assert [reply.code for reply in replies] == ["ABORTED"] * 4
        assert {reply.retry_after for reply in replies} == {None}
    assert client.get(participant_id).participant == new.participant
    suspended = client.set_status(participant_id, "SUSPENDED", new.participant["etag"])
    assert suspended.code == "OK"
    assert client.delete(participant_id, suspended.participant["etag"]).code == "OK"


def test_what_is_erased_is_gone_and_comes_back_as_another(
    client: Client, participant: Participant, external_id: str
) -> None:
    participant_id = participant["id"]
    assert client.delete(participant_id).code == "OK"
    gone = [
        client.get(participant_id),
        client.lookup(external_id),
        client.update(participant_id, {"first_name": "Joan"}),
        client.set_status(participant_id, "CLOSED"),
        client.enroll(participant_id, participant["program_ids"][0]),
        client.unenroll(participant_id, participant["program_ids"][0]),
        client.delete(participant_id),
        client.delete(participant_id, participant["etag"]),
    ]
    assert [reply.code for reply in gone] == ["NOT_FOUND"] * len(gone)
    again = client.create({"external_id": external_id})
    assert again.result == "CREATED"
    assert again.participant["id"] != participant_id
    assert again.participant["etag"] != participant["etag"]
    assert (again.participant["attributes"], again.participant["program_ids"]) == ({}, [])


def test_nothing_of_an_erased_participant_is_left_in_any_table(
    client: Client, deployment: Deployment, connection: psycopg.Connection[Any]
) -> None:
    secret = f"secret{uuid4().hex}"
    request = {
        "external_id": secret,
        "first_name": f"{secret}-name",
        "attributes": {f"{secret}-key": f"{secret}-value"},
        "tags": [f"{secret}-tag"],
        "program_id": deployment.tenant.program_id,
    }
    participant = client.create(request).participant
    earn(connection, deployment.tenant.organization_id, participant["id"])
    client.update(participant["id"], {"external_id": f"{secret}-renamed", "add_tags": [f"{secret}-other"]})
    traces = [secret, participant["id"]]
    assert all(trace in dump(connection) for trace in traces)
    assert client.delete(participant["id"]).code == "OK"
    assert not [trace for trace in traces if trace in dump(connection)]


def test_what_is_earned_elsewhere_moves_neither_etag_nor_time(
    client: Client, deployment: Deployment, participant: Participant, connection: psycopg.Connection[Any]
) -> None:
    earn(connection, deployment.tenant.organization_id, participant["id"])
    after = client.get(participant["id"]).participant
    assert (after["counters"], after["tiers"]["loyalty"]["level"]) == ({"points": "1"}, "gold")
    assert {name: after[name] for name in MOVING} == {name: participant[name] for name in MOVING}


def earn(connection: psycopg.Connection[Any], *ids: str) -> None:
    """Gives a participant, of an organization, what other parts of the system keep."""
    connection.execute("INSERT INTO counters VALUES (%s, %s, 'points', 1)", ids)
    connection.execute("INSERT INTO balances VALUES (%s, %s, 'points', 1)", ids)
    connection.execute("INSERT INTO tiers VALUES (%s, %s, 'loyalty', 'gold', 1)", ids)


def dump(connection: psycopg.Connection[Any]) -> str:
    """Returns all rows of all tables as text."""
    tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    rows = [connection.execute(f"SELECT t::text FROM {table} AS t".encode()).fetchall() for (table,) in tables]
    return "\n".join(row for table in rows for (row,) in table)


def test_changes_wait_for_nobody_for_long(
    client: Client, participant: Participant, connection: psycopg.Connection[Any]
) -> None:
    with connection.transaction():
        connection.execute("SELECT FROM participants WHERE participant_id = %s FOR UPDATE", (participant["id"],))
        locked = client.update(participant["id"], {"first_name": "Joan"})
    assert locked.code == "ABORTED"
    assert locked.retry_after is not None
    assert client.update(participant["id"], {"first_name": "Joan"}).code == "OK"


def test_many_changes_of_one_participant_all_come_to_pass(
    client: Client, deployment: Deployment, participant: Participant, external_id: str
) -> None:
    def call(number: int) -> Reply:
        match number % 4:
            case 0:
                return client.update(participant["id"], {"attributes": {f"update-{number}": ""}})
            case 1:
                return client.create({"external_id": external_id, "attributes": {f"upsert-{number}": ""}})
            case 2:
                return client.update(participant["id"], {"add_tags": [f"tag-{number}"]})
            case _:
                return client.enroll(participant["id"], deployment.tenant.other_program_id)

    with ThreadPoolExecutor(32) as pool:
        assert {reply.code for reply in pool.map(call, range(64))} == {"OK"}
    final = client.get(participant["id"]).participant
    added = {f"update-{n}" for n in range(0, 64, 4)} | {f"upsert-{n}" for n in range(1, 64, 4)}
    assert set(final["attributes"]) == {*participant["attributes"], *added}
    assert set(final["tags"]) == {*participant["tags"], *(f"tag-{n}" for n in range(2, 64, 4))}
