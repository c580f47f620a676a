"""The second load generator: callers in Go, which share no code with the first. What is faster for one of them alone
is tuned to it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import orjson

from tests.bench import workload
from tests.bench.grpc_callers import CALLERS_PER_CONNECTION
from tests.bench.load import PATIENCE, Done, Generator, Job
from tests.bench.measure import cpu_time, measurement


class GoCallers:
    """Plays the callers of single upserts over gRPC by a program in Go, and leaves all other jobs to `others`."""

    def __init__(self, program: Path, others: Generator) -> None:
        self._program = program
        self._others = others

    def run(self, job: Job) -> Done:
        """Runs one job. Raises RuntimeError when a request fails."""
        if job.kind != "grpc":
            return self._others.run(job)
        with subprocess.Popen([self._program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(_described(job))
            process.stdin.close()
            process.stdout.readline()
            before = cpu_time(job.server_pids, job.postmaster)
            process.stdout.readline()
            cpu = cpu_time(job.server_pids, job.postmaster) - before
            report = process.stdout.read()
            if process.wait(PATIENCE) != 0:
                raise RuntimeError("a request of the callers in Go failed")
        seen = orjson.loads(report)
        return Done(measurement(seen["latencies"], seen["seconds"], cpu, seen["generator_cpu"]), seen["next"])


def _described(job: Job) -> bytes:
    """Returns a job as the program reads it."""
    return orjson.dumps(
        {
            "Address": job.target.address,
            "Key": job.target.key,
            "Callers": job.target.callers,
            "CallersPerConnection": CALLERS_PER_CONNECTION,
            "WarmUp": job.slot.warm_up,
            "Seconds": job.slot.seconds,
            "First": job.first,
            "Participants": job.target.participants,
            "Stride": workload.STRIDE,
            "Example": workload.fields("", ""),
            "Changing": workload.CHANGING,
        }
    )
