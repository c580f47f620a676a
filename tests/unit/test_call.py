"""What a call passes through: its turn is one of work, not of waiting for its request."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.api import call as module
from server.api.call import Call, Interceptor
from server.api.turns import CALL, Kind, Turns
from server.operations.metrics import Metrics
from server.operations.telemetry import Telemetry

# As few begin at once as of batches, and each counts for no longer than this, in seconds.
LEASE = 0.02
BATCHES = 6


class AnyKey:
    """Takes each key for the name of its organization."""

    async def authenticate(self, key: str | None, _deadline: float) -> str:
        assert key is not None
        return key


async def test_batches_whose_requests_arrive_slowly_are_not_worked_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", Kind(at_once=8, at_once_among_others=1, lease=LEASE))
    turns, begun, may_arrive = Turns(), asyncio.Semaphore(0), asyncio.Event()
    keys: Any = AnyKey()
    interceptor = Interceptor(keys, turns, Telemetry(Metrics("a service", ["BatchCreateParticipants"]), None))
    working: list[int] = [0]

    async def receive(_organization_id: str, _deadline: float) -> Any:
        begun.release()
        await may_arrive.wait()

    async def work(_request: object, call: Call) -> Any:
        call.turn.keep()
        working.append(working[-1] + 1)
        await asyncio.sleep(LEASE / 4)
        working.append(working[-1] - 1)

    for organization in ("one", "another"):
        turn = turns.try_begin(organization, CALL)
        assert turn is not None
        turn.end()
    batches = [
        asyncio.create_task(
            interceptor.run(
                "BatchCreateParticipants", work, receive, {"x-api-key": "one"}, time_left=None, peer=lambda: ""
            )
        )
        for _ in range(BATCHES)
    ]
    # None keeps the others from beginning.
    for _ in batches:
        await asyncio.wait_for(begun.acquire(), 5)
    may_arrive.set()
    await asyncio.gather(*batches)
    assert len(working) == 1 + 2 * BATCHES
    assert max(working) == 1
