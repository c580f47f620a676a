"""Several workers on the same two ports: starts them, replaces one that dies or does not start, and stops them all."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from threading import Thread

import uvloop

from server.config import Address, ConfigurationError, Conninfo, Settings
from server.imports import imports_that_stay
from server.operations.logs import set_up_logs
from server.operations.metrics import forget_worker
from server.parts import PartFailed
from server.sockets import Listening, address_of, bound

logger = logging.getLogger(__name__)

# A worker that dies is replaced, but not more often than this; in seconds.
RESTART_PAUSE = 1.0
START_TIMEOUT = 30.0
# A worker that did not live this long, in seconds, died early. When all workers died early this many times in a row,
# the next would too, and the service ends.
EARLY = 10.0
MAX_EARLY_DEATHS = 3
# How long workers may take to stop, once they have drained, before they are killed: longer than the calls under way may
# take.
STOP_TIMEOUT = 20.0
# How long a worker may take to stop when its supervisor has died.
ORPHAN_TIMEOUT = 4.0

# Workers are started afresh and not forked: what grpcio has opened does not survive a fork.
_processes = multiprocessing.get_context("spawn")


def supervise(
    settings: Settings, conninfo: Conninfo, fixed_organization_id: str | None, ready: Callable[[Listening], None]
) -> None:
    """Runs `settings.workers` workers until SIGINT or SIGTERM. Raises ConfigurationError and PartFailed.

    `ready` is called once all of them answer.
    """
    with ExitStack() as stack:
        settings = stack.enter_context(_reserved_ports(settings))
        stack.enter_context(_shared_metrics())
        told_to_stop = stack.enter_context(_stop_signals())
        workers = [_Worker(settings, conninfo, fixed_organization_id) for _ in range(settings.workers)]
        stack.callback(_stop, workers, settings.drain_seconds + STOP_TIMEOUT)
        answers = [worker.answers(told_to_stop) for worker in workers]
        if all(answers):
            ready(Listening(settings.grpc_address, settings.http_address, settings.operations_address))
            _replace_the_dead(workers, told_to_stop)
        elif not told_to_stop.poll():
            raise ConfigurationError("a worker does not start; the lines above say why")


class _Worker:
    """One process that runs the service, and after its death the next."""

    def __init__(self, settings: Settings, conninfo: Conninfo, fixed_organization_id: str | None) -> None:
        self._arguments = (settings, conninfo, fixed_organization_id)
        self.early_deaths = 0
        self.start()

    def start(self) -> None:
        self._started = time.monotonic()
        self._serves = False
        self._ready, ready = _processes.Pipe(duplex=False)
        self.process = _processes.Process(target=_work, args=(*self._arguments, ready))
        self.process.start()
        ready.close()

    def answers(self, told_to_stop: Connection) -> bool:
        """Waits until the worker serves, and tells whether it does."""
        wait([self._ready, told_to_stop], START_TIMEOUT)
        return self.serves()

    def serves(self) -> bool:
        """Tells whether the worker has begun to serve."""
        if not self._serves and self._ready.poll():
            # It has said so, or died.
            with suppress(EOFError):
                self._serves = self._ready.recv()
        return self._serves

    def seconds_to_start(self) -> float:
        """Returns for how long it may still be starting."""
        return max(0.0, self._started + START_TIMEOUT - time.monotonic())

    def end_if_it_hangs(self) -> None:
        """Kills the process where it should have begun to serve by now."""
        if not self.serves() and not self.seconds_to_start() and self.process.is_alive():
            logger.error("worker %s does not start", self.process.pid)
            self.process.kill()
            self.process.join()

    def note_death(self) -> None:
        """Tells the log, and counts how often in a row it was early."""
        logger.error("worker %s died with exit status %s", self.process.pid, self.process.exitcode)
        self.early_deaths = self.early_deaths + 1 if time.monotonic() - self._started < EARLY else 0
        if self.process.pid is not None:
            forget_worker(self.process.pid)

    def replace(self, told_to_stop: Connection) -> None:
        """Starts the next process in place of one that died."""
        wait([told_to_stop], max(0.0, self._started + RESTART_PAUSE - time.monotonic()))
        if not told_to_stop.poll():
            self._ready.close()
            self.process.close()
            self.start()


def _work(settings: Settings, conninfo: Conninfo, fixed_organization_id: str | None, ready: Connection) -> None:
    set_up_logs(settings.log_format)
    Thread(target=_end_with_supervisor, daemon=True).start()
    # Here alone: the supervisor needs none of it.
    with imports_that_stay():
        from server import app  # noqa: PLC0415
    try:
        uvloop.run(app.serve(settings, conninfo, fixed_organization_id, lambda _: ready.send(True)))
    except (ConfigurationError, PartFailed) as error:
        sys.exit(f"participants: {error}")


def _end_with_supervisor() -> None:
    """Ends this worker when its supervisor has died, however it died: the kernel closes the pipe between them."""
    supervisor = multiprocessing.parent_process()
    assert supervisor is not None
    wait([supervisor.sentinel])
    logger.error("the supervisor died")
    # Nobody would start what comes next, and the next service wants the ports: the second signal hurries.
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ORPHAN_TIMEOUT / 2)
    os._exit(1)


def _replace_the_dead(workers: Sequence[_Worker], told_to_stop: Connection) -> None:
    while not told_to_stop.poll():
        starting = [worker.seconds_to_start() for worker in workers if not worker.serves()]
        wait([told_to_stop, *(worker.process.sentinel for worker in workers)], min(starting, default=None))
        for worker in workers:
            worker.end_if_it_hangs()
            if not told_to_stop.poll() and not worker.process.is_alive():
                worker.note_death()
                if all(each.early_deaths >= MAX_EARLY_DEATHS for each in workers):
                    raise PartFailed("the workers die again and again, soon after they start; the lines above say why")
                worker.replace(told_to_stop)


def _stop(workers: Sequence[_Worker], timeout: float) -> None:
    def tell(*_: object) -> None:
        for worker in workers:
            worker.process.terminate()

    # A second signal is for the workers, too: they hurry then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, tell)
    tell()
    deadline = time.monotonic() + timeout
    for worker in workers:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def _stop_signals() -> Iterator[Connection]:
    """Yields what becomes readable, for good, once the process is told to stop."""
    told_to_stop, tell = multiprocessing.Pipe(duplex=False)

    def stop(_number: int, _frame: object) -> None:
        if not told_to_stop.poll():
            tell.send(True)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield told_to_stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        tell.close()
        told_to_stop.close()


@contextmanager
def _reserved_ports(settings: Settings) -> Iterator[Settings]:
    """Holds the ports, so that they stay ours while workers come and go, and yields settings that name them."""
    with ExitStack() as stack:
        grpc = _reserved(stack, settings.grpc_address, "PARTICIPANTS_GRPC_ADDRESS")
        http, operations = settings.http_address, settings.operations_address
        if http is not None:
            http = _reserved(stack, http, "PARTICIPANTS_HTTP_ADDRESS")
        if operations is not None:
            operations = _reserved(stack, operations, "PARTICIPANTS_OPERATIONS_ADDRESS")
        yield replace(settings, grpc_address=grpc, http_address=http, operations_address=operations)


def _reserved(stack: ExitStack, address: Address, variable: str) -> Address:
    # Sharing is for our own workers: whoever else has the port must be noticed, so the first try does not share.
    with bound(address, variable) as alone:
        address = address_of(alone, address)
    stack.enter_context(bound(address, variable, share=True))
    return address


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """Has the workers count in files that each of them can add up, as prometheus_client does on this variable."""
    with tempfile.TemporaryDirectory(prefix="participants-metrics-") as directory:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory
        try:
            yield
        finally:
            del os.environ["PROMETHEUS_MULTIPROC_DIR"]
