"""What is measured: requests, latencies, and the processor time of the processes that served them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil


@dataclass(frozen=True)
class Slot:
    """How long a system is warmed up and measured, in seconds."""

    warm_up: float
    seconds: float


@dataclass(frozen=True)
class CpuTime:
    """Processor time, user and system, in seconds."""

    server: float
    postgres: float

    def __sub__(self, earlier: CpuTime) -> CpuTime:
        return CpuTime(self.server - earlier.server, self.postgres - earlier.postgres)

    def without_server(self) -> CpuTime:
        return CpuTime(0.0, self.postgres)


def cpu_time(server_pids: Sequence[int], postmaster: int) -> CpuTime:
    """Returns the processor time used so far by the processes of a server, and by all of Postgres."""
    return CpuTime(sum(_own_time(psutil.Process(pid)) for pid in server_pids), _family_time(psutil.Process(postmaster)))


def _own_time(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _family_time(process: psutil.Process) -> float:
    """Returns the time of a process and its children; that of children which have ended is in its own record."""
    times = process.cpu_times()
    total = float(times.user + times.system + times.children_user + times.children_system)
    for child in process.children():
        try:
            total += _own_time(child)
        except psutil.NoSuchProcess:
            continue
    return total


@dataclass(frozen=True)
class Measurement:
    """One system, at one number of callers, in one round. Latencies are in seconds; a batch is one request."""

    requests: int
    seconds: float
    p50: float
    p99: float
    cpu: CpuTime
    generator_cpu: float
    rows_per_request: int = 1

    @property
    def rows(self) -> int:
        return self.requests * self.rows_per_request

    @property
    def rate(self) -> float:
        """Upserts a second; where a request is one upsert, requests a second."""
        return self.rows / self.seconds

    @property
    def server_microseconds(self) -> float:
        return self.cpu.server / self.rows * 1e6

    @property
    def postgres_microseconds(self) -> float:
        return self.cpu.postgres / self.rows * 1e6

    @property
    def generator_share(self) -> float:
        """How much of one core the load generator used."""
        return self.generator_cpu / self.seconds


def percentile(ordered: Sequence[float], share: float) -> float:
    """Returns the value below which that share of the ordered values lies."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def measurement(
    latencies: Sequence[float], seconds: float, cpu: CpuTime, generator_cpu: float, rows_per_request: int = 1
) -> Measurement:
    """Returns what was seen in a window of time."""
    ordered = sorted(latencies)
    return Measurement(
        requests=len(ordered),
        seconds=seconds,
        p50=percentile(ordered, 0.50),
        p99=percentile(ordered, 0.99),
        cpu=cpu,
        generator_cpu=generator_cpu,
        rows_per_request=rows_per_request,
    )
