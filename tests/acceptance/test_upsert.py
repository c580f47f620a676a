"""What an upsert does, through both clients of the real process."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import grpc
import httpx
import psycopg
import pytest
from participants.v1 import participant_service_pb2 as messages

from tests.conftest import Deployment
from tests.support import loopback
from tests.support.clients import EMPTY, Client, GrpcClient, HttpClient, Reply
from tests.support.process import Service, environment

Connection = psycopg.Connection[Any]

PROFILE = {
    "display_name": "Jane Doe",
    "email": "jane@example.com",
    "first_name": "Jane",
    "last_name": "Doe",
    "phone": "+15551234567",
}
EVERYTHING = {
    **PROFILE,
    "status": "SUSPENDED",
    "attributes": {"plan": "premium", "region": "us-east"},
    "tags": ["vip", "beta"],
}
COUNTERS = {"points": "1500", "spent": "12.50", "debt": "-3", "huge": "123456789012345678901234567890.000000001"}
BALANCES = [
    {"asset_id": "Points", "available": "10", "held": "0", "deferred": "0"},
    {"asset_id": "coins", "available": "0.10", "held": "-2", "deferred": "98765432109876543210"},
    {"asset_id": "\u00e9toiles", "available": "0", "held": "0", "deferred": "0"},
]
TIERS = {"loyalty": {"level": "gold", "rank": 2}, "trial": {"level": "none", "rank": 0}}
IDENTITY = {"id", "created_at", "updated_at", "etag"}


def created(client: Client, request: Mapping[str, Any]) -> dict[str, Any]:
    """Creates a participant and returns it."""
    reply = client.create(request)
    assert (reply.code, reply.result) == ("OK", "CREATED")
    return reply.participant


def updated(client: Client, request: Mapping[str, Any]) -> dict[str, Any]:
    """Changes a participant that exists, and returns it."""
    reply = client.create(request)
    assert (reply.code, reply.result) == ("OK", client.expected("UPDATED"))
    assert client.get(reply.participant["id"]).participant == reply.participant
    return reply.participant


def moment(participant: Mapping[str, Any], name: str = "updated_at") -> datetime:
    return datetime.fromisoformat(participant[name])


def without_identity(participant: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in participant.items() if name not in IDENTITY}


def row_versions(connection: Connection, participant_id: str) -> list[Any]:
    """Returns what changes whenever a row of the participant is written, even with the same values."""
    return connection.execute(
        """
        SELECT 'participants', xmin::text, ctid::text, updated_at FROM participants WHERE participant_id = %(id)s
        UNION ALL
        SELECT 'enrollments', xmin::text, ctid::text, enrolled_at FROM enrollments WHERE participant_id = %(id)s
        ORDER BY 1, 4
        """,
        {"id": participant_id},
    ).fetchall()


class TestKey:
    """Rule 1: the key is compared byte for byte."""

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("ann-{}", "Ann-{}"),
            ("{}", " {}"),
            ("{}", "{} "),
            ("{}", "{}\n"),
            ("{}", "\t{}"),
            ("caf\u00e9-{}", "cafe\u0301-{}"),
            ("\u00c5-{}", "\u212b-{}"),
            ("stra\u00dfe-{}", "strasse-{}"),
            ("{}", "{}\u200b"),
            ("\u0131-{}", "i-{}"),
            ("1-{}", "01-{}"),
        ],
        ids=ascii,
    )
    def test_keys_that_merely_look_alike_are_two_participants(self, client: Client, one: str, other: str) -> None:
        unique = uuid4()
        first = created(client, {"external_id": one.format(unique)})
        second = created(client, {"external_id": other.format(unique)})
        assert first["id"] != second["id"]
        assert (first["external_id"], second["external_id"]) == (one.format(unique), other.format(unique))

    def test_the_same_bytes_are_the_same_participant(self, client: Client) -> None:
        external_id = f"  \U0001f600 Cafe\u0301 {uuid4()}\n"
        participant = created(client, {"external_id": external_id})
        assert client.create({"external_id": external_id}).participant == participant


class TestCreation:
    """Rule 2: what does not exist is created."""

    def test_a_key_alone_is_enough(self, client: Client, external_id: str) -> None:
        participant = created(client, {"external_id": external_id})
        assert without_identity(participant) == {**EMPTY, "external_id": external_id}

    def test_everything_can_be_set_at_once(self, client: Client, deployment: Deployment, external_id: str) -> None:
        request = {**EVERYTHING, "external_id": external_id}
        participant = created(client, {**request, "program_id": deployment.tenant.program_id})
        expected = {**EMPTY, **request, "program_ids": [deployment.tenant.program_id]}
        assert without_identity(participant) == expected

    @pytest.mark.parametrize("status", ["ACTIVE", "SUSPENDED", "CLOSED"])
    def test_the_first_status_is_the_one_that_is_asked_for(self, client: Client, external_id: str, status: str) -> None:
        assert created(client, {"external_id": external_id, "status": status})["status"] == status

    def test_an_unspecified_status_becomes_active(self, client: Client, external_id: str) -> None:
        participant = created(client, {"external_id": external_id, "status": "STATUS_UNSPECIFIED"})
        assert participant["status"] == "ACTIVE"

    def test_an_empty_profile_field_is_not_set(self, client: Client, external_id: str) -> None:
        participant = created(client, {"external_id": external_id, **dict.fromkeys(PROFILE, "")})
        assert not PROFILE.keys() & participant.keys()

    def test_what_was_answered_can_be_read(self, client: Client, deployment: Deployment, external_id: str) -> None:
        request = {**EVERYTHING, "external_id": external_id, "program_id": deployment.tenant.program_id}
        participant = created(client, request)
        assert client.get(participant["id"]).participant == participant

    def test_times_are_the_time_of_creation_in_utc(self, client: Client, external_id: str) -> None:
        participant = created(client, {"external_id": external_id})
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6})?Z", participant["created_at"])
        assert participant["created_at"] == participant["updated_at"]
        assert abs(datetime.now(UTC) - moment(participant)) < timedelta(seconds=30)


class TestUpdate:
    """Rule 3: only what the request carries changes."""

    @pytest.mark.parametrize("name", PROFILE)
    def test_a_profile_field_that_is_sent_is_replaced_alone(self, client: Client, external_id: str, name: str) -> None:
        before = created(client, {**EVERYTHING, "external_id": external_id})
        after = updated(client, {"external_id": external_id, name: f"new.{PROFILE[name]}"})
        assert without_identity(after) == {**without_identity(before), name: f"new.{PROFILE[name]}"}

    @pytest.mark.parametrize("name", PROFILE)
    def test_a_profile_field_that_is_sent_empty_is_cleared_alone(
        self, client: Client, external_id: str, name: str
    ) -> None:
        before = created(client, {**EVERYTHING, "external_id": external_id})
        after = updated(client, {"external_id": external_id, name: ""})
        del before[name]
        assert without_identity(after) == without_identity(before)

    def test_id_and_creation_time_stay(self, client: Client, external_id: str) -> None:
        before = created(client, {"external_id": external_id})
        after = updated(client, {"external_id": external_id, "first_name": "Jane"})
        assert (after["id"], after["created_at"]) == (before["id"], before["created_at"])

    def test_attributes_merge_by_key(self, client: Client, external_id: str) -> None:
        created(client, {"external_id": external_id, "attributes": {"kept": "1", "changed": "1"}})
        after = updated(client, {"external_id": external_id, "attributes": {"changed": "2", "added": ""}})
        assert after["attributes"] == {"kept": "1", "changed": "2", "added": ""}

    def test_an_attribute_can_become_empty(self, client: Client, external_id: str) -> None:
        created(client, {"external_id": external_id, "attributes": {"plan": "premium"}})
        assert updated(client, {"external_id": external_id, "attributes": {"plan": ""}})["attributes"] == {"plan": ""}

    def test_attributes_are_kept_as_they_were_sent(self, client: Client, external_id: str) -> None:
        attributes = {
            " Plan": " A ",
            "plan": "a",
            "\u00e9": "e\u0301",
            "\U0001f600": "\\\"'%s{}\n\t\x01",
            "null": "1e5",
        }
        participant = created(client, {"external_id": external_id, "attributes": attributes})
        assert participant["attributes"] == attributes

    def test_tags_replace_tags(self, client: Client, external_id: str) -> None:
        created(client, {"external_id": external_id, "tags": ["a", "b"]})
        assert updated(client, {"external_id": external_id, "tags": ["c", "a"]})["tags"] == ["c", "a"]

    def test_empty_collections_leave_what_is_there(self, client: Client, external_id: str) -> None:
        before = created(client, {**EVERYTHING, "external_id": external_id})
        after = updated(client, {"external_id": external_id, "tags": [], "attributes": {}, "first_name": "Ann"})
        assert (after["tags"], after["attributes"]) == (before["tags"], before["attributes"])

    @pytest.mark.parametrize("status", ["SUSPENDED", "CLOSED"])
    def test_a_sync_that_does_not_mention_status_revives_nobody(
        self, client: Client, external_id: str, status: str
    ) -> None:
        created(client, {"external_id": external_id, "status": status})
        assert updated(client, {"external_id": external_id, "first_name": "Jane"})["status"] == status

    def test_an_unspecified_status_revives_nobody(self, client: Client, external_id: str) -> None:
        created(client, {"external_id": external_id, "status": "SUSPENDED"})
        request = {"external_id": external_id, "status": "STATUS_UNSPECIFIED", "first_name": "Jane"}
        assert updated(client, request)["status"] == "SUSPENDED"

    @pytest.mark.parametrize(("before", "after"), [("SUSPENDED", "ACTIVE"), ("ACTIVE", "CLOSED"), ("CLOSED", "ACTIVE")])
    def test_a_status_that_is_sent_is_set(self, client: Client, external_id: str, before: str, after: str) -> None:
        created(client, {"external_id": external_id, "status": before})
        assert updated(client, {"external_id": external_id, "status": after})["status"] == after


class TestTags:
    """Rule 4: tags are lower-cased and de-duplicated, the first place kept."""

    @pytest.mark.parametrize(
        ("sent", "kept"),
        [
            (["VIP", "vip"], ["vip"]),
            (["b", "A", "B", "a", "c"], ["b", "a", "c"]),
            (["\u00c4\u00d6", "\u00e4\u00f6"], ["\u00e4\u00f6"]),
            (["\u0130", "i\u0307"], ["i\u0307"]),
            (["STRA\u00dfE", "strasse"], ["stra\u00dfe", "strasse"]),
            (["vip", " vip", "vip "], ["vip", " vip", "vip "]),
            (["\u00e9", "e\u0301"], ["\u00e9", "e\u0301"]),
            (["NULL", "{A,B}", '"', "\\"], ["null", "{a,b}", '"', "\\"]),
        ],
        ids=ascii,
    )
    def test_tags_are_normalized(self, client: Client, external_id: str, sent: list[str], kept: list[str]) -> None:
        assert created(client, {"external_id": external_id, "tags": sent})["tags"] == kept

    def test_the_same_tags_in_capitals_change_nothing(self, client: Client, external_id: str) -> None:
        before = created(client, {"external_id": external_id, "tags": ["vip", "beta"]})
        assert client.create({"external_id": external_id, "tags": ["VIP", "Beta", "vip"]}).participant == before

    def test_another_order_is_a_change(self, client: Client, external_id: str) -> None:
        created(client, {"external_id": external_id, "tags": ["a", "b"]})
        assert updated(client, {"external_id": external_id, "tags": ["b", "a"]})["tags"] == ["b", "a"]


class TestEnrollment:
    """Rule 5: `program_id` enrolls."""

    def test_an_existing_participant_is_enrolled(
        self, client: Client, deployment: Deployment, external_id: str
    ) -> None:
        before = created(client, {"external_id": external_id})
        after = updated(client, {"external_id": external_id, "program_id": deployment.tenant.program_id})
        assert after["program_ids"] == [deployment.tenant.program_id]
        assert moment(after) > moment(before)

    def test_no_program_ends_no_enrollment(self, client: Client, deployment: Deployment, external_id: str) -> None:
        created(client, {"external_id": external_id, "program_id": deployment.tenant.program_id})
        after = updated(client, {"external_id": external_id, "first_name": "Jane"})
        assert after["program_ids"] == [deployment.tenant.program_id]

    @pytest.mark.parametrize("spelled", [str, str.upper], ids=["alike", "in capitals"])
    def test_enrolling_twice_is_one_enrollment(
        self, client: Client, deployment: Deployment, external_id: str, spelled: Any
    ) -> None:
        before = created(client, {"external_id": external_id, "program_id": deployment.tenant.program_id})
        reply = client.create({"external_id": external_id, "program_id": spelled(deployment.tenant.program_id)})
        assert reply.participant == before

    def test_programs_are_listed_oldest_enrollment_first(
        self, client: Client, deployment: Deployment, external_id: str
    ) -> None:
        younger, older = sorted([deployment.tenant.program_id, deployment.tenant.other_program_id])
        created(client, {"external_id": external_id, "program_id": older})
        after = updated(client, {"external_id": external_id, "program_id": younger})
        assert after["program_ids"] == [older, younger]

    def test_an_inactive_enrollment_is_not_listed_and_becomes_active_again(
        self, client: Client, deployment: Deployment, connection: Connection, external_id: str
    ) -> None:
        program_id, other_program_id = deployment.tenant.program_id, deployment.tenant.other_program_id
        before = created(client, {"external_id": external_id, "program_id": program_id})
        updated(client, {"external_id": external_id, "program_id": other_program_id})
        connection.execute(
            "UPDATE enrollments SET active = false WHERE participant_id = %s AND program_id = %s",
            (before["id"], program_id),
        )
        assert client.get(before["id"]).participant["program_ids"] == [other_program_id]
        assert client.create({"external_id": external_id}).participant["program_ids"] == [other_program_id]
        after = updated(client, {"external_id": external_id, "program_id": program_id})
        assert sorted(after["program_ids"]) == sorted([program_id, other_program_id])

    @pytest.mark.parametrize("whose", ["nobody", "stranger"])
    def test_a_program_that_is_not_ours_creates_nothing(
        self, client: Client, deployment: Deployment, connection: Connection, external_id: str, whose: str
    ) -> None:
        reply = client.create({**EVERYTHING, "external_id": external_id, "program_id": foreign(deployment, whose)})
        assert reply.code == "NOT_FOUND"
        rows = connection.execute("SELECT FROM participants WHERE external_id = %s", (external_id,)).fetchall()
        assert rows == []

    @pytest.mark.parametrize("whose", ["nobody", "stranger"])
    def test_a_program_that_is_not_ours_changes_nothing(
        self, client: Client, deployment: Deployment, connection: Connection, external_id: str, whose: str
    ) -> None:
        before = created(client, {"external_id": external_id, "program_id": deployment.tenant.program_id})
        versions = row_versions(connection, before["id"])
        reply = client.create({**EVERYTHING, "external_id": external_id, "program_id": foreign(deployment, whose)})
        assert reply.code == "NOT_FOUND"
        assert client.get(before["id"]).participant == before
        assert row_versions(connection, before["id"]) == versions


def foreign(deployment: Deployment, whose: str) -> str:
    """Returns the id of a program that is not the tenant's."""
    return deployment.stranger.program_id if whose == "stranger" else str(uuid4())


