"""Callers of BatchCreateParticipants."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from tests.bench import workload
from tests.bench.callers import Calls, Target
from tests.bench.grpc_callers import MIN_RESPONSE_BYTES

METHOD = "/participants.v1.ParticipantService/BatchCreateParticipants"
OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]


@asynccontextmanager
async def calling(target: Target, calls: Calls) -> AsyncIterator[None]:
    """Has callers send batches, each item of which changes a participant; leaving waits for their last answers."""

    def changing() -> bytes:
        first = next(calls.numbers)
        calls.numbers = itertools.count(first + target.items)
        return workload.batch(first, target.items)

    async with grpc.aio.insecure_channel(target.address, options=OPTIONS) as channel:
        tasks = [asyncio.create_task(_call(channel, target, calls, changing)) for _ in range(target.callers)]
        yield
        await asyncio.gather(*tasks)


@asynccontextmanager
async def calling_unchanged(target: Target, calls: Calls) -> AsyncIterator[None]:
    """Has callers send the same batches, one upsert for every participant, again and again."""
    first = next(calls.numbers)
    calls.numbers = itertools.count(first + target.participants)
    batches = [
        workload.batch(number, target.items) for number in range(first, first + target.participants, target.items)
    ]
    again = itertools.cycle(batches)
    async with grpc.aio.insecure_channel(target.address, options=OPTIONS) as channel:
        tasks = [asyncio.create_task(_call(channel, target, calls, lambda: next(again))) for _ in range(target.callers)]
        yield
        await asyncio.gather(*tasks)


async def _call(channel: grpc.aio.Channel, target: Target, calls: Calls, next_batch: Callable[[], bytes]) -> None:
    try:
        while not calls.stopped:
            request = next_batch()
            started = time.perf_counter()
            await _send(channel, target, request)
            calls.latencies.append(time.perf_counter() - started)
    except (grpc.aio.AioRpcError, AssertionError) as error:
        calls.fail(RuntimeError(repr(error)))


async def _send(channel: grpc.aio.Channel, target: Target, request: bytes) -> None:
    # Without a serializer and a deserializer both are bytes.
    method: Any = channel.unary_unary(METHOD)
    response: bytes = await method(request, metadata=(("x-api-key", target.key),))
    # An item that failed is answered by a short status in place of a participant.
    assert len(response) >= MIN_RESPONSE_BYTES * target.items
