"""Long work rests, while several organizations call, so that the calls of others go on."""

import asyncio
import time
from itertools import pairwise

import pytest

from server.api.stints import Stints
from server.api.turns import CALL, Turns

LONG, STINTS = 0.03, 4


def _work() -> float:
    began = time.monotonic()
    while time.monotonic() < began + LONG:
        pass
    return began


@pytest.fixture
async def turns() -> Turns:
    return Turns()


def _crowd(turns: Turns) -> None:
    for organization in ("one", "another"):
        turn = turns.try_begin(organization, CALL)
        assert turn is not None
        turn.end()


async def _starts(stints: Stints) -> list[float]:
    return sorted(await asyncio.gather(*(stints.run(_work) for _ in range(STINTS))))


async def test_while_several_organizations_call_each_rests_for_as_long_as_it_took(turns: Turns) -> None:
    _crowd(turns)
    starts = await _starts(Stints(turns))
    assert all(later - earlier >= 2 * LONG for earlier, later in pairwise(starts))


async def test_an_organization_that_calls_alone_does_not_wait(turns: Turns) -> None:
    stints = Stints(turns)
    for _ in range(STINTS):
        # It is done without the event loop having come round.
        with pytest.raises(StopIteration):
            stints.run(_work).send(None)


async def test_what_is_raised_is_raised_and_rested_from(turns: Turns) -> None:
    _crowd(turns)
    stints = Stints(turns)

    def fail() -> None:
        _work()
        raise LookupError

    with pytest.raises(LookupError):
        await stints.run(fail)
    ended = time.monotonic()
    assert await stints.run(_work) >= ended + LONG * 0.9
