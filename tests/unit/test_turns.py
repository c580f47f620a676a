"""Turns: who begins at once, who waits and for how long, and who is refused."""

from __future__ import annotations

import asyncio
import math

import pytest

from server.api import turns
from server.api.turns import BATCH, CALL, Kind, Turn, Turns
from server.errors import Overloaded


class Calls:
    """Calls whose turns are taken, on a clock that only the test moves."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time()
        self.turns = Turns(lambda: self.now)
        self.deadline = math.inf
        self.begun: list[str] = []

    def call(self, organization_id: str, kind: Kind = CALL, name: str = "") -> Turn | asyncio.Task[Turn]:
        """Makes a call, which is named in `begun` once it is. Returns its turn, or the task that waits for it."""
        name = name or organization_id
        turn = self.turns.try_begin(organization_id, kind)
        if turn is None:
            return asyncio.create_task(self._wait(organization_id, kind, name))
        self.begun.append(name)
        return turn

    def begin(self, organization_id: str, kind: Kind = CALL) -> Turn:
        """Makes a call that begins at once."""
        turn = self.call(organization_id, kind)
        assert isinstance(turn, Turn)
        return turn

    def crowd(self) -> list[Turn]:
        """Has one organization flood, so that the next call of it has to wait, and another one call."""
        begun = [self.begin("flood") for _ in range(CALL.at_once_among_others)]
        self.begin("other").end()
        self.begun.clear()
        return begun

    def wait(self, *names: str) -> list[asyncio.Task[Turn]]:
        """Makes calls of the one that floods, which have to wait."""
        tasks = [self.call("flood", name=name) for name in names]
        return [task for task in tasks if isinstance(task, asyncio.Task)]

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.turns.look()

    async def _wait(self, organization_id: str, kind: Kind, name: str) -> Turn:
        turn = await self.turns.begin(organization_id, kind, self.deadline)
        self.begun.append(name)
        return turn


@pytest.fixture
async def calls() -> Calls:
    return Calls()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_calls_of_one_that_calls_alone_begin_at_once(calls: Calls) -> None:
    for _ in range(1_000):
        calls.begin("flood")


async def test_of_batches_of_one_that_calls_alone_so_many_begin_and_no_call_waits_for_them(calls: Calls) -> None:
    begun = [calls.begin("flood", BATCH) for _ in range(int(BATCH.at_once))]
    waiting = calls.call("flood", BATCH, "last")
    await settle()
    assert isinstance(waiting, asyncio.Task)
    assert "last" not in calls.begun
    calls.begin("flood", CALL)
    begun[0].end()
    await settle()
    assert calls.begun[-1] == "last"


async def test_among_others_so_many_begin_and_the_others_wait_in_order(calls: Calls) -> None:
    first, second, *_ = calls.crowd()
    calls.wait("a", "b", "c")
    await settle()
    assert calls.begun == []
    first.end()
    second.end()
    await settle()
    assert calls.begun == ["a", "b"]


async def test_who_is_below_its_share_never_waits_for_another(calls: Calls) -> None:
    calls.crowd()
    calls.wait(*"abcdefgh")
    for _ in range(CALL.at_once_among_others):
        calls.begin("other")
    calls.begin("another")


async def test_calls_begun_before_another_came_count(calls: Calls) -> None:
    begun = [calls.begin("flood") for _ in range(3 * CALL.at_once_among_others)]
    calls.begin("other")
    calls.wait("a")
    for turn in begun[: 2 * CALL.at_once_among_others]:
        turn.end()
    await settle()
    assert "a" not in calls.begun
    begun[-1].end()
    await settle()
    assert "a" in calls.begun


async def test_batches_and_calls_do_not_wait_for_each_other(calls: Calls) -> None:
    calls.crowd()
    calls.begin("flood", BATCH)
    waiting = calls.call("flood", BATCH)
    assert isinstance(waiting, asyncio.Task)
    waiting.cancel()


async def test_a_turn_ends_once(calls: Calls) -> None:
    first, *_ = calls.crowd()
    calls.wait("a", "b")
    await settle()
    first.end()
    first.end()
    await settle()
    assert calls.begun == ["a"]


async def test_a_call_has_lapsed_once_another_has_its_place(calls: Calls) -> None:
    first, second, *_ = calls.crowd()
    calls.pass_time(2 * CALL.lease)
    assert not first.has_lapsed
    calls.wait("a")
    second.keep()
    await settle()
    calls.pass_time(CALL.lease)
    assert first.has_lapsed
    assert not second.has_lapsed


async def test_a_call_that_takes_long_counts_no_more(calls: Calls) -> None:
    calls.crowd()
    calls.wait("a")
    await settle()
    calls.pass_time(CALL.lease / 2)
    await settle()
    assert calls.begun == []
    calls.pass_time(CALL.lease)
    await settle()
    assert calls.begun == ["a"]


async def test_a_batch_that_is_here_counts_however_long_it_takes(calls: Calls) -> None:
    kept, late, *others = [calls.begin("flood", BATCH) for _ in range(int(BATCH.at_once))]
    kept.keep()
    for name in [*(f"{number}" for number, _ in enumerate([late, *others])), "last"]:
        assert isinstance(calls.call("flood", BATCH, name), asyncio.Task)
    await settle()
    calls.pass_time(BATCH.lease)
    await settle()
    assert len(calls.begun) == 2 * BATCH.at_once - 1
    # Here after its lease, it counts again.
    late.keep()
    kept.end()
    await settle()
    assert "last" not in calls.begun
    late.end()
    await settle()
    assert calls.begun[-1] == "last"


async def test_all_begin_once_the_others_have_not_called_for_long(calls: Calls) -> None:
    calls.crowd()
    names = [f"{number}" for number in range(3 * CALL.at_once_among_others)]
    calls.wait(*names)
    await settle()
    calls.pass_time(turns.PERIOD)
    assert calls.turns.crowded
    calls.pass_time(turns.PERIOD)
    await settle()
    assert not calls.turns.crowded
    assert calls.begun == names


async def test_one_whose_calls_still_wait_still_calls(calls: Calls) -> None:
    calls.begin("flood", BATCH).keep()
    calls.begin("other").end()
    assert isinstance(calls.call("flood", BATCH, "waiting"), asyncio.Task)
    await settle()
    for _ in range(5):
        # The other calls, and the first makes no new calls: it has enough of them here.
        calls.pass_time(turns.PERIOD)
        calls.begin("other").end()
    await settle()
    assert calls.turns.crowded
    assert "waiting" not in calls.begun


async def test_one_that_comes_while_others_wait_goes_behind_them(calls: Calls) -> None:
    first, *_ = calls.crowd()
    calls.wait("a")
    await settle()
    first.end()
    # "a" has its turn, and has not run yet.
    calls.wait("b")
    await settle()
    assert calls.begun == ["a"]


async def test_a_caller_who_goes_leaves_its_place_and_its_turn_to_the_next(calls: Calls) -> None:
    first, *_ = calls.crowd()
    gone, gone_later, _ = calls.wait("gone", "gone later", "a")
    await settle()
    gone.cancel()
    await settle()
    first.end()
    # It has its turn, and goes before it knows.
    gone_later.cancel()
    await settle()
    assert calls.begun == ["a"]


async def test_a_turn_that_would_come_too_late_is_refused_at_once(calls: Calls) -> None:
    begun = calls.crowd()
    calls.wait(*(f"{number}" for number in range(100)))
    await settle()
    for turn in begun:
        calls.now += 0.05
        turn.end()
    calls.deadline = calls.now + 0.5
    [late] = calls.wait("late")
    with pytest.raises(Overloaded) as refused:
        await late
    assert (refused.value.reason, refused.value.retry_after) == ("DEADLINE_BEFORE_TURN", 1.0)
    calls.deadline = calls.now + 60.0
    [waiting] = calls.wait("in time")
    await settle()
    assert not waiting.done()


async def test_a_turn_that_does_not_come_is_refused_at_the_deadline(calls: Calls) -> None:
    first, *_ = calls.crowd()
    calls.deadline = calls.now + 0.01
    [late] = calls.wait("late")
    with pytest.raises(Overloaded, match="deadline"):
        await late
    first.end()
    calls.begin("flood")


async def test_room_to_wait_shrinks_as_it_fills_and_a_newcomer_finds_some(
    calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_WAITING", 8)
    calls.crowd()
    waiting = calls.wait(*"abcdef")
    await settle()
    assert [task.done() for task in waiting] == [False] * 4 + [True] * 2
    for task in waiting[-2:]:
        with pytest.raises(Overloaded, match="too many"):
            await task
    for _ in range(CALL.at_once_among_others):
        calls.begin("newcomer")
    answers = [calls.call("newcomer") for _ in range(3)]
    newcomers = [answer for answer in answers if isinstance(answer, asyncio.Task)]
    await settle()
    assert [task.done() for task in newcomers] == [False, False, True]
    with pytest.raises(Overloaded, match="too many"):
        await newcomers[-1]
