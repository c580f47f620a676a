"""The connections of gRPC callers, which grpcio keeps to itself: found among the open files of the process."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count

# Open files have the lowest numbers that are free: where so many in a row are no connections, there are no more.
GAP = 128

# Every method of a `socket` lets the other threads run first, which for a thousand sockets takes seconds when those are
# busy; what is called by this does not.
_libc = ctypes.PyDLL(None)
_SHUT_RDWR = 2
# In struct tcp_info of Linux: how many bytes the peer has acknowledged, and how many it has sent.
_TRAFFIC, _TRAFFIC_AT = struct.Struct("=QQ"), 120
# In struct sockaddr_in and sockaddr_in6.
_PORT, _PORT_AT = struct.Struct("!H"), 2


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as it was when it was looked at: from where, and how many bytes went either way."""

    peer_port: int
    received: int
    sent: int
    file: int

    def close(self) -> bool:
        """Ends the connection, and tells whether it was there still; grpcio takes it for the peer's doing."""
        return _port(_libc.getpeername, self.file) == self.peer_port and not _libc.shutdown(self.file, _SHUT_RDWR)


def connections(port: int) -> Iterator[Connection]:
    """Yields the connections to a port of this process."""
    info = ctypes.create_string_buffer(256)
    last = 0
    for file in count():
        size = ctypes.c_uint(len(info))
        if not _libc.getsockopt(file, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)):
            last = file
            if _port(_libc.getsockname, file) == port and (peer_port := _port(_libc.getpeername, file)):
                sent, received = _TRAFFIC.unpack_from(info, _TRAFFIC_AT)
                yield Connection(peer_port, received, sent, file)
        elif file - last > GAP:
            return


def _port(name_of: Callable[..., int], file: int) -> int:
    address = ctypes.create_string_buffer(128)
    size = ctypes.c_uint(len(address))
    if name_of(file, address, ctypes.byref(size)):
        return 0
    port: int = _PORT.unpack_from(address, _PORT_AT)[0]
    return port
