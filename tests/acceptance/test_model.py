"""Random upserts against a model of contract section 2, one after another and from many callers at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import Deployment
from tests.support.clients import GrpcClient, Reply
from tests.support.process import Service, environment

PROFILE = ["display_name", "email", "first_name", "last_name", "phone"]
# The programs of an operation, which become ids when it is played.
PROGRAMS = ["one", "two", "unknown", "a stranger's"]
KEYS = ["ann", "Ann", "bob"]

Request = dict[str, Any]


@dataclass
class Model:
    """What a participant service does, in the simplest words: contract section 2 for one organization."""

    programs: frozenset[str]
    participants: dict[str, dict[str, Any]] = field(default_factory=dict)

    def upsert(self, request: Request) -> tuple[str, dict[str, Any] | None]:
        """Returns CREATED, UPDATED, UNCHANGED or NOT_FOUND, and the participant afterwards, without id and times."""
        key = request["external_id"]
        program_id = request.get("program_id")
        if program_id is not None and program_id not in self.programs:
            return "NOT_FOUND", None
        before = self.participants.get(key)
        after = self._merged(before or self._new(key), request)
        self.participants[key] = after
        if before is None:
            return "CREATED", after
        return ("UNCHANGED" if after == before else "UPDATED"), after

    @staticmethod
    def _new(key: str) -> dict[str, Any]:
        empty: dict[str, Any] = {"attributes": {}, "tags": [], "program_ids": []}
        kept_by_others: dict[str, Any] = {"counters": {}, "balances": [], "tiers": {}}
        return {"external_id": key, "status": "ACTIVE", **empty, **kept_by_others}

    @staticmethod
    def _merged(before: Mapping[str, Any], request: Request) -> dict[str, Any]:
        after = {**before, **{name: request[name] for name in PROFILE if name in request}}
        after = {name: value for name, value in after.items() if value != ""}
        if request.get("status", "STATUS_UNSPECIFIED") != "STATUS_UNSPECIFIED":
            after["status"] = request["status"]
        after["attributes"] = {**before["attributes"], **request.get("attributes", {})}
        if request.get("tags"):
            after["tags"] = list(dict.fromkeys(tag.lower() for tag in request["tags"]))
        program_id = request.get("program_id")
        if program_id is not None and program_id not in before["program_ids"]:
            after["program_ids"] = [*before["program_ids"], program_id]
        return after


def requests(names: Sequence[str]) -> st.SearchStrategy[Request]:
    """Makes requests of few words, so that they meet: `names` are the keys of attributes."""
    words = st.sampled_from(["", "a", "b", "\u00e9"])
    emails = st.sampled_from(["", "a@example.com", "b@example.com"])
    return st.fixed_dictionaries(
        {"external_id": st.sampled_from(KEYS)},
        optional={
            **{name: emails if name == "email" else words for name in PROFILE},
            "status": st.sampled_from(["STATUS_UNSPECIFIED", "ACTIVE", "SUSPENDED", "CLOSED"]),
            "attributes": st.dictionaries(st.sampled_from(names), words, max_size=3),
            "tags": st.lists(st.sampled_from(["vip", "VIP", "Beta", "beta", "\u00c9"]), max_size=4),
            "program_id": st.sampled_from(PROGRAMS),
        },
    )


@pytest.fixture(scope="module")
def replica(deployment: Deployment) -> Iterator[Service]:
    """A second service on the same database."""
    service = Service(environment(DATABASE_URL=deployment.conninfo))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def clients(deployment: Deployment, replica: Service) -> Iterator[list[GrpcClient]]:
    """A way into each of the two services."""
    opened = [GrpcClient(service.grpc_address, deployment.tenant.key) for service in (deployment.service, replica)]
    yield opened
    for client in opened:
        client.close()


class Play:
    """Turns the requests of one example into requests of participants that no other example has."""

    def __init__(self, deployment: Deployment) -> None:
        tenant = deployment.tenant
        self._example = uuid4()
        self._program_ids = {
            "one": tenant.program_id,
            "two": tenant.other_program_id,
            "unknown": str(uuid4()),
            "a stranger's": deployment.stranger.program_id,
        }
        self.model = Model(frozenset({tenant.program_id, tenant.other_program_id}))

    def request(self, drawn: Request) -> Request:
        request = {**drawn, "external_id": f"{drawn['external_id']}-{self._example}"}
        if "program_id" in request:
            request["program_id"] = self._program_ids[request["program_id"]]
        return request


def what_came(reply: Reply) -> tuple[str, dict[str, Any] | None]:
    """Returns of a reply what the model returns."""
    if reply.code != "OK":
        return reply.code, None
    identity = {"id", "created_at", "updated_at", "etag"}
    return reply.result, {name: value for name, value in reply.participant.items() if name not in identity}


def updated_at(reply: Reply) -> datetime:
    return datetime.fromisoformat(reply.participant["updated_at"])


@settings(max_examples=100, deadline=None)
@given(drawn=st.lists(requests(["plan", "Plan", "region"]), min_size=1, max_size=20))
def test_one_upsert_after_another_does_what_the_model_does(
    deployment: Deployment, clients: list[GrpcClient], drawn: list[Request]
) -> None:
    play = Play(deployment)
    last: dict[str, Reply] = {}
    for number, request in enumerate(map(play.request, drawn)):
        client = clients[number % 2]
        reply = client.create(request)
        assert what_came(reply) == play.model.upsert(request)
        if reply.code == "OK":
            check_identity(last.get(request["external_id"]), reply)
            last[request["external_id"]] = reply
    for reply in last.values():
        assert clients[0].get(reply.participant["id"]).participant == reply.participant


def check_identity(before: Reply | None, after: Reply) -> None:
    """Checks what the model does not have: the id, and how the times move."""
    if before is None:
        assert after.participant["created_at"] == after.participant["updated_at"]
        return
    for name in ("id", "created_at"):
        assert after.participant[name] == before.participant[name]
    if after.result == "UNCHANGED":
        assert updated_at(after) == updated_at(before)
        assert after.participant["etag"] == before.participant["etag"]
    else:
        assert updated_at(after) > updated_at(before)
        assert after.participant["etag"] != before.participant["etag"]


@dataclass
class Observation:
    """One call as its caller saw it: between which moments it happened, and what came of it."""

    request: Request
    reply: Reply
    started: float
    finished: float


CALLERS = 16
plans = st.lists(
    st.lists(requests([f"key-{number}" for number in range(8)]), min_size=1, max_size=8),
    min_size=CALLERS,
    max_size=CALLERS,
)


@settings(max_examples=30, deadline=None)
@given(plans=plans)
@example(plans=[[{"external_id": "ann", "attributes": {f"key-{n}": str(n)}}] for n in range(CALLERS)])
@example(plans=[[{"external_id": "ann", "program_id": PROGRAMS[n % 2]}] for n in range(CALLERS)])
@example(plans=[[{"external_id": "ann", "first_name": str(n + m)} for m in range(8)] for n in range(CALLERS)])
def test_many_callers_at_once_see_what_one_order_of_their_calls_explains(
    deployment: Deployment, clients: list[GrpcClient], plans: list[list[Request]]
) -> None:
    play = Play(deployment)

    def call_all(number: int) -> list[Observation]:
        return [observed(clients[number % 2], play.request(drawn)) for drawn in plans[number]]

    with ThreadPoolExecutor(CALLERS) as pool:
        observations = [seen for caller in pool.map(call_all, range(CALLERS)) for seen in caller]
    for key in {seen.request["external_id"] for seen in observations}:
        check_one_order(play.model, [seen for seen in observations if seen.request["external_id"] == key], clients[0])


def observed(client: GrpcClient, request: Request) -> Observation:
    started = time.monotonic()
    reply = client.create(request)
    return Observation(request, reply, started, time.monotonic())


def check_one_order(model: Model, observations: Sequence[Observation], client: GrpcClient) -> None:
    """Checks that the calls for one key could have come one after another.

    Every change moves updated_at forward, so updated_at tells the order of the changes, and after which of them each
    call came that changed nothing. Played in that order, the model must see what the callers saw; and nobody may come
    before a call that was over when it began.
    """
    for seen in observations:
        if seen.reply.code != "OK":
            assert what_came(seen.reply) == model.upsert(seen.request)
    in_order = sorted(
        (seen for seen in observations if seen.reply.code == "OK"),
        key=lambda seen: (updated_at(seen.reply), seen.reply.result == "UNCHANGED", seen.started),
    )
    latest_start = 0.0
    before: Reply | None = None
    for seen in in_order:
        assert what_came(seen.reply) == model.upsert(seen.request)
        check_identity(before, seen.reply)
        assert seen.finished >= latest_start
        latest_start = max(latest_start, seen.started)
        before = seen.reply
    if before is not None:
        assert client.get(before.participant["id"]).participant == before.participant
