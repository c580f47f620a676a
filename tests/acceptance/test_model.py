"""Random calls that write, against a model of what they do: one after another, and from many callers at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
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


@dataclass(frozen=True)
class Call:
    """One call of a caller's: an RPC by the name that the clients have for it, whom it is for, and with what."""

    name: str
    key: str
    fields: Request


@dataclass
class Model:
    """What a participant service does for one organization, in the simplest words."""

    programs: frozenset[str]
    participants: dict[str, dict[str, Any]] = field(default_factory=dict)
    # By key, every program that the participant has ever been enrolled in, oldest enrollment first.
    places: dict[str, list[str]] = field(default_factory=dict)

    def upsert(self, request: Request) -> tuple[str, dict[str, Any] | None]:
        """Returns CREATED, UPDATED, UNCHANGED or NOT_FOUND, and the participant afterwards, without id and times."""
        key = request["external_id"]
        program_id = request.get("program_id")
        if program_id is not None and program_id not in self.programs:
            return "NOT_FOUND", None
        before = self.participants.get(key)
        after = self._merged(before or self._new(key), request)
        self._keep(key, after)
        if before is None:
            return "CREATED", after
        return ("UNCHANGED" if after == before else "UPDATED"), after

    def apply(self, call: Call) -> tuple[str, dict[str, Any] | None]:
        """Returns what a call answers: its result or code, and the participant afterwards, without id and times."""
        if call.name == "create":
            return self.upsert(call.fields)
        if call.name == "update" and contradicts_itself(call.fields):
            return "INVALID_ARGUMENT", None
        before = self.participants.get(call.key)
        if before is None:
            return "NOT_FOUND", None
        if call.name == "delete":
            del self.participants[call.key]
            self.places.pop(call.key, None)
            return "OK", {}
        code, after = self._changed(before, call)
        if after is not None:
            self._keep(call.key, after)
        return code, after

    def _keep(self, key: str, after: dict[str, Any]) -> None:
        places = self.places.pop(key, [])
        places += [program_id for program_id in after["program_ids"] if program_id not in places]
        after["program_ids"].sort(key=places.index)
        self.participants.pop(key, None)
        self.participants[after["external_id"]] = after
        self.places[after["external_id"]] = places

    def _changed(self, before: dict[str, Any], call: Call) -> tuple[str, dict[str, Any] | None]:
        match call.name:
            case "update":
                return self._updated(before, call.fields)
            case "set_status":
                return "OK", self._merged(before, {"status": call.fields["status"]})
        program_id = call.fields["program_id"]
        if program_id not in self.programs:
            return "NOT_FOUND", None
        if call.name == "enroll":
            return "OK", self._merged(before, {"program_id": program_id})
        return "OK", {**before, "program_ids": [other for other in before["program_ids"] if other != program_id]}

    def _updated(self, before: dict[str, Any], changes: Request) -> tuple[str, dict[str, Any] | None]:
        removed = changes.get("remove_attributes", [])
        add, remove = lower(changes.get("add_tags", [])), lower(changes.get("remove_tags", []))
        name = changes.get("external_id") or before["external_id"]
        if name != before["external_id"] and name in self.participants:
            return "ALREADY_EXISTS", None
        after = self._merged(before, changes)
        after["external_id"] = name
        after["attributes"] = {key: value for key, value in after["attributes"].items() if key not in removed}
        after["tags"] = [tag for tag in dict.fromkeys([*after["tags"], *add]) if tag not in remove]
        return "OK", after

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
        after["program_ids"] = list(before["program_ids"])
        after["attributes"] = {**before["attributes"], **request.get("attributes", {})}
        if request.get("tags"):
            after["tags"] = list(dict.fromkeys(lower(request["tags"])))
        program_id = request.get("program_id")
        if program_id is not None and program_id not in before["program_ids"]:
            after["program_ids"] = [*before["program_ids"], program_id]
        return after


def contradicts_itself(changes: Request) -> bool:
    added = {*lower(changes.get("tags", [])), *lower(changes.get("add_tags", []))}
    attributes = {*changes.get("attributes", {})}
    return bool(
        attributes.intersection(changes.get("remove_attributes", []))
        or added.intersection(lower(changes.get("remove_tags", [])))
    )


def lower(tags: Sequence[str]) -> list[str]:
    return [tag.lower() for tag in tags]


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


TAGS = ["vip", "VIP", "Beta", "beta", "\u00c9"]
STATUSES = ["ACTIVE", "SUSPENDED", "CLOSED"]


