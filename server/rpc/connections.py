"""The connections of gRPC callers, which grpcio keeps to itself: found among the open files of the process."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

from server.operations.memory import can_tell

# Open files have the lowest numbers that are free: where so many in a row are no connections, there are no more.
GAP = 128

# Every method of a `socket` lets the other threads run first, which for a thousand sockets takes seconds when those are
# busy; what is called by this does not.
_libc = ctypes.PyDLL(None)
# In struct tcp_info of Linux: how many bytes the peer has acknowledged, and how many it has sent.
_TRAFFIC, _TRAFFIC_AT = struct.Struct("=QQ"), 120
# In struct sockaddr_in and sockaddr_in6: the family and the port, then where the address is.
_NAME, _ADDRESS_AT = struct.Struct("=H2s"), {socket.AF_INET: slice(4, 8), socket.AF_INET6: slice(8, 24)}
_MAPPED = bytes(10) + b"\xff\xff"
# To connect to no family at all ends a connection as if it had never been: what has come and is not read is gone.
_NOWHERE = ctypes.create_string_buffer(16)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as it was when it was looked at: whose, as grpcio names it, and how many bytes went either way."""

    peer: str
    received: int
    sent: int
    file: int

    def abort(self) -> bool:
        """Ends the connection, and tells whether it was there still; grpcio takes it for the peer's doing."""
        return _name(_libc.getpeername, self.file) == self.peer and not _libc.connect(self.file, _NOWHERE, 16)


def connections(port: int) -> Iterator[Connection]:
    """Yields the connections to a port of this process."""
    info = ctypes.create_string_buffer(256)
    ours = f":{port}"
    last = 0
    for file in count():
        size = ctypes.c_uint(len(info))
        if not _libc.getsockopt(file, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)):
            last = file
            if _name(_libc.getsockname, file).endswith(ours) and (peer := _name(_libc.getpeername, file)):
                sent, received = _TRAFFIC.unpack_from(info, _TRAFFIC_AT)
                yield Connection(peer, received, sent, file)
        elif file - last > GAP:
            return


async def watch_forever(look_until: Callable[[threading.Event], None]) -> None:
    """Has connections looked at until this is cancelled. On systems other than Linux it waits."""
    if not can_tell():
        await asyncio.Event().wait()
    stopped = threading.Event()
    try:
        # In a thread, for the event loop may be busy when it matters.
        await asyncio.to_thread(look_until, stopped)
    finally:
        stopped.set()


def _name(name_of: Callable[..., int], file: int) -> str:
    """Returns what an end of a connection is called, as grpcio writes it, or nothing where there is none."""
    name = ctypes.create_string_buffer(128)
    size = ctypes.c_uint(len(name))
    if name_of(file, name, ctypes.byref(size)):
        return ""
    family, port = _NAME.unpack_from(name)
    if family not in _ADDRESS_AT:
        return ""
    address = name.raw[_ADDRESS_AT[family]].removeprefix(_MAPPED)
    number = int.from_bytes(port, "big")
    if len(address) == 4:
        return f"ipv4:{socket.inet_ntop(socket.AF_INET, address)}:{number}"
    return f"ipv6:%5B{socket.inet_ntop(socket.AF_INET6, address)}%5D:{number}"
