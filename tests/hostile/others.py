"""The other callers, whom nothing that one does may hurt: their calls are all answered, and in time."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pytest

from tests.conftest import Deployment
from tests.hostile.bystanders import IS_ALONE, NEWCOMERS, READY
from tests.support import loopback
from tests.support.process import eventually
from tests.support.raw import MEBIBYTE, forget_most_resident_bytes, most_resident_bytes, resident_bytes

# How long others may wait where other tests run beside, and attack from the same machine, which may be busy with more
# besides; in seconds. Whoever is kept out waits for longer.
WORST_BESIDE_TESTS = 8.0
# How long the others may wait, and where dozens or hundreds do at once what is hardest to bear; in seconds.
WORST_SECONDS, WORST_OF_CROWDS = (0.5, 2.0) if IS_ALONE else (WORST_BESIDE_TESTS, WORST_BESIDE_TESTS)
# How long newcomers may wait while newcomers attack, and few of them are let in at a time; in seconds.
WORST_OF_NEWCOMERS = 8.0
# How long a flood lasts, in seconds. Beside other tests, where everybody may wait for longer than that, a longer one
# shows no more: that nobody is refused, and what it takes of memory.
FLOOD_SECONDS = 2.0 if IS_ALONE else 0.5
# What takes a whole processor to attack and another to withstand says nothing beside other tests.
alone = pytest.mark.skipif(not IS_ALONE, reason="it wants the machine for itself: make hostile")
MAX_BYTES, MAX_KEPT_BYTES = 512 * MEBIBYTE, 50 * MEBIBYTE


@contextmanager
def others_unhurt(
    deployment: Deployment, worst_seconds: float = WORST_SECONDS, worst_of_newcomers: float | None = None
) -> Iterator[None]:
    """Lets other callers call all the while, and asserts that nothing failed, nobody waited long and memory is bounded
    and comes back."""
    bounds = {NEWCOMERS: worst_of_newcomers or worst_seconds}
    service, process = deployment.service, _bystanders()
    assert process.stdin is not None
    assert process.stdout is not None
    print(service.grpc_address, service.http_url, deployment.stranger.key, file=process.stdin, flush=True)
    assert process.stdout.readline().strip() == READY
    forget_most_resident_bytes(service)
    before = resident_bytes(service)
    try:
        yield
    finally:
        print(file=process.stdin, flush=True)
        waits = json.loads(process.stdout.readline())
    most = most_resident_bytes(service)
    eventually(lambda: resident_bytes(service) < before + MAX_KEPT_BYTES, timeout=30)
    assert {kind: each["failures"] for kind, each in waits.items() if each["failures"]} == {}
    assert {
        kind: each["worst"] for kind, each in waits.items() if each["worst"] > bounds.get(kind, worst_seconds)
    } == {}
    assert most < MAX_BYTES, most


@contextmanager
def another_unhurt(deployment: Deployment) -> Iterator[None]:
    """Lets another caller call over HTTP all the while, and asserts that none of its calls failed or waited long."""
    stop = threading.Event()
    problems: list[str] = []

    def call() -> None:
        headers = {"x-api-key": deployment.tenant.key}
        with loopback.Client(base_url=deployment.service.http_url, headers=headers, timeout=20) as client:
            while not stop.wait(0.05):
                started = time.monotonic()
                status = client.post("/v1/participants", json={"external_id": "another"}).status_code
                took = time.monotonic() - started
                if status not in {200, 201} or took > WORST_BESIDE_TESTS:
                    problems.append(f"{status} after {took:.2f} s")

    caller = threading.Thread(target=call)
    caller.start()
    try:
        yield
    finally:
        stop.set()
        caller.join()
    assert problems == []
    assert most_resident_bytes(deployment.service) < MAX_BYTES


@cache
def _bystanders() -> subprocess.Popen[str]:
    """Starts the others, once: they end with these tests, when nobody can tell them anything any more."""
    command = [sys.executable, "-m", "tests.hostile.bystanders"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
