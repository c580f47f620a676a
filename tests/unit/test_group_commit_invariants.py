"""The invariants that `GroupCommit` states, after every step of any story: callers who come, wait and leave, a database
that answers, fails, stalls, loses races and is cancelled, and time that passes."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from server.errors import Unavailable
from server.participants.model import RETRY, Outcome, ParticipantNames, Retry, Upsert, Written
from server.participants.repository import Contention, Refused
from server.writes import batcher as batcher_module
from server.writes import batching, executor
from server.writes.admission import Admission
from server.writes.batcher import Batcher
from server.writes.group_commit import GroupCommit
from server.writes.pending import PendingUpsert, Submission

KEYS = ("a", "b", "c")
ORGANIZATIONS = ("acme", "globex")
MAX_UPSERTS, MAX_BYTES = 12, 10_000
# What a statement can come to: rows that are written or lose their races, and errors of the whole.
ERRORS = {"unavailable": Unavailable, "contention": Contention, "refused": Refused, "a bug": RuntimeError}


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose clock the test moves."""

    now = 1000.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Runs whatever is ready, and what that makes ready."""
        for _ in range(12):
            self.call_soon(self.stop)
            self.run_forever()


@dataclass(eq=False)
class Statement:
    """A statement that the database is asked to run."""

    upserts: Sequence[Upsert]
    insert: bool
    answer: asyncio.Future[Sequence[Outcome | Retry]]
    cancelled: int = 0


@dataclass
class Database:
    """A repository whose statements end when and as the test says. One that is cancelled ends only then, too."""

    loop: Loop
    running: list[Statement] = field(default_factory=list)
    written: list[tuple[tuple[str, str], int]] = field(default_factory=list)
    most_cancels: int = 0

    def route(self, upsert: Upsert) -> str:
        return ""

    async def upsert(self, upserts: Sequence[Upsert], *, insert: bool = True) -> Sequence[Outcome | Retry]:
        statement = Statement(upserts, insert, self.loop.create_future())
        self.running.append(statement)
        cancelled: BaseException | None = None
        while not statement.answer.done():
            try:
                await asyncio.shield(statement.answer)
            except asyncio.CancelledError as error:
                cancelled = error
                statement.cancelled += 1
                self.most_cancels = max(self.most_cancels, statement.cancelled)
            except Exception:  # noqa: BLE001  # raised below
                pass
        if cancelled is not None:
            statement.answer.exception()
            raise cancelled
        return statement.answer.result()

    async def get(self, organization_id: str, participant_id: str) -> None:
        raise NotImplementedError


class Story(RuleBasedStateMachine):
    """Any order of what can happen to a writer."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.loop = Loop()
        self.faults: list[dict[str, Any]] = []
        self.loop.set_exception_handler(lambda _loop, context: self.faults.append(context))
        self.patch.setattr(batcher_module, "time", SimpleNamespace(monotonic=self.loop.time))
        self.patch.setattr(batching, "MAX_STATEMENT_UPSERTS", 3)
        # So few that a story often has as many as there may be.
        self.patch.setattr(batching, "MAX_STATEMENTS", 2)
        self.patch.setattr(batcher_module, "MAX_ALONE", 1)
        self.patch.setattr(executor, "logger", SimpleNamespace(exception=lambda _message: None))
        self.database = Database(self.loop)
        self.writer = self.loop.run_until_complete(self.make())
        # Every future that was handed out, with how many upserts it is for, in the order of arrival.
        self.calls: list[tuple[int, asyncio.Future[Sequence[Outcome]]]] = []
        # How many upserts were submitted; each is known by its number.
        self.submitted = 0

    async def make(self) -> GroupCommit:
        writer = GroupCommit(self.database)
        writer._admission = Admission(MAX_UPSERTS, MAX_BYTES)
        return writer

    @rule(
        organization=st.sampled_from(ORGANIZATIONS),
        keys=st.lists(st.sampled_from(KEYS), min_size=1, max_size=4),
        bulk=st.booleans(),
        time_left=st.sampled_from([0.001, 0.05, 10.0]),
        size=st.sampled_from([1, 100, 4_000]),
    )
    def submit(self, organization: str, keys: Sequence[str], bulk: bool, time_left: float, size: int) -> None:
        upserts = []
        for key in keys:
            upserts.append(
                Upsert(
                    organization_id=organization,
                    external_id=key,
                    attributes={},
                    tags=[],
                    size=size,
                    display_name=str(self.submitted),
                )
            )
            self.submitted += 1

        async def call() -> asyncio.Future[Sequence[Outcome]]:
            return self.writer.submit(upserts, self.loop.now + time_left, bulk=bulk)

        self.calls.append((len(upserts), self.loop.run_until_complete(call())))
        self.loop.settle()

    @precondition(lambda self: any(not future.done() for _, future in self.calls))
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        future = data.draw(st.sampled_from([future for _, future in self.calls if not future.done()]))
        future.cancel()
        self.writer.withdraw()
        self.loop.settle()

    @rule(seconds=st.sampled_from([0.0005, 0.004, 0.02, 0.2, 11.0]))
    def wait(self, seconds: float) -> None:
        self.loop.now += seconds
        self.loop.settle()

    @precondition(lambda self: self.database.running)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        statement = data.draw(st.sampled_from(self.database.running))
        lost = data.draw(st.lists(st.booleans(), min_size=len(statement.upserts), max_size=len(statement.upserts)))
        self.end(statement, lost)

    @precondition(lambda self: self.database.running)
    @rule(data=st.data(), error=st.sampled_from(sorted(ERRORS)))
    def fail(self, data: st.DataObject, error: str) -> None:
        statement = data.draw(st.sampled_from(self.database.running))
        self.database.running.remove(statement)
        statement.answer.set_exception(ERRORS[error]())
        self.loop.settle()

    def end(self, statement: Statement, lost: Sequence[bool]) -> None:
        self.database.running.remove(statement)
        outcomes: list[Outcome | Retry] = []
        for upsert, is_lost in zip(statement.upserts, lost, strict=True):
            if is_lost:
                outcomes.append(RETRY)
            else:
                number = int(upsert.display_name or "")
                self.database.written.append(((upsert.organization_id, upsert.external_id), number))
                outcomes.append(Written("UPDATED", ParticipantNames("id", upsert.external_id, number)))
        statement.answer.set_result(outcomes)
        self.loop.settle()

    # What is where.

    def queued(self) -> list[PendingUpsert]:
        queues = [batcher._queue for batcher in self.writer._batchers.values()]
        return [
            pending for queue in queues for part in (*queue._shared._queues.values(), queue._alone) for pending in part
        ]

    def being_written(self) -> list[PendingUpsert]:
        batchers = self.writer._batchers.values()
        return [pending for batcher in batchers for statement in batcher._statements for pending in statement.group]

    def followers(self) -> list[PendingUpsert]:
        return [pending for behind in self.writer._order._followers.values() if behind for pending in behind]

    def again(self) -> list[PendingUpsert]:
        """Those that wait to run again."""
        # asyncio has no public list of an event loop's timers.
        timers = [timer._args or () for timer in self.loop._scheduled if not timer._cancelled]  # type: ignore[attr-defined]  # typeshed leaves out what is private
        return [argument for arguments in timers for argument in arguments if isinstance(argument, PendingUpsert)]

    def places(self) -> list[PendingUpsert]:
        return [*self.queued(), *self.being_written(), *self.followers(), *self.again()]

    @invariant()
    def nothing_has_gone_wrong_unseen(self) -> None:
        assert self.faults == []

    @invariant()
    def per_key_at_most_one_is_active(self) -> None:
        active = Counter(pending.key for pending in [*self.queued(), *self.being_written(), *self.again()])
        assert active == Counter(self.writer._order._followers.keys())

    @invariant()
    def every_statement_has_different_keys(self) -> None:
        for statement in self.database.running:
            keys = [(upsert.organization_id, upsert.external_id) for upsert in statement.upserts]
            assert len(set(keys)) == len(keys)

    @invariant()
    def what_is_held_is_counted_once_everywhere(self) -> None:
        held, places = self.writer._held, self.places()
        assert len(places) == len(set(places))
        assert Counter(pending.submission for pending in places) == {each: each.left for each in held}
        room, free = self.writer._admission._held.values(), self.writer._admission._free
        upserts, size = sum(len(each.outcomes) for each in held), sum(each.size for each in held)
        assert self.writer.load() == (upserts, size)
        assert sum(room_of_one.upserts for room_of_one in room) == upserts == MAX_UPSERTS - free.upserts
        assert sum(room_of_one.size for room_of_one in room) == size == MAX_BYTES - free.size
        timed: set[Submission] = {each for bucket in self.writer._deadlines._buckets.values() for each in bucket}
        assert timed <= held
        assert not any(each.is_awaited for each in held - timed)

    @invariant()
    def whoever_waits_is_held(self) -> None:
        waiting = {id(future) for _, future in self.calls if not future.done()}
        assert waiting == {id(each.future) for each in self.writer._held if each.is_awaited}

    @invariant()
    def whoever_is_told_is_told_of_each(self) -> None:
        told = [(count, future.result()) for count, future in self.calls if future.done() and not future.cancelled()]
        assert all(len(outcomes) == count and None not in outcomes for count, outcomes in told)

    @invariant()
    def a_queue_that_is_not_empty_goes_on(self) -> None:
        for batcher in self.writer._batchers.values():
            is_full = batcher._policy.running >= batching.MAX_STATEMENTS
            if batcher._queue.size:
                is_timed = batcher._start_timer._handle is not None
                assert batcher._start_is_scheduled or is_timed or is_full
            if batcher._queue.alone:
                alone = [statement for statement in batcher._statements if statement.group[0].alone]
                assert batcher._start_is_scheduled or is_full or len(alone) >= batcher_module.MAX_ALONE

    @invariant()
    def a_statement_is_cancelled_once_and_only_when_nobody_waits(self) -> None:
        assert self.database.most_cancels <= 1
        for batcher in self.writer._batchers.values():
            for statement in batcher._statements:
                assert not statement.is_cancelled or not any(
                    pending.submission.is_awaited for pending in statement.group
                )

    @invariant()
    def the_upserts_of_a_key_are_written_in_order_of_arrival(self) -> None:
        for key in {key for key, _ in self.database.written}:
            numbers = [number for written, number in self.database.written if written == key]
            assert numbers == sorted(set(numbers)), numbers

    def teardown(self) -> None:
        """In the end everything is released, whatever came before, and closing returns."""
        try:
            for _ in range(200):
                if not self.writer._held:
                    break
                while self.database.running:
                    self.end(self.database.running[0], [False] * len(self.database.running[0].upserts))
                self.loop.now += 0.1
                self.loop.settle()
            assert not self.writer._held
            assert not len(self.writer._order)
            assert all(future.done() for _, future in self.calls)
            self.loop.run_until_complete(self.writer.close())
            assert self.faults == []
        finally:
            self.patch.undo()
            self.loop.close()


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=150, stateful_step_count=40)