def changes(names: Sequence[str], keys: Sequence[str]) -> st.SearchStrategy[Call]:
    """Makes calls that change a participant; `keys` are those to rename it to."""
    tags = st.lists(st.sampled_from(TAGS), max_size=3)
    more = {"remove_attributes": st.lists(st.sampled_from(names), max_size=2), "add_tags": tags, "remove_tags": tags}
    if keys:
        more["external_id"] = st.sampled_from(["", *keys])
    updates = st.tuples(requests(names), st.fixed_dictionaries({}, optional=more)).map(lambda parts: _update(*parts))
    programs = st.sampled_from(PROGRAMS).map(lambda program: {"program_id": program})
    fields: dict[str, st.SearchStrategy[Request]] = {
        "update": updates,
        "set_status": st.sampled_from(STATUSES).map(lambda status: {"status": status}),
        "enroll": programs,
        "unenroll": programs,
    }
    return st.one_of([st.builds(Call, st.just(name), st.sampled_from(KEYS), values) for name, values in fields.items()])


def _update(request: Request, more: Request) -> Request:
    left_out = ("external_id", "status", "program_id")
    return {**{name: value for name, value in request.items() if name not in left_out}, **more}


def creations(names: Sequence[str]) -> st.SearchStrategy[Call]:
    return requests(names).map(lambda request: Call("create", request["external_id"], request))


deletions = st.sampled_from(KEYS).map(lambda key: Call("delete", key, {}))


@pytest.fixture(scope="module")
def replica(deployment: Deployment) -> Iterator[Service]:
    """A second service on the same database."""
    service = Service(environment(DATABASE_URL=deployment.conninfo))
    yield service
    assert service.stop() == 0


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

    def call(self, drawn: Call) -> Call:
        fields = dict(drawn.fields)
        if fields.get("external_id"):
            fields["external_id"] = self.key(fields["external_id"])
        if "program_id" in fields:
            fields["program_id"] = self._program_ids[fields["program_id"]]
        return Call(drawn.name, self.key(drawn.key), fields)

    def key(self, name: str) -> str:
        return f"{name}-{self._example}"


def send(client: GrpcClient, call: Call, participant_id: str) -> Reply:
    """Makes a call; all but the upserts are for the participant with this id."""
    match call.name:
        case "create":
            return client.create(call.fields)
        case "update":
            return client.update(participant_id, call.fields)
        case "delete":
            return client.delete(participant_id)
    (value,) = call.fields.values()
    reply: Reply = getattr(client, call.name)(participant_id, value)
    return reply


def what_came(reply: Reply) -> tuple[str, dict[str, Any] | None]:
    """Returns of a reply what the model returns."""
    if reply.code != "OK":
        return reply.code, None
    return reply.result or "OK", content(reply)


def content(reply: Reply) -> dict[str, Any]:
    identity = {"id", "created_at", "updated_at", "etag"}
    return {name: value for name, value in reply.participant.items() if name not in identity}


def updated_at(reply: Reply) -> datetime:
    return datetime.fromisoformat(reply.participant["updated_at"])


NAMES = ["plan", "Plan", "region"]


@settings(max_examples=100, deadline=None)
@given(drawn=st.lists(st.one_of(creations(NAMES), changes(NAMES, KEYS), deletions), min_size=1, max_size=25))
def test_one_call_after_another_does_what_the_model_does(
    deployment: Deployment, clients: list[GrpcClient], drawn: list[Call]
) -> None:
    play = Play(deployment)
    last: dict[str, Reply] = {}
    # Of those who are no more.
    dead = [str(uuid4())]
    for number, call in enumerate(map(play.call, drawn)):
        before = last.pop(call.key, None)
        reply = send(clients[number % 2], call, before.participant["id"] if before else dead[-1])
        assert what_came(reply) == play.model.apply(call)
        if reply.participant:
            check_identity(before, reply)
            assert reply.participant["id"] not in dead
            last[reply.participant["external_id"]] = reply
        elif reply.code == "OK" and before is not None:
            dead.append(before.participant["id"])
        elif before is not None:
            last[call.key] = before
    for reply in last.values():
        assert clients[0].get(reply.participant["id"]).participant == reply.participant
        assert clients[1].lookup(reply.participant["external_id"]).participant == reply.participant
    assert {clients[0].get(participant_id).code for participant_id in dead} == {"NOT_FOUND"}


def check_identity(before: Reply | None, after: Reply) -> None:
    """Checks what the model does not have: the id, and how the times and the etag move."""
    if before is None:
        assert after.participant["created_at"] == after.participant["updated_at"]
        return
    for name in ("id", "created_at"):
        assert after.participant[name] == before.participant[name]
    if content(after) == content(before):
        assert updated_at(after) == updated_at(before)
        assert after.participant["etag"] == before.participant["etag"]
    else:
        assert updated_at(after) > updated_at(before)
        assert after.participant["etag"] != before.participant["etag"]


@dataclass
class Observation:
    """One call as its caller saw it: between which moments it happened, and what came of it."""

    call: Call
    reply: Reply
    started: float
    finished: float


CALLERS = 16
MANY_NAMES = [f"key-{number}" for number in range(8)]
plans = st.lists(
    st.lists(st.one_of(creations(MANY_NAMES), changes(MANY_NAMES, [])), min_size=1, max_size=8),
    min_size=CALLERS,
    max_size=CALLERS,
)


