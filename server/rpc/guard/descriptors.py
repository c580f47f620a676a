"""Sockets of this process by their file descriptors, which is all that grpcio leaves of them to find.

Any descriptor may be closed at any time, by a thread of grpcio, and then be another file's; so nothing here raises.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import resource
import select
import socket
import struct
import termios
from collections.abc import Callable, Iterator
from typing import NamedTuple

# Every method of a `socket` lets the other threads run first, which for a thousand sockets takes seconds when those are
# busy; what is called by this does not.
_libc = ctypes.PyDLL(None)
# In struct tcp_info of Linux: the state is the first byte; of one that listens, here is how many wait to be accepted,
# and of others how many bytes the peer has sent.
_TCP_INFO = struct.Struct("=B23xI100xQ")
# In struct sockaddr_in and sockaddr_in6: the family and the port, then where the address is.
_NAME, _ADDRESS_AT = struct.Struct("=H2s"), {socket.AF_INET: slice(4, 8), socket.AF_INET6: slice(8, 24)}
_MAPPED = bytes(10) + b"\xff\xff"
# struct pollfd: the file, and what to look for and what there is.
_POLLED = struct.Struct("=ihh")
# Of socket(7) and tcp(7).
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_COOKIE, _TCP_NOTSENT_LOWAT = 26, 27, 57, 25
# Of proc(5): how large the table of open files is.
_SLOTS = re.compile(rb"^FDSize:\s*(\d+)$", re.MULTILINE)
# struct sockaddr_un, with the family alone.
_UNNAMED = struct.pack("=H", socket.AF_UNIX)
# More than a socket takes that is to keep as little as it may.
_FILLING = bytes(1 << 16)
# To connect to no family at all ends a connection as if it had never been: what has come and is not read is gone.
_NOWHERE = ctypes.create_string_buffer(16)


class _Filter(ctypes.Structure):
    """struct sock_fprog of socket(7): how many instructions there are, and where."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


# One instruction, to return how much of a packet is taken: nothing.
_NOTHING = _Filter(1, struct.pack("=HBBI", 0x06, 0, 0, 0))


class Tcp(NamedTuple):
    """What the kernel says of a TCP socket: its state, as the kernel numbers it, and how many bytes have come.

    `waiting` is how many wait to be accepted, of one that listens.
    """

    state: int
    waiting: int
    received: int


# Values of `Tcp.state`.
ESTABLISHED, CLOSED, LISTENING = 1, 7, 10


class TcpSocket(NamedTuple):
    """A socket by its number, which may be another's at any time, and by its cookie, which no other ever has.

    `peer` is what grpcio calls the other end, and empty where there is none.
    """

    file: int
    cookie: int
    peer: str
    tcp: Tcp


class TcpSockets:
    """The TCP sockets of this process whose port on our side it is. For one thread, which remembers who is who."""

    def __init__(self, port: int) -> None:
        self._port = port.to_bytes(2, "big")
        # By file, the cookie of what it was when it was last looked at, and, where that has this port, the peer.
        self._cookies: list[int] = []
        self._peers: list[str | None] = []

    def look(self) -> Iterator[TcpSocket]:
        """Yields those that are there."""
        slots = _slots()
        self._cookies += [0] * (slots - len(self._cookies))
        self._peers += [None] * (slots - len(self._peers))
        value, size, info = ctypes.c_uint64(), ctypes.c_uint(), ctypes.create_string_buffer(_TCP_INFO.size)
        value_at, size_at = ctypes.byref(value), ctypes.byref(size)
        cookies, peers, getsockopt = self._cookies, self._peers, _libc.getsockopt
        for file in range(slots):
            size.value = 8
            if getsockopt(file, socket.SOL_SOCKET, _SO_COOKIE, value_at, size_at):
                continue
            if cookies[file] != value.value:
                cookies[file], peers[file] = value.value, self._peer(file)
            peer = peers[file]
            if peer is not None:
                size.value = _TCP_INFO.size
                if not getsockopt(file, socket.IPPROTO_TCP, socket.TCP_INFO, info, size_at):
                    yield TcpSocket(file, cookies[file], peer, _tcp(info))

    def _peer(self, file: int) -> str | None:
        """Returns the name of the peer, empty where there is none, or None where the port on our side is another."""
        name = ctypes.create_string_buffer(128)
        is_ours = not _libc.getsockname(file, name, ctypes.byref(ctypes.c_uint(128))) and name.raw[2:4] == self._port
        return _name(_libc.getpeername, file) if is_ours else None


def tcp_of(file: int) -> Tcp | None:
    """Returns what the kernel says of a TCP socket, or None where the file is none."""
    info, size = ctypes.create_string_buffer(_TCP_INFO.size), ctypes.c_uint(_TCP_INFO.size)
    if _libc.getsockopt(file, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)):
        return None
    return _tcp(info)


