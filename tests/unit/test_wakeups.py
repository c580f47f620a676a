"""grpcio wakes the event loop no more often than something has happened that it has not seen to."""

import subprocess
import sys

from server.rpc.wakeups import ALL

# Of each call grpcio tells that it is there, that its message is, that the answer is sent, and that it is over.
CALLS, TOLD = 64, 4
# In a process of its own: what grpcio wakes it by is there until nothing is left that is of grpcio. It prints how often
# the event loop was woken for calls that had all come while it was busy.
SCRIPT = f"""
import asyncio, selectors, time
import grpc
from server.rpc.wakeups import read_all_at_once

class Selector(selectors.DefaultSelector):
    woke = 0
    def select(self, timeout=None):
        ready = super().select(timeout)
        Selector.woke += bool(ready)
        return ready

async def answer(request, _context):
    return request

async def main():
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler("a.Service", {{"Call": grpc.unary_unary_rpc_method_handler(answer)}})
    server.add_generic_rpc_handlers([handler])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    method = grpc.insecure_channel(f"127.0.0.1:{{port}}").unary_unary("/a.Service/Call")
    await asyncio.to_thread(method, b"", timeout=10, wait_for_ready=True)
    calls = [method.future(b"", timeout=10) for _ in range({CALLS})]
    time.sleep(0.5)
    woke = Selector.woke
    await asyncio.to_thread(lambda: [call.result() for call in calls])
    await asyncio.sleep(0.5)
    print(Selector.woke - woke)
    await server.stop(None)

%s
with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(Selector())) as runner:
    runner.run(main())
"""


def _woken(prepared: str) -> int:
    """Returns how often the event loop was woken."""
    command = [sys.executable, "-c", SCRIPT % prepared]
    return int(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def test_it_is_not_woken_for_what_it_has_seen_to() -> None:
    assert _woken("read_all_at_once()") < CALLS * (TOLD - 1)


def test_left_to_itself_grpcio_wakes_it_for_everything() -> None:
    """Where this fails, grpcio has changed, and a pipe of our own may no longer be needed."""
    assert _woken("") >= CALLS * TOLD


def test_nobody_waits_to_wake_it() -> None:
    """However much happens while the event loop is busy, and nothing of that is lost."""
    code = f"""
import os
from grpc._cython import cygrpc
from server.rpc.wakeups import read_all_at_once
read_all_at_once()
read, write = cygrpc.socket.socketpair()
read.setblocking(False)
written = 0
try:
    while written <= {ALL}:
        written += os.write(write.fileno(), b"1" * 4096)
except BlockingIOError:
    pass
assert len(read.recv(1)) == written == {ALL}, written
try:
    read.recv(1)
except BlockingIOError:
    print("empty")
"""
    ended = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "empty\n"