class TestUnchanged:
    """Rule 6: an upsert that changes nothing writes no row, and every other moves `updated_at` forward."""

    @pytest.mark.parametrize(
        "request_again",
        [
            {},
            EVERYTHING,
            PROFILE,
            {"attributes": {"plan": "premium"}},
            {"tags": ["VIP", "beta", "Vip"]},
            {"status": "SUSPENDED"},
            {"status": "STATUS_UNSPECIFIED"},
            {"tags": [], "attributes": {}},
        ],
        ids=["nothing", "everything", "profile", "attributes", "tags", "status", "unspecified", "empty"],
    )
    def test_what_is_already_so_is_not_written(
        self,
        client: Client,
        deployment: Deployment,
        connection: Connection,
        external_id: str,
        request_again: Mapping[str, Any],
    ) -> None:
        program = {"program_id": deployment.tenant.program_id}
        before = created(client, {**EVERYTHING, **program, "external_id": external_id})
        versions = row_versions(connection, before["id"])
        for request in (request_again, {**request_again, **program}):
            reply = client.create({**request, "external_id": external_id})
            assert (reply.code, reply.result) == ("OK", client.expected("UNCHANGED"))
            assert reply.participant == before
        assert row_versions(connection, before["id"]) == versions

    @pytest.mark.parametrize("name", PROFILE)
    def test_clearing_what_is_not_set_is_not_written(
        self, client: Client, connection: Connection, external_id: str, name: str
    ) -> None:
        before = created(client, {"external_id": external_id})
        versions = row_versions(connection, before["id"])
        reply = client.create({"external_id": external_id, name: ""})
        assert (reply.result, reply.participant) == (client.expected("UNCHANGED"), before)
        assert row_versions(connection, before["id"]) == versions

    @pytest.mark.parametrize(
        "change",
        [
            {"display_name": "Ann"},
            {"email": ""},
            {"attributes": {"plan": "basic"}},
            {"attributes": {"new": ""}},
            {"tags": ["vip"]},
            {"status": "ACTIVE"},
        ],
        ids=str,
    )
    def test_every_change_moves_updated_at_forward(
        self, client: Client, external_id: str, change: Mapping[str, Any]
    ) -> None:
        before = created(client, {**EVERYTHING, "external_id": external_id})
        after = updated(client, {**change, "external_id": external_id})
        assert moment(after) > moment(before)

    def test_updated_at_moves_forward_though_the_clock_went_back(
        self, client: Client, connection: Connection, external_id: str
    ) -> None:
        participant = created(client, {"external_id": external_id})
        connection.execute(
            "UPDATE participants SET updated_at = '2200-01-01T00:00:00Z' WHERE participant_id = %s",
            (participant["id"],),
        )
        first = updated(client, {"external_id": external_id, "first_name": "Jane"})
        second = updated(client, {"external_id": external_id, "first_name": "Joan"})
        assert datetime(2200, 1, 1, tzinfo=UTC) < moment(first) < moment(second)

    def test_many_changes_in_a_row_all_have_their_own_updated_at(self, client: Client, external_id: str) -> None:
        moments = [
            moment(client.create({"external_id": external_id, "first_name": str(number)}).participant)
            for number in range(20)
        ]
        assert moments == sorted(set(moments))


