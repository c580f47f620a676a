"""A few of the faults, and a service that does lose writes, which must be found out. `make faults` does them all."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.faults.cases import kill_replica, through_proxy
from tests.faults.cluster import Cluster, cluster
from tests.faults.proxy import Mode
from tests.faults.trial import Fault, trial
from tests.support.seed import Seed

# Callers that rest leave other tests some of the processors, and are still enough to find what is lost without guards.
REST = 0.05
# In so many what is lost without guards is found.
TRIALS = 3


@pytest.fixture(scope="module")
def running(seed: Seed) -> Iterator[Cluster]:
    with seed.planted() as directory, cluster(directory, seed=1) as started:
        yield started


@pytest.mark.parametrize(
    "fault", [kill_replica, through_proxy(Mode.LOSE_ANSWERS, 1.0)], ids=["a replica is killed", "answers are lost"]
)
def test_faults_lose_nothing(running: Cluster, fault: Fault, request: pytest.FixtureRequest) -> None:
    verdict = trial(running, fault, request.node.callspec.id.split()[0], REST)
    assert verdict.is_good, verdict


def test_a_service_without_its_guards_is_found_out(running: Cluster) -> None:
    replica = running.replicas[0]
    replica.stop()
    replica.start(command=(sys.executable, "-m", "tests.faults.sabotaged"))
    # Where other tests take the processors, callers may happen not to meet.
    for _ in range(TRIALS):
        verdict = trial(running, lambda cluster: None, "sabotaged", REST)
        if verdict.lost:
            break
    assert verdict.lost > 0
    assert verdict.violations
