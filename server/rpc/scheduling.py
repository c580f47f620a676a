"""How the threads of grpcio share the processors with the event loop, on Linux: behind it, for it answers everybody.

One thread tells the event loop of everything that happens, and is woken each time: it is to interrupt nobody, and a
moment later tells of all that has happened meanwhile at once. Others read whatever anybody sends, as fast as it comes:
whoever floods keeps them busy, and they are not to take from the others what answers them.
"""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

# What the thread that tells is named after.
_TELLER = "_poll_wrapper"
# How much nicer those that read are made, and so all that they start later (sched(7)).
NICE = 5

_THREADS = Path("/proc/self/task")


def give_way() -> None:
    """Has the threads of grpcio that there are come behind others. To be called once a server has been made."""
    if sys.platform != "linux":
        return
    # Where the process may not say how it is scheduled, all is as before.
    with suppress(OSError):
        for thread in threading.enumerate():
            if _TELLER in thread.name and thread.native_id is not None:
                os.sched_setscheduler(thread.native_id, os.SCHED_BATCH, os.sched_param(0))
        for reader in _readers():
            os.setpriority(os.PRIO_PROCESS, reader, os.getpriority(os.PRIO_PROCESS, reader) + NICE)


def _readers() -> set[int]:
    # They are none of Python's. What they are called they say themselves, and may not have yet.
    return {int(thread.name) for thread in _THREADS.iterdir()} - {thread.native_id for thread in threading.enumerate()}
