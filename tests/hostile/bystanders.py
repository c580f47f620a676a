"""The other callers, in a process of their own: an attack that takes a whole interpreter takes it from nobody else.

Reads a line `GRPC_ADDRESS HTTP_URL KEY`, calls until the next line, and writes what became of that as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from os import environ
from typing import Any

import httpx

from tests.support import loopback
from tests.support.clients import GrpcClient

IS_ALONE = "PYTEST_XDIST_WORKER" not in environ
# Beside other tests a thousand others may come before a newcomer's key is looked at: it makes way, and comes again.
TRIES = 1 if IS_ALONE else 3
PAUSE = 0.05
READY = "ready"
NEWCOMERS = "gRPC on a new connection"


@dataclass
class Waits:
    """What the calls of one kind came to: the longest, in seconds, and those that were not answered as they should."""

    worst: float = 0.0
    failures: list[str] = field(default_factory=list)

    def time(self, call: Callable[[], str]) -> None:
        """Calls, and notes what it comes to."""
        started = time.monotonic()
        try:
            outcome = call()
        except httpx.HTTPError as error:
            outcome = repr(error)
        seconds = time.monotonic() - started
        self.worst = max(self.worst, seconds)
        if outcome not in {"OK", "200", "201"}:
            self.failures.append(f"{outcome} after {seconds:.2f} s")


def main() -> None:
    for line in sys.stdin:
        address, url, key = line.split()
        with ExitStack() as stack:
            kinds = _kinds(stack, address, url, key)
            for _ in range(5):
                # What only the first calls of a kind take is taken before.
                for call in kinds.values():
                    call()
            print(READY, flush=True)
            waits = _call_until_told(kinds)
        print(json.dumps({kind: asdict(each) for kind, each in waits.items()}), flush=True)


def _call_until_told(kinds: Mapping[str, Callable[[], str]]) -> Mapping[str, Waits]:
    stop = threading.Event()
    waits = {kind: Waits() for kind in kinds}

    def call_until_stop(call: Callable[[], str], into: Waits) -> None:
        while not stop.wait(PAUSE):
            into.time(call)

    threads = [threading.Thread(target=call_until_stop, args=(call, waits[kind])) for kind, call in kinds.items()]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    stop.set()
    for thread in threads:
        thread.join()
    return waits


def _kinds(stack: ExitStack, address: str, url: str, key: str) -> Mapping[str, Callable[[], str]]:
    kept = GrpcClient(address, key)
    stack.callback(kept.close)
    settings: dict[str, Any] = {"base_url": url, "headers": {"x-api-key": key}, "timeout": 20}
    http = stack.enter_context(loopback.Client(**settings))
    new = stack.enter_context(loopback.Client(**settings, limits=httpx.Limits(max_keepalive_connections=0)))

    def newcomer() -> str:
        for _ in range(TRIES):
            client = GrpcClient(address, key)
            code = client.create({"external_id": "another"}).code
            client.close()
            if code != "UNAVAILABLE":
                break
        return code

    return {
        "gRPC": lambda: kept.create({"external_id": "another"}).code,
        NEWCOMERS: newcomer,
        "HTTP": lambda: str(http.post("/v1/participants", json={"external_id": "another"}).status_code),
        "HTTP on a new connection": lambda: str(
            new.post("/v1/participants", json={"external_id": "another"}).status_code
        ),
        "/livez": lambda: str(http.get("/livez").status_code),
        "/readyz": lambda: str(http.get("/readyz").status_code),
    }


if __name__ == "__main__":
    main()
