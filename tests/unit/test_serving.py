"""The gRPC server ends, also where grpcio does not let go of what it has."""

from __future__ import annotations

import subprocess
import sys

import pytest

# In a process of its own, which has to end. From grpcio a connection is taken, and none of its ends is told.
SCRIPT = """
import asyncio, os, socket, uvloop
from server.rpc import server
from server.rpc.aio_server import Server
from server.rpc.draining import Calls
from server.rpc.guard import descriptors
from server.rpc.guard.callers import Callers
from server.rpc.guard.descriptors import TcpSockets
from server.rpc.intake import Intake
from tests.bench.http2 import PREFACE, Type, frame

async def main():
    callers = Callers()
    serves = Server({}, [], callers.gate, Intake(callers.ledger), server.OPTIONS)
    port = serves.add_insecure_port(b"127.0.0.1:0")
    async with server.serving(serves, Calls(), asyncio.Event()):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(PREFACE + frame(Type.SETTINGS, 0, 0, b""))
        await asyncio.to_thread(client.recv, 1)
        (connection,) = [each for each in TcpSockets(port).look() if each.peer]
        near, far = descriptors.full_pair()
        kept = os.dup(connection.file)
        assert descriptors.put(near, connection.file)
    print("ended")

uvloop.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what connections there are")
def test_a_connection_that_never_ends_keeps_nobody_from_ending() -> None:
    ended = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True, timeout=30)
    assert ended.stdout == "ended\n"
    assert ended.stderr == "grpcio does not let go of a connection, and is left behind\n"
