"""A batch: every item is an upsert of its own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.conftest import Deployment
from tests.support.clients import Client, GrpcClient, HttpClient

ABSENT_PROGRAM = "00000000-0000-4000-8000-000000000000"
BAD_REQUESTS: dict[str, dict[str, Any]] = {
    "no key": {},
    "a bad e-mail address": {"external_id": "x", "email": "jane"},
    "several violations": {"external_id": "", "phone": "5" * 51, "tags": ["a", ""], "attributes": {"plan": "\0"}},
    "no such program": {"external_id": "batch-bad", "program_id": ABSENT_PROGRAM},
    "a program that is no UUID": {"external_id": "batch-bad", "program_id": "demo"},
    "an undefined status": {"external_id": "batch-bad", "status": 7},
    "a tag too long in lower case": {"external_id": "batch-bad", "tags": ["\u0130" * 200]},
    "too many tags": {"external_id": "batch-bad", "tags": ["x"] * 257},
    "too many attributes": {"external_id": "batch-bad", "attributes": {f"{number}": "" for number in range(257)}},
}
# What only JSON can say, and no message.
BAD_JSON = {
    "a value of the wrong type": '{"external_id": 5}',
    "a status in lower case": '{"external_id": "batch-bad", "status": "active"}',
    "an unknown field": '{"external_id": "batch-bad", "nickname": "x"}',
    "what cannot be set": '{"external_id": "batch-bad", "counters": {}}',
    "several violations": '{"external_id": 5, "tags": ["a", 1], "attributes": {"plan": null}}',
    "a lone surrogate": r'{"external_id": "batch-bad", "tags": ["\ud800"]}',
    "a field twice": '{"external_id": "batch-bad", "external_id": "batch-bad"}',
    "an attribute twice": '{"external_id": "batch-bad", "attributes": {"plan": "1", "plan": "2"}}',
    "a number": "5",
    "an array": "[]",
    "null": "null",
}


@pytest.fixture
def http(deployment: Deployment) -> Iterator[HttpClient]:
    client = HttpClient(deployment.service.http_url, deployment.tenant.key)
    yield client
    client.close()


def test_results_come_in_request_order(client: Client, deployment: Deployment, external_id: str) -> None:
    client.create({"external_id": f"{external_id}-2", "first_name": "Jane"})
    client.create({"external_id": f"{external_id}-4", "first_name": "Jane"})
    requests = [{"external_id": f"{external_id}-{number}", "first_name": f"Ann {number}"} for number in range(6)]
    requests[4]["first_name"] = "Jane"
    reply = client.create_batch(requests)
    assert [item.result for item in reply.items] == ["CREATED", "CREATED", "UPDATED", "CREATED", "UNCHANGED", "CREATED"]
    assert [(item.participant["external_id"], item.participant["first_name"]) for item in reply.items] == [
        (request["external_id"], request["first_name"]) for request in requests
    ]


def test_every_item_is_answered_with_what_was_committed(
    client: Client, deployment: Deployment, external_id: str
) -> None:
    request = {
        "external_id": external_id,
        "email": "jane@example.com",
        "status": "SUSPENDED",
        "attributes": {"plan": "premium"},
        "tags": ["VIP", "vip"],
        "program_id": deployment.tenant.program_id,
    }
    first, second = client.create_batch([request, {"external_id": f"{external_id}-2"}]).items
    assert first.participant == client.get(first.participant["id"]).participant
    assert second.participant == client.get(second.participant["id"]).participant
    assert first.participant["tags"] == ["vip"]


@pytest.mark.parametrize("bad", BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_a_bad_item_gets_the_status_it_would_have_got_alone(
    client: Client, external_id: str, bad: dict[str, Any]
) -> None:
    requests = [{"external_id": f"{external_id}-1"}, bad, {"external_id": f"{external_id}-2"}]
    before, item, after = client.create_batch(requests).items
    assert (before.result, after.result) == ("CREATED", "CREATED")
    alone = client.create(bad)
    assert alone.code in {"INVALID_ARGUMENT", "NOT_FOUND"}
    assert (item.code, item.message, item.violations) == (alone.code, alone.message, alone.violations)
    assert (item.domain, item.participant) == ("participants.v1", {})
    if client.name == "grpc":
        assert item == alone


@pytest.mark.parametrize("view", ["FULL", "BASIC"])
@pytest.mark.parametrize("bad", BAD_JSON.values(), ids=BAD_JSON)
def test_an_item_that_is_no_message_gets_the_status_it_would_have_got_alone(
    http: HttpClient, external_id: str, bad: str, view: str
) -> None:
    good = [f'{{"external_id": "{external_id}-{number}"}}' for number in range(2)]
    reply = http.batch_from(f'{{"requests": [{good[0]}, {bad}, {good[1]}], "view": "{view}"}}')
    before, item, after = reply.items
    assert (before.result, after.result) == ("CREATED", "CREATED")
    alone = http.create_from(bad)
    assert (item.code, item.violations) == (alone.code, alone.violations) == ("INVALID_ARGUMENT", item.violations)
    assert item.message == alone.message.replace("the body", "the item")


@pytest.mark.parametrize(
    ("body", "violations"),
    [
        ('{"requests": [{"external_id": 5}, {}], "nickname": "x"}', [("nickname", "UNKNOWN_FIELD")]),
        ('{"requests": [{"external_id": 5}], "view": "ALL"}', [("view", "WRONG_TYPE")]),
        ('{"requests": [{"external_id": 5}], "requests": []}', [("requests", "DUPLICATE_FIELD")]),
        ('{"requests": {"external_id": 5}}', [("requests", "WRONG_TYPE")]),
        ('{"requests": [' + ",".join(["5"] * 1001) + "]}", [("requests", "REPEATED_MAX_ITEMS")]),
        ('{"requests": [{"external_id": 5}, NaN]}', []),
    ],
    ids=["an unknown field", "a view", "a field twice", "no array", "too many items", "no JSON"],
)
def test_what_is_wrong_with_a_batch_as_a_whole_refuses_it(
    http: HttpClient, body: str, violations: list[tuple[str, str]]
) -> None:
    reply = http.batch_from(body)
    assert (reply.code, reply.violations) == ("INVALID_ARGUMENT", violations)


def test_nothing_of_a_bad_item_is_written(client: Client, external_id: str) -> None:
    created = client.create({"external_id": external_id}).participant
    [item] = client.create_batch(
        [{"external_id": external_id, "first_name": "Jane", "program_id": ABSENT_PROGRAM}]
    ).items
    assert (item.code, item.reason) == ("NOT_FOUND", "PROGRAM_NOT_FOUND")
    assert client.get(created["id"]).participant == created


def test_only_bad_items_are_all_answered(client: Client) -> None:
    reply = client.create_batch(list(BAD_REQUESTS.values()))
    assert [item.code == "OK" for item in reply.items] == [False] * len(BAD_REQUESTS)


def test_items_with_one_key_apply_in_order(client: Client, external_id: str) -> None:
    other = f"{external_id}-other"
    items = client.create_batch(
        [
            {"external_id": external_id, "first_name": "1", "attributes": {"a": "1", "b": "1"}},
            {"external_id": other, "first_name": "1"},
            {"external_id": external_id, "first_name": "2", "attributes": {"b": "2"}, "tags": ["x"]},
            {"external_id": external_id, "first_name": "2"},
            {"external_id": other, "first_name": ""},
            {"external_id": external_id, "first_name": "3", "program_id": ABSENT_PROGRAM},
            {"external_id": external_id, "last_name": "4"},
        ]
    ).items
    expected = ["CREATED", "CREATED", "UPDATED", "UNCHANGED", "UPDATED", "", "UPDATED"]
    assert [item.result for item in items] == expected
    assert len({items[index].participant["id"] for index in (0, 2, 3, 6)}) == 1
    assert items[2].participant == items[3].participant
    last = items[6].participant
    assert (last["first_name"], last["last_name"]) == ("2", "4")
    assert (last["attributes"], last["tags"]) == ({"a": "1", "b": "2"}, ["x"])
    assert client.get(last["id"]).participant == last


def test_the_same_item_a_hundred_times_is_one_participant(client: Client, external_id: str) -> None:
    items = client.create_batch([{"external_id": external_id}] * 100).items
    assert [item.result for item in items] == ["CREATED"] + ["UNCHANGED"] * 99
    assert len({item.participant["id"] for item in items}) == 1


def test_a_thousand_items_are_taken(client: Client, external_id: str) -> None:
    requests = [{"external_id": f"{external_id}-{number}"} for number in range(1000)]
    first, second = client.create_batch(requests), client.create_batch(requests)
    assert [item.result for item in first.items] == ["CREATED"] * 1000
    assert [item.result for item in second.items] == ["UNCHANGED"] * 1000
    assert [item.participant["external_id"] for item in first.items] == [item["external_id"] for item in requests]
    assert [item.participant for item in second.items] == [item.participant for item in first.items]


def test_a_thousand_and_one_items_are_refused_and_nothing_is_written(client: Client, external_id: str) -> None:
    reply = client.create_batch([{"external_id": f"{external_id}-{number}"} for number in range(1001)])
    assert (reply.code, reply.fields) == ("INVALID_ARGUMENT", ["requests"])
    assert client.create({"external_id": f"{external_id}-0"}).result == "CREATED"


def test_an_empty_batch_has_no_results(client: Client) -> None:
    reply = client.create_batch([])
    assert (reply.code, reply.items) == ("OK", [])


@pytest.mark.parametrize("whose", ["nobody", "stranger"])
def test_a_program_of_another_organization_does_not_exist(
    client: Client, deployment: Deployment, external_id: str, whose: str
) -> None:
    program_id = deployment.stranger.program_id if whose == "stranger" else str(uuid4())
    requests = [
        {"external_id": external_id, "program_id": program_id},
        {"external_id": external_id, "program_id": deployment.tenant.program_id},
    ]
    refused, created = client.create_batch(requests).items
    assert (refused.code, refused.reason) == ("NOT_FOUND", "PROGRAM_NOT_FOUND")
    assert (created.result, created.participant["program_ids"]) == ("CREATED", [deployment.tenant.program_id])


def test_a_batch_needs_a_key(client: Client) -> None:
    assert client.create_batch([{"external_id": "x"}], key="sk_nothing").code == "UNAUTHENTICATED"


def test_a_batch_of_the_largest_participants_is_answered(deployment: Deployment, external_id: str) -> None:
    client = GrpcClient(deployment.service.grpc_address, deployment.tenant.key)
    attributes = {str(number): "\U0001f600" * 4_090 for number in range(4)}
    requests = [{"external_id": f"{external_id}-{number}"} for number in range(5)]
    for request in requests:
        assert client.create({**request, "attributes": attributes}).result == "CREATED"
    reply = client.create_batch(requests)
    client.close()
    assert [item.result for item in reply.items] == ["UNCHANGED"] * 5
