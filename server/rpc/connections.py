"""The connections of gRPC callers, which grpcio keeps to itself: found among the open files of the process."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import re
import resource
import select
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from server.operations.memory import can_tell

# Every method of a `socket` lets the other threads run first, which for a thousand sockets takes seconds when those are
# busy; what is called by this does not.
_libc = ctypes.PyDLL(None)
# In struct tcp_info of Linux: how many bytes the peer has sent. Its first byte is the state.
_RECEIVED, _RECEIVED_AT = struct.Struct("=Q"), 128
_ESTABLISHED = 1
# In struct sockaddr_in and sockaddr_in6: the family and the port, then where the address is.
_NAME, _ADDRESS_AT = struct.Struct("=H2s"), {socket.AF_INET: slice(4, 8), socket.AF_INET6: slice(8, 24)}
_MAPPED = bytes(10) + b"\xff\xff"
# struct pollfd: the file, and what to look for and what there is.
_POLLED = struct.Struct("=ihh")
# Of socket(7) and tcp(7).
_SO_COOKIE, _TCP_NOTSENT_LOWAT = 57, 25
# Of proc(5): how large the table of open files is.
_SLOTS = re.compile(rb"^FDSize:\s*(\d+)$", re.MULTILINE)
# More than a socket takes that is to keep as little as it may.
_FILLING = bytes(1 << 16)
# To connect to no family at all ends a connection as if it had never been: what has come and is not read is gone.
_NOWHERE = ctypes.create_string_buffer(16)


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as it was when it was looked at: whose, as grpcio names it, and how many bytes it had received."""

    peer: str
    received: int
    file: int

    def take(self) -> Taken | None:
        """Takes the connection from grpcio; None where it is gone, or where the process has too many open files."""
        near, far = _full_pair()
        taken = _libc.fcntl(self.file, fcntl.F_DUPFD_CLOEXEC, 0)
        if not self._is_there() or min(near, far, taken) < 0 or _libc.dup3(near, self.file, os.O_CLOEXEC) < 0:
            _close(near, far, taken)
            return None
        _close(near)
        return Taken(taken, self.file, _cookie(self.file), far, _received(taken) - _unread(taken))

    def abort(self) -> bool:
        """Ends the connection, and tells whether it was there still; grpcio takes it for the peer's doing."""
        return self._is_there() and _abort(self.file)

    def _is_there(self) -> bool:
        return _name(_libc.getpeername, self.file) == self.peer


@dataclass(slots=True)
class Taken:
    """A connection taken from grpcio, which has a stand-in for it: one that nothing comes from, and nothing fits into.

    The peer is not told. Whatever it sends is not read, and soon it cannot send any more. `file` is the connection,
    `place` the number that grpcio knows it by, `far` the other end of the stand-in, whose cookie is `stand_in`, and
    `read` how many bytes grpcio had read of it.
    """

    file: int
    place: int
    stand_in: int
    far: int
    read: int

    def is_open(self) -> bool:
        """Tells whether the peer is still there."""
        info, size = ctypes.create_string_buffer(1), ctypes.c_uint(1)
        _libc.getsockopt(self.file, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size))
        return info.raw[0] == _ESTABLISHED

    def give_back(self) -> None:
        """Gives the connection back to grpcio, with all that has come; what grpcio has ended is ended here, too."""
        if self.is_let_go():
            self.close()
            return
        _libc.dup3(self.file, self.place, os.O_CLOEXEC)
        # The poller of grpcio knows the connection itself, whatever file is in its place, and has told grpcio of what
        # came in vain. It looks again when there may be room to write, which is said each time that this is set; 0 is
        # what is set already.
        room, size = ctypes.c_int(0), ctypes.sizeof(ctypes.c_int)
        _libc.setsockopt(self.file, socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, ctypes.byref(room), size)
        _close(self.file, self.far)

    def end(self) -> None:
        """Has grpcio find that the connection has ended, and let go of all that it holds for it."""
        _close(self.far)
        self.far = -1
        # Its poller looks again, and the peer is not told. But what waits until there is room to write to somebody who
        # does not read hears of nothing but the end.
        if self._has_room():
            _libc.shutdown(self.file, socket.SHUT_RD)
        else:
            _abort(self.file)

    def is_let_go(self) -> bool:
        """Tells whether grpcio has ended the connection."""
        return _cookie(self.place) != self.stand_in

    def close(self) -> None:
        """Ends the connection, as if it had never been. The poller of grpcio hears no more of it."""
        _abort(self.file)
        _close(self.file, self.far)

    def _has_room(self) -> bool:
        asked = ctypes.create_string_buffer(_POLLED.pack(self.file, select.POLLOUT, 0))
        return bool(_libc.poll(asked, 1, 0) > 0)


def connections(port: int) -> Iterator[Connection]:
    """Yields the connections to a port of this process."""
    ours = f":{port}"
    for file in range(_file_slots()):
        # That a number is nobody's shows in half of the time.
        if _libc.fcntl(file, fcntl.F_GETFD) < 0 or (received := _received(file)) < 0:
            continue
        if _name(_libc.getsockname, file).endswith(ours) and (peer := _name(_libc.getpeername, file)):
            yield Connection(peer, received, file)


def _file_slots() -> int:
    """Returns a number that all numbers of open files are below: somewhat more than there ever were at once."""
    text = ctypes.create_string_buffer(4_096)
    # Where all files are open that may be, this one cannot be; then any number may be one.
    status = _libc.open(b"/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    _libc.read(status, text, len(text))
    _libc.close(status)
    slots = _SLOTS.search(text.raw)
    return int(slots[1]) if slots is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _received(file: int) -> int:
    """Returns how many bytes have come, or -1 where the file is no TCP socket."""
    info, size = ctypes.create_string_buffer(256), ctypes.c_uint(256)
    if _libc.getsockopt(file, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)):
        return -1
    received: int = _RECEIVED.unpack_from(info, _RECEIVED_AT)[0]
    return received


def _unread(file: int) -> int:
    """Returns how many of the bytes that have come were not read."""
    unread = ctypes.c_int()
    _libc.ioctl(file, termios.FIONREAD, ctypes.byref(unread))
    return unread.value


def _cookie(file: int) -> int:
    """Returns what tells a socket from every other there ever was, or 0 where there is none."""
    cookie, size = ctypes.c_uint64(), ctypes.c_uint(8)
    _libc.getsockopt(file, socket.SOL_SOCKET, _SO_COOKIE, ctypes.byref(cookie), ctypes.byref(size))
    return cookie.value


def _full_pair() -> tuple[int, int]:
    """Returns two sockets that are connected, of which the first has no room to write; -1 where there can be none."""
    pair, least = (ctypes.c_int * 2)(-1, -1), ctypes.c_int(0)
    _libc.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0, pair)
    near, far = pair
    _libc.setsockopt(near, socket.SOL_SOCKET, socket.SO_SNDBUF, ctypes.byref(least), ctypes.sizeof(least))
    _libc.send(near, _FILLING, len(_FILLING), socket.MSG_NOSIGNAL)
    return near, far


def _abort(file: int) -> bool:
    """Ends a connection as if it had never been, and tells whether that could be done."""
    return not _libc.connect(file, _NOWHERE, len(_NOWHERE))


def _close(*files: int) -> None:
    for file in files:
        _libc.close(file)


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