def upsert(**fields: Any) -> Call:
    return Call("create", "ann", {"external_id": "ann", **fields})


@settings(max_examples=30, deadline=None)
@given(plans=plans)
@example(plans=[[upsert(attributes={f"key-{n}": str(n)})] for n in range(CALLERS)])
@example(plans=[[upsert(program_id=PROGRAMS[n % 2])] for n in range(CALLERS)])
@example(plans=[[upsert(first_name=str(n + m)) for m in range(8)] for n in range(CALLERS)])
@example(plans=[[upsert(phone=f"{n}"), Call("update", "ann", {"first_name": str(n)})] for n in range(CALLERS)])
@example(plans=[[Call(("enroll", "unenroll")[n % 2], "ann", {"program_id": "one"})] for n in range(CALLERS)])
def test_many_callers_at_once_see_what_one_order_of_their_calls_explains(
    deployment: Deployment, clients: list[GrpcClient], plans: list[list[Call]]
) -> None:
    play = Play(deployment)
    first = {key: observed(clients[0], play.call(Call("create", key, {"external_id": key})), "") for key in KEYS}

    def call_all(number: int) -> list[Observation]:
        return [
            observed(clients[number % 2], play.call(drawn), first[drawn.key].reply.participant["id"])
            for drawn in plans[number]
        ]

    with ThreadPoolExecutor(CALLERS) as pool:
        observations = [seen for caller in pool.map(call_all, range(CALLERS)) for seen in caller]
    for created in first.values():
        own = [seen for seen in observations if seen.call.key == created.call.key]
        check_one_order(play.model, [created, *own])


def observed(client: GrpcClient, call: Call, participant_id: str) -> Observation:
    started = time.monotonic()
    reply = send(client, call, participant_id)
    return Observation(call, reply, started, time.monotonic())


def check_one_order(model: Model, observations: Sequence[Observation]) -> None:
    """Checks that the calls for one participant could have come one after another.

    Every change moves updated_at forward, so updated_at tells the order of the changes, and after which of them each
    call came that changed nothing. Played in that order, the model must see what the callers saw; and nobody may come
    before a call that was over when it began.
    """
    succeeded = [seen for seen in observations if seen.reply.code == "OK"]
    latest_start = 0.0
    before: Reply | None = None
    for _, group in groupby(sorted(succeeded, key=when), when):
        for seen in changer_first(model, list(group)):
            assert what_came(seen.reply) == model.apply(seen.call)
            check_identity(before, seen.reply)
            assert seen.finished >= latest_start
            latest_start = max(latest_start, seen.started)
            before = seen.reply
    for seen in observations:
        if seen.reply.code != "OK":
            assert what_came(seen.reply) == model.apply(seen.call)


def when(seen: Observation) -> datetime:
    return updated_at(seen.reply)


def changer_first(model: Model, group: list[Observation]) -> list[Observation]:
    """Returns the calls that saw one state, the one that led to it first: the earliest that can have been it."""
    # An upsert says whether it was the one; of the others the model does.
    in_order = sorted(group, key=lambda seen: (seen.reply.result not in {"CREATED", "UPDATED"}, seen.started))
    before = model.participants.get(group[0].call.key)
    for seen in in_order:
        trial = deepcopy(model)
        if trial.apply(seen.call) == what_came(seen.reply) and trial.participants[seen.call.key] != before:
            return [seen, *(other for other in in_order if other is not seen)]
    return in_order


def test_erasures_and_upserts_at_once_leave_what_one_order_of_them_explains(
    deployment: Deployment, clients: list[GrpcClient]
) -> None:
    key = f"erased-{uuid4()}"

    def call(number: int) -> tuple[str, str]:
        client = clients[number % 2]
        if number % 3:
            reply = client.create({"external_id": key, "attributes": {str(number): ""}, "tags": ["x"]})
            return reply.result, reply.participant["id"]
        found = client.lookup(key)
        return ("DELETED", found.participant["id"]) if found.code == "OK" and erased(client, found) else ("", "")

    def erased(client: GrpcClient, found: Reply) -> bool:
        return client.delete(found.participant["id"]).code == "OK"

    with ThreadPoolExecutor(CALLERS) as pool:
        outcomes = list(pool.map(call, range(300)))
    created = [participant_id for outcome, participant_id in outcomes if outcome == "CREATED"]
    deleted = [participant_id for outcome, participant_id in outcomes if outcome == "DELETED"]
    alive = clients[0].lookup(key)
    assert len(set(created)) == len(created)
    assert len(set(deleted)) == len(deleted)
    assert set(created) - set(deleted) == ({alive.participant["id"]} if alive.code == "OK" else set())
    assert {participant_id for outcome, participant_id in outcomes if outcome == "UPDATED"} <= set(created)