class TestStoredByOthers:
    """Counters, balances and tiers, which other parts of the system keep, appear in every answer."""

    def store(self, connection: Connection, participant_id: str) -> None:
        for key, value in COUNTERS.items():
            connection.execute(
                "INSERT INTO counters SELECT organization_id, participant_id, %s, %s::numeric FROM participants"
                " WHERE participant_id = %s",
                (key, value, participant_id),
            )
        for balance in reversed(BALANCES):
            connection.execute(
                "INSERT INTO balances SELECT organization_id, participant_id, %s, %s::numeric, %s::numeric, %s::numeric"
                " FROM participants WHERE participant_id = %s",
                (*balance.values(), participant_id),
            )
        for key, tier in TIERS.items():
            connection.execute(
                "INSERT INTO tiers SELECT organization_id, participant_id, %s, %s, %s FROM participants"
                " WHERE participant_id = %s",
                (key, tier["level"], tier["rank"], participant_id),
            )

    def test_they_are_in_every_answer(self, client: Client, connection: Connection, external_id: str) -> None:
        participant = created(client, {"external_id": external_id})
        self.store(connection, participant["id"])
        stored = {"counters": COUNTERS, "balances": BALANCES, "tiers": TIERS}
        assert client.get(participant["id"]).participant == {**participant, **stored}
        assert client.create({"external_id": external_id}).participant == {**participant, **stored}
        after = updated(client, {"external_id": external_id, "first_name": "Jane"})
        assert {name: after[name] for name in stored} == stored


