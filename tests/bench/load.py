"""The load generator: a process of its own that plays callers, each of which sends its next request once it has the
answer to the last."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Protocol

import uvloop

from tests.bench import batch_callers, grpc_callers, http_callers
from tests.bench.callers import Calls, Target
from tests.bench.measure import Measurement, Slot, cpu_time, measurement

# A job that takes this much longer than it should, in seconds, has failed.
PATIENCE = 30.0

_processes = multiprocessing.get_context("spawn")

_CALLERS: dict[str, Callable[[Target, Calls], AbstractAsyncContextManager[None]]] = {
    "grpc": grpc_callers.calling,
    "http": http_callers.calling,
    "batch": batch_callers.calling,
    "batch_basic": batch_callers.calling_basic,
    "batch_unchanged": batch_callers.calling_unchanged,
}


@dataclass(frozen=True)
class Job:
    """One measurement. `first` is the number of its first request."""

    kind: str
    target: Target
    first: int
    slot: Slot
    server_pids: Sequence[int]
    postmaster: int


@dataclass(frozen=True)
class Done:
    """What came of a job, the number of the first request that was not sent, and how many were refused."""

    measurement: Measurement
    next: int
    refused: int = 0


class Generator(Protocol):
    """Whoever plays callers."""

    def run(self, job: Job) -> Done: ...


class LoadGenerator:
    """The generator's process, seen from the one that directs it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, job: Job) -> Done:
        """Runs one job. Raises RuntimeError when a request fails: the systems are to answer all."""
        self._connection.send(job)
        done = self._connection.recv()
        if isinstance(done, Done):
            return done
        raise RuntimeError(f"a request failed: {done}")


@contextmanager
def load_generator() -> Iterator[LoadGenerator]:
    """Runs a load generator."""
    ours, theirs = _processes.Pipe()
    process = _processes.Process(target=_generate, args=(theirs,))
    process.start()
    theirs.close()
    try:
        yield LoadGenerator(ours)
    finally:
        ours.close()
        process.terminate()
        process.join()


def _generate(connection: Connection) -> None:
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        except KeyboardInterrupt:
            continue
        try:
            connection.send(uvloop.run(_run(job)))
        except Exception as error:  # noqa: BLE001  # whatever it is, the other process reports it
            connection.send(repr(error))


async def _run(job: Job) -> Done:
    calls = Calls(itertools.count(job.first))
    async with asyncio.timeout(job.slot.warm_up + job.slot.seconds + PATIENCE), _CALLERS[job.kind](job.target, calls):
        await _wait(job.slot.warm_up, calls)
        cpu, own_cpu, started = cpu_time(job.server_pids, job.postmaster), time.process_time(), time.perf_counter()
        calls.latencies.clear()
        await _wait(job.slot.seconds, calls)
        latencies, seconds = calls.latencies.copy(), time.perf_counter() - started
        own_cpu, cpu = time.process_time() - own_cpu, cpu_time(job.server_pids, job.postmaster) - cpu
        calls.stopped = True
    return Done(measurement(latencies, seconds, cpu, own_cpu, job.target.items), next(calls.numbers), calls.refused)


async def _wait(seconds: float, calls: Calls) -> None:
    """Waits, but raises at once what made a call fail."""
    done, _ = await asyncio.wait([calls.failure], timeout=seconds)
    if done:
        calls.failure.result()
