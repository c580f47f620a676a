"""One fault under load: callers write through both replicas, and their histories are judged once it is over."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.faults.callers import Plan
from tests.faults.checker import lost, violations
from tests.faults.cluster import Cluster
from tests.faults.history import Write, from_lines

Fault = Callable[[Cluster], None]

CALLERS_PER_PROCESS = 4
# Of each call, in seconds.
DEADLINE = 3.0
# Beyond it, for a machine that is busy with other things; a call that nobody ends takes far longer.
MAX_OVERTIME = 3.0
# How long it may take until every process of callers is answered again, in seconds.
RECOVERY_TIMEOUT = 40.0
# How long calls go on once they are answered again, in seconds.
AFTERMATH = 0.5


@dataclass(frozen=True)
class Verdict:
    """What came of a trial. `recovery` is how many seconds after the fault both replicas served again, by both
    transports; infinity if they did not."""

    codes: Counter[str]
    lost: int
    late: int
    recovery: float
    violations: list[str]

    @property
    def blamed(self) -> int:
        """How many calls were answered with what is a bug of the service and never a state of the world."""
        return self.codes["INTERNAL"] + self.codes["UNKNOWN"]

    @property
    def is_good(self) -> bool:
        return not (self.lost or self.blamed or self.late or self.violations) and self.recovery < RECOVERY_TIMEOUT

    def __str__(self) -> str:
        others = [f"{count:,} {code}" for code, count in sorted(self.codes.items()) if code != "OK"]
        return (
            f"{self.codes['OK']:,} acknowledged, {self.lost} lost; {self.blamed} INTERNAL or UNKNOWN; "
            f"{self.late} late; serves again after {self.recovery:.1f} s ({', '.join(others) or 'no error'})"
        )


def trial(cluster: Cluster, fault: Fault, name: str, rest: float = 0.0) -> Verdict:
    """Does one fault to a cluster that serves, and leaves one that serves again. Callers rest for so many seconds after
    each answer."""
    with _callers(cluster, name, rest) as processes:
        _wait_until_answered(processes, time.monotonic())
        fault(cluster)
        over = time.monotonic()
        recovery = _wait_until_answered(processes, over)
        time.sleep(AFTERMATH)
    writes = [write for process in processes for write in process.writes]
    final = cluster.final_state(f"{name}-")
    return Verdict(
        codes=Counter(write.code for write in writes),
        lost=lost(writes, final),
        late=sum(write.ended - write.started > DEADLINE + MAX_OVERTIME for write in writes),
        recovery=recovery,
        violations=violations(writes, final),
    )


class _Process:
    """A process of callers, and the history it has printed so far."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        path = directory / plan.name
        with path.open("wb") as file:
            command = [sys.executable, "-m", "tests.faults.callers", plan.as_argument()]
            self._process = subprocess.Popen(command, stdout=file)
        self._file = path.open("rb")
        self._rest = b""
        self.writes: list[Write] = []

    def read(self) -> None:
        """Takes in what has been printed since the last time."""
        *lines, self._rest = (self._rest + self._file.read()).split(b"\n")
        self.writes += from_lines(lines)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)
        self.read()
        self._file.close()


@contextmanager
def _callers(cluster: Cluster, name: str, rest: float) -> Iterator[list[_Process]]:
    """Has callers write through each replica by gRPC and by HTTP."""
    addresses = [address for replica in cluster.replicas for address in (replica.grpc_address, replica.http_url)]
    with TemporaryDirectory() as directory:
        processes = [
            _Process(
                Plan(
                    f"p{number}", address, cluster.tenant.key, name, len(addresses), CALLERS_PER_PROCESS, DEADLINE, rest
                ),
                Path(directory),
            )
            for number, address in enumerate(addresses)
        ]
        try:
            yield processes
        finally:
            for process in processes:
                process.stop()


def _wait_until_answered(processes: list[_Process], since: float) -> float:
    """Waits until each process has an answer to a call that it sent later than that, and returns how long it took."""
    while time.monotonic() < since + RECOVERY_TIMEOUT:
        for process in processes:
            process.read()
        answered = [_first_answer(process.writes, since) for process in processes]
        if None not in answered:
            return max(ended for ended in answered if ended is not None) - since
        time.sleep(0.05)
    return RECOVERY_TIMEOUT


def _first_answer(writes: list[Write], since: float) -> float | None:
    return next((write.ended for write in writes if write.started > since and write.is_acknowledged), None)