class TestConcurrency:
    """Rules 7 and 8: any number of first calls end in one participant, and every answer is what was committed."""

    CALLS = 64

    def first_calls(self, clients: list[Client], external_id: str) -> list[Reply]:
        together = Barrier(self.CALLS)

        def call(number: int) -> Reply:
            together.wait()
            return clients[number % len(clients)].create(
                {"external_id": external_id, "attributes": {f"call-{number}": str(number)}}
            )

        with ThreadPoolExecutor(self.CALLS) as pool:
            return list(pool.map(call, range(self.CALLS)))

    def check(self, client: Client, replies: list[Reply]) -> None:
        assert {reply.code for reply in replies} == {"OK"}
        assert sorted(reply.result for reply in replies) == sorted(
            ["CREATED"] + [client.expected("UPDATED")] * (self.CALLS - 1)
        )
        assert len({reply.participant["id"] for reply in replies}) == 1
        assert len({reply.participant["updated_at"] for reply in replies}) == self.CALLS
        for number, reply in enumerate(replies):
            assert reply.participant["attributes"][f"call-{number}"] == str(number)
        final = client.get(replies[0].participant["id"]).participant
        assert final["attributes"] == {f"call-{number}": str(number) for number in range(self.CALLS)}
        assert final == max((reply.participant for reply in replies), key=moment)

    def test_64_first_calls_make_one_participant(self, client: Client, external_id: str) -> None:
        self.check(client, self.first_calls([client], external_id))

    def test_64_first_calls_to_two_replicas_make_one_participant(
        self, client: Client, deployment: Deployment, replica: Service, external_id: str
    ) -> None:
        key = deployment.tenant.key
        opened: Client = (
            GrpcClient(replica.grpc_address, key) if client.name == "grpc" else HttpClient(replica.http_url, key)
        )
        try:
            self.check(client, self.first_calls([client, opened], external_id))
        finally:
            opened.close()


