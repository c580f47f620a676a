"""Finding participants: by external_id and in lists, through both clients of the real process."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from threading import Event
from typing import Any
from uuid import uuid4

import grpc
import pytest
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub

from tests.conftest import Deployment, Tenant, new_tenant
from tests.support.clients import Client, GrpcClient

Participant = dict[str, Any]
ORDERS = ["created_at", "created_at desc", "external_id", "external_id desc"]


@pytest.fixture(scope="module")
def tenant(deployment: Deployment) -> Tenant:
    """An organization of these tests alone."""
    return new_tenant(deployment.conninfo, "initech")


@pytest.fixture(scope="module")
def listed(deployment: Deployment, tenant: Tenant) -> list[Participant]:
    """Participants of the organization, of every kind."""
    client = GrpcClient(deployment.service.grpc_address, tenant.key)
    names = ["b", "a", "B", "a/1", "a%", "aé", "a\U0001f389", "zz", *(f"user-{n * 37 % 101:03}" for n in range(100))]
    requests: list[dict[str, Any]] = [
        {
            "external_id": name,
            "email": f"{n % 9}@example.com",
            "tags": [tag for tag, every in (("VIP", 2), ("beta", 5), ("rare", 50)) if n % every == 0],
            "status": ["ACTIVE", "SUSPENDED", "CLOSED"][n % 3],
            **({"program_id": tenant.program_id} if n % 4 == 0 else {}),
        }
        for n, name in enumerate(names)
    ]
    participants = [client.create(request).participant for request in requests]
    client.close()
    return participants


@pytest.fixture
def key(tenant: Tenant) -> str:
    return tenant.key


def pages(client: Client, key: str, request: dict[str, Any]) -> Iterator[list[Participant]]:
    """Yields the pages of a list to its end."""
    token = ""
    while True:
        reply = client.list({**request, "page_token": token}, key=key)
        assert reply.code == "OK", reply
        yield reply.participants
        token = reply.next_page_token
        if not token:
            return


def everything(client: Client, key: str, request: dict[str, Any]) -> list[Participant]:
    return [participant for page in pages(client, key, request) for participant in page]


def in_order(participants: list[Participant], order: str) -> list[Participant]:
    def place(participant: Participant) -> tuple[Any, ...]:
        if order.startswith("external_id"):
            return (participant["external_id"].encode(),)
        return (datetime.fromisoformat(participant["created_at"]), participant["id"])

    return sorted(participants, key=place, reverse=order.endswith("desc"))


Passes = Callable[[Participant], bool]
FILTERS: dict[str, tuple[dict[str, Any], Passes]] = {
    "none": ({}, lambda p: True),
    "status": ({"status": "SUSPENDED"}, lambda p: p["status"] == "SUSPENDED"),
    "tag": ({"tag": "ViP"}, lambda p: "vip" in p["tags"]),
    "rare tag": ({"tag": "rare"}, lambda p: "rare" in p["tags"]),
    "absent tag": ({"tag": "absent"}, lambda p: False),
    "email": ({"email": "3@example.com"}, lambda p: p["email"] == "3@example.com"),
    "prefix": ({"external_id_prefix": "a"}, lambda p: p["external_id"].startswith("a")),
    "wide prefix": ({"external_id_prefix": "a\U0001f389"}, lambda p: p["external_id"] == "a\U0001f389"),
    "tag and status": ({"tag": "vip", "status": "CLOSED"}, lambda p: "vip" in p["tags"] and p["status"] == "CLOSED"),
    "prefix and email": (
        {"external_id_prefix": "user-0", "email": "1@example.com"},
        lambda p: p["external_id"].startswith("user-0") and p["email"] == "1@example.com",
    ),
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", FILTERS)
def test_a_list_has_what_passes_its_filters_in_order(
    client: Client, key: str, listed: list[Participant], name: str, order: str
) -> None:
    request, passes = FILTERS[name]
    expected = in_order([participant for participant in listed if passes(participant)], order)
    assert everything(client, key, {**request, "order_by": order, "page_size": 7}) == expected


@pytest.mark.parametrize("order", ORDERS)
def test_a_list_of_a_program_has_its_active_enrollments(
    client: Client, key: str, tenant: Tenant, listed: list[Participant], order: str
) -> None:
    enrolled = [participant for participant in listed if participant["program_ids"]]
    request = {"program_id": tenant.program_id, "order_by": order, "page_size": 10}
    assert everything(client, key, request) == in_order(enrolled, order)
    both = {**request, "tag": "beta", "status": "ACTIVE", "email": "0@example.com"}
    expected = [
        p for p in enrolled if "beta" in p["tags"] and p["status"] == "ACTIVE" and p["email"] == "0@example.com"
    ]
    assert everything(client, key, both) == in_order(expected, order)
    assert everything(client, key, {"program_id": str(uuid4())}) == []


@pytest.mark.parametrize("order", ORDERS)
def test_a_list_has_what_was_created_between_two_times_exclusively(
    client: Client, key: str, listed: list[Participant], order: str
) -> None:
    oldest, newest = listed[20]["created_at"], listed[60]["created_at"]
    request = {"created_after": oldest, "created_before": newest, "order_by": order, "page_size": 9}
    assert everything(client, key, request) == in_order(listed[21:60], order)
    assert everything(client, key, {"created_after": newest, "created_before": oldest, "order_by": order}) == []


def test_a_page_holds_50_and_no_more_than_200(client: Client, key: str, listed: list[Participant]) -> None:
    assert [len(page) for page in pages(client, key, {})] == [50, 50, 8]
    assert len(client.list({"page_size": 1_000_000}, key=key).participants) == len(listed)
    assert [len(page) for page in pages(client, key, {"page_size": 54})] == [54, 54]
    assert client.list({"page_size": -1}, key=key).fields == ["page_size"]


def test_no_page_holds_more_than_200(client: Client, deployment: Deployment) -> None:
    crowded = new_tenant(deployment.conninfo, f"crowded-{uuid4()}")
    client.create_batch([{"external_id": str(n)} for n in range(201)], key=crowded.key)
    assert [len(page) for page in pages(client, crowded.key, {"page_size": 201})] == [200, 1]


def test_a_page_of_large_participants_is_short_and_the_list_whole(client: Client, deployment: Deployment) -> None:
    crowded = new_tenant(deployment.conninfo, f"large-{uuid4()}")
    attributes = {str(n): "x" * 4096 for n in range(15)}
    for first in range(0, 40, 10):
        requests = [{"external_id": f"{n:03}", "attributes": attributes} for n in range(first, first + 10)]
        client.create_batch(requests, key=crowded.key)
    found = list(pages(client, crowded.key, {"order_by": "external_id"}))
    assert len(found) > 1
    assert [p["external_id"] for page in found for p in page] == [f"{n:03}" for n in range(40)]


@pytest.mark.parametrize(
    "other",
    [
        {"order_by": "created_at desc"},
        {"order_by": "external_id"},
        {"tag": "vip"},
        {"status": "ACTIVE"},
        {"external_id_prefix": "u"},
        {"created_after": "2020-01-01T00:00:00Z"},
    ],
    ids=str,
)
def test_a_token_is_for_the_filters_and_the_order_it_was_made_for(
    client: Client, key: str, listed: list[Participant], other: dict[str, Any]
) -> None:
    token = client.list({"page_size": 2}, key=key).next_page_token
    assert (
        client.list({"page_size": 3, "order_by": "created_at", "page_token": token}, key=key).participants
        == listed[2:5]
    )
    reply = client.list({**other, "page_token": token}, key=key)
    assert (reply.code, reply.fields) == ("INVALID_ARGUMENT", ["page_token"])


@pytest.mark.parametrize("token", ["x", "é", "bnVsbA", "W10", "W251bGwsMSwyLDNd", "a" * 5000])
def test_a_token_that_is_none_is_refused(client: Client, key: str, token: str) -> None:
    reply = client.list({"page_token": token}, key=key)
    assert (reply.code, reply.fields) == ("INVALID_ARGUMENT", ["page_token"])


@pytest.mark.parametrize("order", ["created_at", "external_id"])
@pytest.mark.parametrize(
    ("place", "value"),
    [
        (1, "x"),
        (1, None),
        (1, 10**18),
        (1, -(10**18)),
        (1, []),
        (2, "x"),
        (2, "é"),
        (2, 5),
        (2, None),
        (3, 5),
        (3, "\0"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("listed")
def test_a_token_that_was_tampered_with_is_refused(
    client: Client, key: str, order: str, place: int, value: object
) -> None:
    token = client.list({"page_size": 2, "order_by": order}, key=key).next_page_token
    parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    parts[place] = value
    tampered = base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")
    reply = client.list({"order_by": order, "page_token": tampered}, key=key)
    assert (reply.code, reply.fields) == ("INVALID_ARGUMENT", ["page_token"])


def test_a_time_at_the_very_end_is_a_filter(client: Client, key: str, listed: list[Participant]) -> None:
    for time, found in (("9999-12-31T23:59:59.999999999Z", len(listed)), ("0001-01-01T00:00:00Z", 0)):
        reply = client.list({"page_size": 200, "created_before": time}, key=key)
        assert (reply.code, len(reply.participants)) == ("OK", found)


@pytest.mark.parametrize("seconds", [2**62, 253_402_300_800, -62_135_596_801, -(2**62)])
def test_a_time_beyond_all_calendars_is_a_filter(
    deployment: Deployment, key: str, listed: list[Participant], seconds: int
) -> None:
    # JSON has none of these.
    with grpc.insecure_channel(deployment.service.grpc_address) as channel:
        list_participants = ParticipantServiceStub(channel).ListParticipants
        for field in ("created_after", "created_before"):
            request = messages.ListParticipantsRequest(page_size=200)
            getattr(request, field).seconds = seconds
            answer = list_participants(request, metadata=(("x-api-key", key),), timeout=20)
            assert len(answer.participants) == (len(listed) if (field == "created_before") == (seconds > 0) else 0)


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        ({"order_by": "email"}, "order_by"),
        ({"order_by": "created_at asc"}, "order_by"),
        ({"program_id": "one"}, "program_id"),
        ({"tag": "\0"}, "tag"),
        ({"external_id_prefix": "x" * 256}, "external_id_prefix"),
    ],
)
def test_a_filter_or_order_that_is_none_is_refused(
    client: Client, key: str, request_: dict[str, Any], field: str
) -> None:
    reply = client.list(request_, key=key)
    assert (reply.code, reply.fields) == ("INVALID_ARGUMENT", [field])


def test_a_list_shows_what_was_acknowledged(client: Client, deployment: Deployment) -> None:
    tenant = new_tenant(deployment.conninfo, f"fresh-{uuid4()}")

    def found(request: dict[str, Any]) -> list[str]:
        return [participant["external_id"] for participant in client.list(request, key=tenant.key).participants]

    participant_id = client.create({"external_id": "a", "tags": ["x"]}, key=tenant.key).participant["id"]
    assert found({}) == found({"tag": "x"}) == ["a"]
    client.update(participant_id, {"external_id": "b", "tags": ["y"], "email": "b@example.com"}, key=tenant.key)
    client.enroll(participant_id, tenant.program_id, key=tenant.key)
    for request in ({"tag": "y"}, {"email": "b@example.com"}, {"program_id": tenant.program_id}):
        for order in ORDERS:
            assert found({**request, "order_by": order}) == ["b"]
    assert found({"tag": "x"}) == []
    client.create({"external_id": "b", "tags": ["z"]}, key=tenant.key)
    client.unenroll(participant_id, tenant.program_id, key=tenant.key)
    assert found({"tag": "y"}) == found({"program_id": tenant.program_id}) == []
    assert found({"tag": "z", "order_by": "external_id"}) == ["b"]
    client.delete(participant_id, key=tenant.key)
    assert found({}) == found({"tag": "z"}) == []


@pytest.mark.parametrize("order", ORDERS)
def test_what_was_there_all_along_is_listed_once_while_others_come_and_go(
    client: Client, deployment: Deployment, order: str
) -> None:
    tenant = new_tenant(deployment.conninfo, f"busy-{uuid4()}")
    stays = {f"stays-{n:03}" for n in range(60)}
    client.create_batch([{"external_id": name, "tags": ["x"]} for name in sorted(stays)], key=tenant.key)
    done = Event()

    def come_and_go(number: int) -> None:
        n = 0
        while not done.is_set():
            n += 1
            name = f"{'astz'[n % 4]}{number}-{n}"
            participant_id = client.create({"external_id": name, "tags": ["x"]}, key=tenant.key).participant["id"]
            client.create({"external_id": f"stays-{n % 60:03}", "attributes": {"n": str(n)}}, key=tenant.key)
            if n % 2:
                client.update(participant_id, {"external_id": f"tt-{name}"}, key=tenant.key)
            client.delete(participant_id, key=tenant.key)

    with ThreadPoolExecutor(4) as pool:
        writers = [pool.submit(come_and_go, number) for number in range(4)]
        try:
            for request in ({}, {"tag": "x"}, {"status": "ACTIVE"}):
                found = everything(client, tenant.key, {**request, "order_by": order, "page_size": 5})
                names = [participant["external_id"] for participant in found]
                assert sorted(name for name in names if name in stays) == sorted(stays)
        finally:
            done.set()
        for writer in writers:
            writer.result()


@pytest.mark.parametrize("name", ["a/b", "a%2Fb", "?&=#", " a ", "é\U0001f389", "a+b"])
def test_an_external_id_is_looked_up_whatever_it_holds(client: Client, external_id: str, name: str) -> None:
    created = client.create({"external_id": external_id + name}).participant
    assert client.lookup(external_id + name).participant == created
    assert client.lookup(external_id).code == "NOT_FOUND"


def test_an_empty_external_id_is_refused(client: Client) -> None:
    assert client.lookup("").fields == ["external_id"]
