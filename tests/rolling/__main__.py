"""Two replicas under load are restarted in turn, for each way in which callers reach them; no call may fail."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import uvloop

from server.postgres.embedded import embedded_postgres
from server.postgres.migrations import migrate
from tests.conftest import new_tenant
from tests.faults.cluster import REPLICAS, Replica
from tests.rolling.callers import Callers
from tests.rolling.ways import WAYS, Way
from tests.support.seed import own_directory

RESTARTS, CALLS = 10, 100_000
# How long a replica goes on serving after SIGTERM, and how long it then may take to end; in seconds.
DRAIN, STOP_TIMEOUT = 5, 30.0
# How long all goes on before a restart, so that everybody has noticed that the other one is back.
PAUSE = 1.0


def main() -> int:
    """Returns the exit status: 0 when no call failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.rolling", description=__doc__)
    parser.add_argument("--only", metavar="WORD", default="", help="the ways whose names have this in them")
    parser.add_argument("--restarts", type=int, default=RESTARTS)
    parser.add_argument("--calls", type=int, default=CALLS, help="how many are made at least")
    options = parser.parse_args()
    with _replicas() as (replicas, key):
        failed = [
            uvloop.run(_roll(name, way, replicas, key, options)) for name, way in WAYS.items() if options.only in name
        ]
    return 1 if any(failed) else 0


async def _roll(name: str, way: Way, replicas: Sequence[Replica], key: str, options: argparse.Namespace) -> int:
    """Restarts replicas under load, prints what came of it, and returns how many calls failed."""
    started = time.monotonic()
    async with way(replicas, key) as senders:
        callers = Callers(senders, options.calls)
        for number in range(options.restarts):
            await asyncio.sleep(PAUSE)
            await asyncio.to_thread(_restart, replicas[number % REPLICAS])
        await callers.enough.wait()
        await callers.stop()
    seconds = time.monotonic() - started
    failed = callers.failed
    print(
        f"{name}: {callers.answers.total():,} calls, {options.restarts} restarts in {seconds:.0f} s, "
        f"{failed.total()} failed",
        flush=True,
    )
    for answer, count in failed.most_common():
        print(f"    {count} {answer}", flush=True)
    return failed.total()


def _restart(replica: Replica) -> None:
    """Ends a replica as an orchestrator does, and starts the next in its place."""
    replica.service.signal(signal.SIGTERM)
    status = replica.service.wait(DRAIN + STOP_TIMEOUT)
    if status != 0:
        print(f"    a replica ended with {status}: {replica.service.errors}", flush=True)
    replica.start()


@contextmanager
def _replicas() -> Iterator[tuple[Sequence[Replica], str]]:
    with ExitStack() as stack:
        directory = stack.enter_context(own_directory())
        conninfo = stack.enter_context(embedded_postgres(directory))
        migrate(conninfo, report=lambda line: None)
        replicas = []
        for _ in range(REPLICAS):
            replica = Replica(conninfo, PARTICIPANTS_DRAIN_SECONDS=str(DRAIN))
            stack.callback(replica.stop)
            replicas.append(replica)
        yield replicas, new_tenant(conninfo, "acme").key


if __name__ == "__main__":
    sys.exit(main())