@pytest.fixture(scope="module")
def replica(deployment: Deployment) -> Iterator[Service]:
    """A second service on the same database."""
    service = Service(environment(DATABASE_URL=deployment.conninfo))
    yield service
    assert service.stop() == 0


class TestAbandoned:
    """Rule 10: what the caller has given up before its write began is not written.

    A participant is locked from outside, so that one upsert keeps the next with the same key from beginning.
    """

    @pytest.fixture
    def participant(self, client: Client, external_id: str) -> dict[str, Any]:
        return created(client, {"external_id": external_id})

    @contextmanager
    def locked(self, deployment: Deployment, participant: Mapping[str, Any]) -> Iterator[None]:
        with psycopg.connect(deployment.conninfo) as connection:
            connection.execute("SELECT FROM participants WHERE participant_id = %s FOR UPDATE", (participant["id"],))
            yield

    @contextmanager
    def blocked(
        self, client: Client, deployment: Deployment, participant: Mapping[str, Any]
    ) -> Iterator[Future[Reply]]:
        """Holds back an upsert of the participant as long as the block lasts."""
        external_id = participant["external_id"]
        with ThreadPoolExecutor(1) as pool, self.locked(deployment, participant):
            first = pool.submit(client.create, {"external_id": external_id, "attributes": {"first": "1"}})
            self.pass_the_queue(client)
            assert not first.done()
            yield first

    def pass_the_queue(self, client: Client) -> None:
        """Returns when the service has taken in whatever was sent before."""
        assert client.create({"external_id": f"user-{uuid4()}"}).code == "OK"

    def attributes_of(self, client: Client, participant: Mapping[str, Any]) -> dict[str, str]:
        """Returns the attributes once everything that was sent before for this participant has had its turn."""
        reply = client.create({"external_id": participant["external_id"], "attributes": {"last": "1"}})
        attributes: dict[str, str] = reply.participant["attributes"]
        return attributes

    def test_a_passed_deadline_is_not_written(
        self, client: Client, deployment: Deployment, participant: dict[str, Any]
    ) -> None:
        with self.blocked(client, deployment, participant) as first:
            self.give_up_after(0.2, client, deployment, participant)
        assert first.result().code == "OK"
        assert self.attributes_of(client, participant) == {"first": "1", "last": "1"}

    def test_a_deadline_that_passes_in_the_middle_of_retries_is_not_written(
        self, client: Client, deployment: Deployment, participant: dict[str, Any]
    ) -> None:
        with self.locked(deployment, participant):
            self.give_up_after(0.2, client, deployment, participant)
        assert self.attributes_of(client, participant) == {"last": "1"}

    def give_up_after(
        self, seconds: float, client: Client, deployment: Deployment, participant: Mapping[str, Any]
    ) -> None:
        """Calls with a deadline, which over HTTP is to hang up."""
        request = {"external_id": participant["external_id"], "attributes": {"abandoned": "1"}}
        key = deployment.tenant.key
        if isinstance(client, GrpcClient):
            with pytest.raises(grpc.RpcError) as raised:
                client.stub.CreateParticipant(
                    messages.CreateParticipantRequest(**request), metadata=(("x-api-key", key),), timeout=seconds
                )
            assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        else:
            with pytest.raises(httpx.ReadTimeout):
                loopback.post(
                    f"{deployment.service.http_url}/v1/participants",
                    json=request,
                    headers={"x-api-key": key},
                    timeout=seconds,
                )
        # The service has seen that the caller has gone before it is through with what follows; with one call it may not
        # be, as that comes over another connection.
        for _ in range(5):
            self.pass_the_queue(client)

    def test_a_cancelled_call_is_not_written(self, deployment: Deployment, external_id: str) -> None:
        client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
        participant = created(client, {"external_id": external_id})
        with self.blocked(client, deployment, participant) as first:
            call = client.stub.CreateParticipant.future(
                messages.CreateParticipantRequest(external_id=external_id, attributes={"abandoned": "1"}),
                metadata=(("x-api-key", deployment.tenant.key),),
            )
            self.pass_the_queue(client)
            call.cancel()
            self.pass_the_queue(client)
        assert first.result().code == "OK"
        assert self.attributes_of(client, participant) == {"first": "1", "last": "1"}
        client.close()

    def test_a_call_that_waits_is_written_once_it_can_be(
        self, client: Client, deployment: Deployment, participant: dict[str, Any]
    ) -> None:
        with self.blocked(client, deployment, participant) as first:
            pass
        assert first.result().participant["attributes"] == {"first": "1"}
