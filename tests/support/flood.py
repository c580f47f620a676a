"""A flood: many callers at once, in a process of their own, each of whom calls again once it has its answer."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from tests.bench import grpc_callers, http_callers
from tests.bench.callers import Calls, Target

_CALLING = {"grpc": grpc_callers.calling, "http": http_callers.calling}
_processes = multiprocessing.get_context("spawn")


@contextmanager
def flood(
    name: str, address: str, key: str, *, callers: int = 256, participants: int = 10_000
) -> Iterator[Callable[[], Sequence[float]]]:
    """Floods the service over gRPC or HTTP with upserts of so many participants.

    Yields, when all callers have been answered once, what returns how long, in seconds, those of their calls took since
    that were not refused; it can be asked once.
    """
    ours, theirs = _processes.Pipe()
    target = Target(address, key, callers, participants, may_be_refused=True)
    process = _processes.Process(target=_flood, args=(name, target, theirs))
    process.start()
    theirs.close()

    def latencies() -> Sequence[float]:
        ours.send("tell")
        told: Sequence[float] | str = ours.recv()
        assert not isinstance(told, str), told
        return told

    try:
        assert ours.recv() == []
        yield latencies
    finally:
        ours.close()
        process.terminate()
        process.join()


def _flood(name: str, target: Target, connection: Connection) -> None:
    try:
        asyncio.run(_pour(name, target, connection))
    except (EOFError, BrokenPipeError):
        return
    except Exception as error:  # noqa: BLE001  # whatever it is, the test is told
        connection.send(repr(error))


async def _pour(name: str, target: Target, connection: Connection) -> None:
    calls = Calls(itertools.count(1))
    async with _CALLING[name](target, calls):
        while len(calls.latencies) + calls.refused < target.callers and not calls.failure.done():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        calls.latencies.clear()
        connection.send([])
        await asyncio.to_thread(connection.recv)
        while not calls.latencies and not calls.failure.done():  # noqa: ASYNC110  # nobody tells
            await asyncio.sleep(0.01)
        if calls.failure.done():
            await calls.failure
        connection.send(calls.latencies)
        await calls.failure