def test_followers_that_nobody_waits_for_go_with_the_upsert_that_they_follow() -> None:
    story = Story()
    story.patch.setattr(story.writer, "_admission", Admission())
    for _ in range(1_000):
        story.submit("acme", ["a"], False, 10.0, 1)
    for _, future in story.calls[1:]:
        future.cancel()
    story.end(story.database.running[0], [False])
    assert not story.writer._held
    assert len(story.database.written) == 1
    story.teardown()


def test_what_loses_as_new_in_a_shared_statement_is_written_alone_one_after_the_other() -> None:
    story = Story()
    for key in ("a", "b"):
        story.submit("acme", [key], False, 10.0, 1)
    for organization in ORGANIZATIONS:
        story.submit(organization, ["c"], False, 10.0, 1)
    # The first two have statements of their own; the others wait for one that ends, and share the next.
    for statement in list(story.database.running):
        story.end(statement, [False])
    story.wait(0.02)
    (shared,) = story.database.running
    assert len(shared.upserts) == 2
    story.database.running.remove(shared)
    shared.answer.set_exception(Contention())
    story.loop.settle()
    (existing,) = story.database.running
    assert not existing.insert
    story.end(existing, [True, True])
    for _ in ORGANIZATIONS:
        (alone,) = story.database.running
        assert len(alone.upserts) == 1
        assert alone.insert
        story.end(alone, [False])
    assert [number for _, number in story.database.written] == [0, 1, 2, 3]
    story.teardown()


def test_a_batcher_is_what_the_story_looks_into() -> None:
    # The story reads private names: this says so when one is renamed, and not an invariant that holds of nothing.
    assert {"_queue", "_statements", "_start_timer", "_policy"} <= set(Batcher.__init__.__code__.co_names)
