"""However many calls end at once, few do each time the event loop comes round."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc

from server.rpc.contexts import Context
from server.rpc.endings import AT_ONCE, Endings
from tests.support.rpc_server import METHOD, serving

CALLS = 10 * AT_ONCE


class Rounds:
    """How often the event loop came round, and in which of these things ended, in order."""

    def __init__(self, until: int) -> None:
        self.ended: list[int] = []
        self._until = until
        self._are_all = asyncio.Event()
        self._round = 0
        self._counting = asyncio.create_task(self._count())

    def end(self) -> None:
        self.ended.append(self._round)
        if len(self.ended) == self._until:
            self._are_all.set()

    def most(self) -> int:
        """Returns how many ended in one round, at the most."""
        return max(self.ended.count(each) for each in set(self.ended))

    async def all_ended(self) -> None:
        async with asyncio.timeout(10):
            await self._are_all.wait()
        self._counting.cancel()

    async def _count(self) -> None:
        while True:
            self._round += 1
            await asyncio.sleep(0)


async def test_a_few_end_at_once() -> None:
    rounds, endings = Rounds(AT_ONCE), Endings()
    for number in range(1, AT_ONCE + 1):
        endings.call_soon_threadsafe(rounds.end)
        assert len(rounds.ended) == number
    await rounds.all_ended()


async def test_of_many_a_few_end_each_time_the_event_loop_comes_round() -> None:
    rounds, endings = Rounds(CALLS), Endings()
    for _ in range(CALLS):
        endings.call_soon_threadsafe(rounds.end)
    await rounds.all_ended()
    assert rounds.most() <= AT_ONCE


async def test_they_end_in_the_order_in_which_it_was_heard_of_them() -> None:
    endings, ended = Endings(), list[int]()
    for number in range(CALLS):
        endings.call_soon_threadsafe(ended.append, number)
        if number % AT_ONCE == 0:
            await asyncio.sleep(0)
    all_ended = asyncio.Event()
    endings.call_soon_threadsafe(all_ended.set)
    await all_ended.wait()
    assert ended == list(range(CALLS))


class Waiting:
    """Answers no call, and sees each end."""

    def __init__(self) -> None:
        self.all_begun = asyncio.Event()
        self.rounds = Rounds(CALLS)
        self._begun = 0

    async def answer(self, _message: Context, _context: Context) -> bytes:
        self._begun += 1
        if self._begun == CALLS:
            self.all_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.rounds.end()
        return b""


async def _ended_at_once(*, ours: bool) -> int:
    """Returns how many of many calls end at once, at the most, when their caller closes its connection."""
    waiting = Waiting()
    async with serving(waiting.answer, ours=ours) as address:
        # A client that has threads of its own.
        channel = grpc.insecure_channel(address)
        method: Any = channel.unary_unary(METHOD)
        calls = [method.future(b"a message") for _ in range(CALLS)]
        async with asyncio.timeout(10):
            await waiting.all_begun.wait()
        for call in calls:
            call.cancel()
        channel.close()
        time.sleep(0.2)  # noqa: ASYNC251  # that the event loop is busy is the point
        await waiting.rounds.all_ended()
    return waiting.rounds.most()


async def test_who_closes_its_connection_ends_a_few_of_its_calls_at_once() -> None:
    assert await _ended_at_once(ours=True) <= AT_ONCE


async def test_left_to_itself_grpcio_ends_them_all() -> None:
    """Where this fails, grpcio has changed, and what is tested here may no longer be needed."""
    assert await _ended_at_once(ours=False) > AT_ONCE
