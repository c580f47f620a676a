"""A process that sees when grpcio holds on to the interpreter, and ends that.

Any thread that touches a connection may turn out to be the one that reads it, for as long as anything comes. Rarely
that is the event loop's, which holds the interpreter all the while: then nobody is answered, and the guard does not run
either. So somebody else has to see to it, who has the same files open: what comes of connections that flood is dropped
until there is nothing more to read. Whoever sends it sends it again, as whatever is lost on its way.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import mmap
import os
import platform
import signal
import struct
import sys
import time
from collections.abc import Callable, Collection
from typing import NoReturn

from server.rpc.guard import descriptors
from server.rpc.guard.connections import Connection, Connections

logger = logging.getLogger(__name__)

# How often it looks, and after what time without a sign of it the interpreter is held; in seconds. The guard gives one
# forty times a second.
LOOK_EVERY, HELD_AFTER = 0.04, 0.1
# Of whom so many bytes come within this time, in seconds, what comes is dropped, for as long as the interpreter is held
# and no longer than the second time. Whoever is dropped waits a fifth of a second before it sends again.
MUCH, SAMPLE, MOST = 32 << 10, 0.02, 0.2
# How often it looks whether the interpreter runs again, in seconds.
PAUSE = 0.002

# When the interpreter was last seen to run, 0 for not yet and not any more, and the port.
_SIGN = struct.Struct("dH")
# Of clone(2), on the systems whose number of it is known, and of prctl(2).
_CLONE_FILES, _CLONE = 0x400, {"x86_64": 56, "aarch64": 220}
_PR_SET_PDEATHSIG = 1


class Watchdog:
    """Starts the process, on systems that can. To be made before there are threads."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _SIGN.size)
        self._process = _start(self._watch_forever)

    def close(self) -> None:
        """Ends the process."""
        if self._process:
            os.kill(self._process, signal.SIGKILL)

    async def ended(self) -> None:
        """Waits until the process has ended, forever where there is none."""
        if not self._process:
            await asyncio.Event().wait()
        await asyncio.to_thread(self._wait)

    def sees_it_run(self, port: int, now: float) -> None:
        """Is told that the interpreter runs, by a thread that is not the event loop's."""
        _SIGN.pack_into(self._shared, 0, now, port)

    def looks_away(self) -> None:
        """Is told that it will hear no more."""
        _SIGN.pack_into(self._shared, 0, 0, 0)

    def _wait(self) -> None:
        os.waitpid(self._process, 0)
        # Its number may be another's from now on.
        self._process = 0

    def _watch_forever(self) -> NoReturn:
        while True:
            time.sleep(LOOK_EVERY)
            if self._is_held():
                self._interrupt(Connections(_SIGN.unpack_from(self._shared)[1]))

    def _is_held(self) -> bool:
        seen: float = _SIGN.unpack_from(self._shared)[0]
        return seen > 0 and time.monotonic() - seen > HELD_AFTER

    def _interrupt(self, connections: Connections) -> None:
        before = {each.cookie: each.received for each in connections.look()}
        time.sleep(SAMPLE)
        found = connections.look()
        flooding = [each for each in found if each.received - before.get(each.cookie, 0) > MUCH]
        for each in flooding:
            _drop(each)
        until = time.monotonic() + MOST
        while self._is_held() and time.monotonic() < until:
            time.sleep(PAUSE)
        _drop_no_more(connections, {each.cookie for each in flooding})


def _drop(connection: Connection) -> None:
    """Drops what comes of a connection."""
    descriptors.drop(connection.file)
    if descriptors.cookie(connection.file) != connection.cookie:
        # It was closed, and another has its number by now.
        descriptors.drop_no_more(connection.file)


def _drop_no_more(connections: Connections, cookies: Collection[int]) -> None:
    # By now some may have other numbers.
    for each in connections.look() if cookies else ():
        if each.cookie in cookies:
            descriptors.drop_no_more(each.file)


def _start(work: Callable[[], NoReturn]) -> int:
    """Starts a process that shares all open files with this one, as threads do, and ends when it ends; returns its id,
    or 0 where there can be none."""
    number = _CLONE.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return 0
    libc, parent = ctypes.PyDLL(None), os.getpid()
    # Python's own fork copies the table of files, and does more than is needed of what else there is.
    process: int = libc.syscall(number, _CLONE_FILES | signal.SIGCHLD, 0, 0, 0, 0)
    if process < 0:
        logger.warning("no process can be started beside this one, which a flood may hold up")
    if process:
        return max(process, 0)
    try:
        ctypes.pythonapi.PyOS_AfterFork_Child()
        # What is to be done by this process is not to be done twice, and it would be woken by each signal of both.
        signal.set_wakeup_fd(-1)
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(each, signal.SIG_IGN)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            work()
    finally:
        os._exit(1)