def unread(file: int) -> int:
    """Returns how many of the bytes that have come were not read."""
    count = ctypes.c_int()
    _libc.ioctl(file, termios.FIONREAD, ctypes.byref(count))
    return count.value


def has_room(file: int) -> bool:
    """Tells whether anything can be written."""
    asked = ctypes.create_string_buffer(_POLLED.pack(file, select.POLLOUT, 0))
    return bool(_libc.poll(asked, 1, 0) > 0)


def cookie(file: int) -> int:
    """Returns what tells a socket from every other there ever was, or 0 where there is none."""
    value, size = ctypes.c_uint64(), ctypes.c_uint(8)
    _libc.getsockopt(file, socket.SOL_SOCKET, _SO_COOKIE, ctypes.byref(value), ctypes.byref(size))
    return value.value


def duplicate(file: int) -> int:
    """Returns another descriptor of a file, or -1 where there can be none."""
    number: int = _libc.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 0)
    return number


def put(file: int, place: int) -> bool:
    """Has a descriptor be another of a file from now on, and tells whether that could be done."""
    return bool(_libc.dup3(file, place, os.O_CLOEXEC) >= 0)


def wake_poller(file: int) -> None:
    """Has whoever polls a TCP socket look at it again.

    A poller knows a socket itself, whatever file is in its place, and may have told of what came in vain. It looks
    again when there may be room to write, which is said each time that this is set; 0 is what is set already.
    """
    room, size = ctypes.c_int(0), ctypes.sizeof(ctypes.c_int)
    _libc.setsockopt(file, socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, ctypes.byref(room), size)


def full_pair() -> tuple[int, int]:
    """Returns two sockets that are connected, of which the first has no room to write; -1 where there can be none."""
    pair, least = (ctypes.c_int * 2)(-1, -1), ctypes.c_int(0)
    _libc.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0, pair)
    near, far = pair
    _libc.setsockopt(near, socket.SOL_SOCKET, socket.SO_SNDBUF, ctypes.byref(least), ctypes.sizeof(least))
    _libc.send(near, _FILLING, len(_FILLING), socket.MSG_NOSIGNAL)
    return near, far


def listen(file: int, backlog: int) -> None:
    """Has a socket that listens let so many connections wait to be accepted."""
    _libc.listen(file, backlog)


def idle_listener() -> int:
    """Returns a socket that accepts connections and that nobody knows to connect to, or -1 where there can be none."""
    listener: int = _libc.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    # Without a name the kernel gives it one of its own.
    _libc.bind(listener, _UNNAMED, len(_UNNAMED))
    _libc.listen(listener, 0)
    return listener


def read_no_more(file: int) -> None:
    """Has whoever reads a connection find that it has ended. The peer is not told."""
    _libc.shutdown(file, socket.SHUT_RD)


def drop(file: int) -> None:
    """Has the kernel drop whatever comes of a TCP connection, as if it had been lost on its way."""
    _libc.setsockopt(file, socket.SOL_SOCKET, _SO_ATTACH_FILTER, ctypes.byref(_NOTHING), ctypes.sizeof(_NOTHING))


def drop_no_more(file: int) -> None:
    """Has the kernel take what comes again."""
    _libc.setsockopt(file, socket.SOL_SOCKET, _SO_DETACH_FILTER, ctypes.byref(ctypes.c_int(0)), 4)


def abort(file: int) -> bool:
    """Ends a connection as if it had never been, and tells whether that could be done."""
    return not _libc.connect(file, _NOWHERE, len(_NOWHERE))


def abort_if(file: int, meant: int) -> bool:
    """Ends a connection like `abort`, if its cookie is the one that is meant, and tells whether it did.

    Asked of the number that grpcio knows, this could come true of one connection and end another, which has the number
    by then, as where thousands come and go. So it is asked of another number of the same, while there is one.
    """
    held = duplicate(file)
    asked = file if held < 0 else held
    is_ended = cookie(asked) == meant and abort(asked)
    close(held)
    return is_ended


def close(*files: int) -> None:
    """Closes files; -1 is none."""
    for file in files:
        _libc.close(file)


def _tcp(info: ctypes.Array[ctypes.c_char]) -> Tcp:
    return Tcp._make(_TCP_INFO.unpack(info))


def _slots() -> int:
    """Returns a number that all numbers of open files are below: somewhat more than there ever were at once."""
    text = ctypes.create_string_buffer(4_096)
    # Where all files are open that may be, this one cannot be; then any number may be one.
    status = _libc.open(b"/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    _libc.read(status, text, len(text))
    _libc.close(status)
    slots = _SLOTS.search(text.raw)
    return int(slots[1]) if slots is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _name(name_of: Callable[..., int], file: int) -> str:
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
