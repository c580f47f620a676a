"""Whoever holds on to the interpreter to read a connection is interrupted, and nothing of what comes is lost."""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has what it takes")

# Of socket(7); in bytes a second.
SO_MAX_PACING_RATE, PACE = 47, 20 << 20
SENT = 2 * PACE
# In a process of its own: while a thread gives signs that the interpreter runs, it reads in one call that does not let
# go of the interpreter, for as long as anything comes; then it reads the rest. It prints its port, how long the call
# took, and how many bytes came in all.
SCRIPT = """
import ctypes, socket, struct, sys, threading, time
from contextlib import closing, nullcontext
from server.rpc.guard.watchdog import Watchdog

with closing(Watchdog()) if sys.argv[1] == "watched" else nullcontext() as watchdog:
    at = socket.create_server(("127.0.0.1", 0))
    port = at.getsockname()[1]
    print(port, flush=True)
    connection, _ = at.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 50_000))

    def give_signs():
        while watchdog:
            watchdog.sees_it_run(port, time.monotonic())
            time.sleep(0.01)

    threading.Thread(target=give_signs, daemon=True).start()
    libc = ctypes.PyDLL(None)
    libc.fdopen.restype = ctypes.c_void_p
    file, into = ctypes.c_void_p(libc.fdopen(connection.fileno(), b"r")), ctypes.create_string_buffer(1 << 26)
    libc.setvbuf(file, None, 2, 0)
    came = len(connection.recv(1))
    began = time.monotonic()
    came += libc.fread(into, 1, len(into), file)
    print(time.monotonic() - began)
    connection.settimeout(20)
    while got := len(connection.recv(1 << 20)):
        came += got
    print(came)
"""


@contextmanager
def process(how: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", SCRIPT, how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def held_and_received(how: str) -> tuple[float, int]:
    with process(how) as reader:
        assert reader.stdout is not None
        with socket.create_connection(("127.0.0.1", int(reader.stdout.readline()))) as sender:
            sender.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, PACE)
            sender.sendall(bytes(SENT))
        return float(reader.stdout.readline()), int(reader.stdout.readline())


def test_who_reads_without_end_is_interrupted() -> None:
    seconds, received = held_and_received("watched")
    assert seconds < SENT / PACE / 2
    assert received == SENT


def test_without_the_watchdog_it_would_read_until_all_has_come() -> None:
    seconds, received = held_and_received("not watched")
    assert seconds > SENT / PACE / 2
    assert received == SENT


def test_it_ends_with_whom_it_watches() -> None:
    with process("watched") as reader:
        assert reader.stdout is not None
        reader.stdout.readline()
        (watchdog,) = Path(f"/proc/{reader.pid}/task/{reader.pid}/children").read_text().split()
        ends = os.pidfd_open(int(watchdog))
        try:
            assert not select.select([ends], [], [], 0)[0]
            reader.kill()
            assert select.select([ends], [], [], 10)[0]
        finally:
            os.close(ends)
