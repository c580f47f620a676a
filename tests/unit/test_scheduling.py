"""The threads of grpcio come behind the event loop."""

import os
import subprocess
import sys

import pytest

from server.rpc.scheduling import NICE

# In a process of its own. It prints of each thread whether it may be made to wait, how nice it is, and whose it is.
SCRIPT = """
import asyncio, os, threading
import grpc
from server.rpc.scheduling import give_way

async def main():
    server = grpc.aio.server()
    give_way()
    names = {thread.native_id: thread.name.split()[0] for thread in threading.enumerate()}
    for thread in map(int, os.listdir("/proc/self/task")):
        whose = names.get(thread, "grpcio's")
        waits = os.sched_getscheduler(thread) == os.SCHED_BATCH
        print(waits, os.getpriority(os.PRIO_PROCESS, thread), whose)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux schedules threads each in its own way")
def test_they_come_behind_it() -> None:
    """Where this fails, grpcio may call the thread that tells of events by another name."""
    ended = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, timeout=60)
    threads = [(waits == "True", int(nice), whose) for waits, nice, whose in map(str.split, ended.stdout.splitlines())]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert (False, own, "MainThread") in threads
    assert sum(waits for waits, _, _ in threads) == 1
    assert {nice for _, nice, whose in threads if whose == "grpcio's"} == {min(own + NICE, 19)}
