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
from tests.bench.grpc_callers import MIN_RESPONSE_BYTES as MIN_FULL_BYTES

METHOD = "/participants.v1.ParticipantService/BatchCreateParticipants"
# An item answered with its identifiers alone is longer; one that failed has neither.
MIN_BASIC_BYTES = 50
OPTIONS = [("grpc.max_receive_message_length", 16 << 20)]


@asynccontextmanager
async def calling(target: Target, calls: Calls) -> AsyncIterator[None]:
    """Has callers send batches, each item of which changes a participant; leaving waits for their last answers."""
    async with _sending(target, calls, _changing(target, calls), MIN_FULL_BYTES):
        yield


@asynccontextmanager
async def calling_basic(target: Target, calls: Calls) -> AsyncIterator[None]:
    """Does the same with callers who want no participants in the answer."""
    changing = _changing(target, calls)
    async with _sending(target, calls, lambda: changing() + workload.BASIC_VIEW, MIN_BASIC_BYTES):
        yield


@asynccontextmanager
async def calling_unchanged(target: Target, calls: Calls) -> AsyncIterator[None]:
    """Has callers send the same batches, one upsert for every participant, again and again."""
    first = next(calls.numbers)
    calls.numbers = itertools.count(first + target.participants)
    batches = [
        workload.batch(number, target.items) for number in range(first, first + target.participants, target.items)
    ]
    again = itertools.cycle(batches)
    async with _sending(target, calls, lambda: next(again), MIN_FULL_BYTES):
        yield


def _changing(target: Target, calls: Calls) -> Callable[[], bytes]:
    def next_batch() -> bytes:
        first = next(calls.numbers)
        calls.numbers = itertools.count(first + target.items)
        return workload.batch(first, target.items)

    return next_batch


@asynccontextmanager
async def _sending(
    target: Target, calls: Calls, next_batch: Callable[[], bytes], min_item_bytes: int
) -> AsyncIterator[None]:
    async with grpc.aio.insecure_channel(target.address, options=OPTIONS) as channel:
        # Without a serializer and a deserializer both are bytes.
        method: Any = channel.unary_unary(METHOD)
        tasks = [
            asyncio.create_task(_call(method, target, calls, next_batch, min_item_bytes)) for _ in range(target.callers)
        ]
        yield
        await asyncio.gather(*tasks)


async def _call(
    method: Any, target: Target, calls: Calls, next_batch: Callable[[], bytes], min_item_bytes: int
) -> None:
    try:
        while not calls.stopped:
            request = next_batch()
            started = time.perf_counter()
            # An item that failed is answered by a short status in place of a participant.
            if await _answered(method, target, request) >= min_item_bytes * target.items:
                calls.latencies.append(time.perf_counter() - started)
            elif target.may_be_refused:
                calls.refused += 1
            else:
                calls.fail(RuntimeError("an item of a batch was answered by an error"))
    except grpc.aio.AioRpcError as error:
        calls.fail(RuntimeError(repr(error)))


async def _answered(method: Any, target: Target, request: bytes) -> int:
    """Sends a batch, and returns how many bytes it was answered with; none if it was refused as a whole."""
    try:
        return len(await method(request, metadata=(("x-api-key", target.key),)))
    except grpc.aio.AioRpcError as error:
        if target.may_be_refused and error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED:
            return 0
        raise
