"""Long work goes on in stints, one piece at a time, between which the calls of others go on."""

import asyncio
import time
from collections.abc import Generator
from itertools import pairwise

import pytest

from server.api.stints import STINT, Stints
from server.api.turns import CALL, Turns
from server.errors import DeadlineExceeded

LONG, PIECES = 0.03, 4
STEP = 2 * STINT


def _busy(seconds: float) -> float:
    """Keeps the event loop, and returns since when."""
    began = time.monotonic()
    while time.monotonic() < began + seconds:
        pass
    return began


def _one_step() -> Generator[float]:
    yield _busy(LONG)


def _many_steps(ends: list[float]) -> Generator[bool | None]:
    for _ in range(5):
        _busy(STEP)
        ends.append(time.monotonic())
        yield None
    yield True


@pytest.fixture
async def turns() -> Turns:
    return Turns()


@pytest.fixture
def deadline() -> float:
    return time.monotonic() + 10


def _crowd(turns: Turns) -> None:
    for organization in ("one", "another"):
        turn = turns.try_begin(organization, CALL)
        assert turn is not None
        turn.end()


async def test_while_several_organizations_call_each_rests_for_as_long_as_it_took(
    turns: Turns, deadline: float
) -> None:
    _crowd(turns)
    stints = Stints(turns)
    starts = sorted(await asyncio.gather(*(stints.run(_one_step(), deadline) for _ in range(PIECES))))
    assert all(later - earlier >= 2 * LONG for earlier, later in pairwise(starts))


@pytest.mark.parametrize("crowded", [True, False])
async def test_between_steps_that_take_long_others_have_the_event_loop(
    turns: Turns, deadline: float, crowded: bool
) -> None:
    if crowded:
        _crowd(turns)
    ends: list[float] = []
    work = asyncio.ensure_future(Stints(turns).run(_many_steps(ends), deadline))
    turns_of_others = 0
    while not work.done():
        await asyncio.sleep(0)
        turns_of_others += 1
    assert work.result()
    assert turns_of_others >= len(ends) == 5
    rests = [later - earlier - STEP for earlier, later in pairwise(ends)]
    assert all(rest >= STEP for rest in rests) == crowded


async def test_a_piece_begins_when_the_last_is_done(turns: Turns, deadline: float) -> None:
    stints = Stints(turns)
    pieces: list[list[float]] = [[] for _ in range(PIECES)]
    await asyncio.gather(*(stints.run(_many_steps(ends), deadline) for ends in pieces))
    assert all(earlier[-1] < later[0] for earlier, later in pairwise(pieces))


async def test_an_organization_that_calls_alone_does_not_wait_for_what_takes_one_step(
    turns: Turns, deadline: float
) -> None:
    stints = Stints(turns)
    for _ in range(PIECES):
        # It is done without the event loop having come round.
        with pytest.raises(StopIteration):
            stints.run(_one_step(), deadline).send(None)


async def test_what_is_raised_is_raised_and_rested_from(turns: Turns, deadline: float) -> None:
    _crowd(turns)
    stints = Stints(turns)

    def fail() -> Generator[None]:
        yield None
        _busy(LONG)
        raise LookupError

    with pytest.raises(LookupError):
        await stints.run(fail(), deadline)
    ended = time.monotonic()
    assert await stints.run(_one_step(), deadline) >= ended + LONG * 0.9


async def test_who_waits_until_the_deadline_is_told_and_what_was_begun_is_let_go(turns: Turns, deadline: float) -> None:
    stints = Stints(turns)
    closed = False

    def endless() -> Generator[bool | None]:
        nonlocal closed
        try:
            while True:
                _busy(STEP)
                yield None
        finally:
            closed = True

    begun = asyncio.ensure_future(stints.run(endless(), deadline))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded):
        await stints.run(_one_step(), time.monotonic() + LONG)
    begun.cancel()
    with pytest.raises(asyncio.CancelledError):
        await begun
    assert closed
    assert await stints.run(_one_step(), deadline) > 0
