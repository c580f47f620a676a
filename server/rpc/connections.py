"""The connections of gRPC callers, which grpcio keeps to itself: found among the open files of the process."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import os
import re
import resource
import socket
import struct
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
# Of socket(7).
_SO_ATTACH_FILTER, _SO_DETACH_FILTER, _SO_COOKIE = 26, 27, 57
# Of proc(5): how large the table of open files is.
_SLOTS = re.compile(rb"^FDSize:\s*(\d+)$", re.MULTILINE)
# As much as is read, and thrown away, at once.
_ANY_SIZE = 1 << 20
# To connect to no family at all ends a connection as if it had never been: what has come and is not read is gone.
_NOWHERE = ctypes.create_string_buffer(16)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


# A program of Linux's classic BPF, which is run for each packet and returns how much of it to keep: the header at the
# least, and here no more. So what we send is acknowledged, and whoever has left is let go.
_RETURN, _HEADER_ALONE = 0x06, 1
_NO_DATA = _Filter(1, (_Instruction * 1)(_Instruction(_RETURN, 0, 0, _HEADER_ALONE)))


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection as it was when it was looked at: whose, as grpcio names it, and how many bytes it had received.

    `cookie` tells it from every other there ever was, also from the next with the same peer.
    """

    peer: str
    cookie: int
    received: int
    file: int

    def seize(self) -> Seized | None:
        """Takes the connection from grpcio, for which it has ended, and keeps it open; None where it is gone.

        The peer is not told. Whatever it sends is not read, and soon it cannot send any more.
        """
        if not self._is_there():
            return None
        kept = _libc.fcntl(self.file, fcntl.F_DUPFD_CLOEXEC, 0)
        # One that never was connected: grpcio finds that out as soon as it reads or writes, and closes it.
        dead = _libc.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0)
        if kept < 0 or dead < 0 or _libc.dup3(dead, self.file, os.O_CLOEXEC) < 0:
            for file in (kept, dead):
                _libc.close(file)
            return None
        _libc.close(dead)
        return Seized(kept)

    def mute(self) -> bool:
        """Has no more data come in, and tells whether that could be done: newer kernels let nobody who has not
        CAP_NET_ADMIN. To the peer, everything that it sends is lost on the way, and it sends it again and again."""
        return self._set(_SO_ATTACH_FILTER, _NO_DATA)

    def hear(self) -> None:
        """Has data come in again, which the peer sends again."""
        self._set(_SO_DETACH_FILTER, ctypes.c_int())

    def discard(self) -> bool:
        """Throws away what has come in and is not read, and tells whether there was anything."""
        is_there, any_was = self._is_there(), False
        while is_there and _libc.recv(self.file, None, _ANY_SIZE, socket.MSG_TRUNC | socket.MSG_DONTWAIT) > 0:
            any_was = True
        return any_was

    def abort(self) -> bool:
        """Ends the connection, and tells whether it was there still; grpcio takes it for the peer's doing."""
        return self._is_there() and not _libc.connect(self.file, _NOWHERE, len(_NOWHERE))

    def _set(self, option: int, value: ctypes.Structure | ctypes.c_int) -> bool:
        size = ctypes.sizeof(value)
        return self._is_there() and not _libc.setsockopt(
            self.file, socket.SOL_SOCKET, option, ctypes.byref(value), size
        )

    def _is_there(self) -> bool:
        return _name(_libc.getpeername, self.file) == self.peer


@dataclass(frozen=True, slots=True)
class Seized:
    """A connection that grpcio has no more."""

    file: int

    def is_open(self) -> bool:
        """Tells whether the peer is still there."""
        info, size = ctypes.create_string_buffer(1), ctypes.c_uint(1)
        _libc.getsockopt(self.file, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size))
        return info.raw[0] == _ESTABLISHED

    def close(self) -> None:
        """Ends the connection, as if it had never been."""
        _libc.connect(self.file, _NOWHERE, len(_NOWHERE))
        _libc.close(self.file)


def connections(port: int) -> Iterator[Connection]:
    """Yields the connections to a port of this process."""
    info, cookie = ctypes.create_string_buffer(256), ctypes.c_uint64()
    ours = f":{port}"
    for file in range(_file_slots()):
        size = ctypes.c_uint(len(info))
        # That a number is nobody's shows in half of the time.
        if _libc.fcntl(file, fcntl.F_GETFD) < 0 or _libc.getsockopt(
            file, socket.IPPROTO_TCP, socket.TCP_INFO, info, ctypes.byref(size)
        ):
            continue
        if _name(_libc.getsockname, file).endswith(ours) and (peer := _name(_libc.getpeername, file)):
            size = ctypes.c_uint(ctypes.sizeof(cookie))
            _libc.getsockopt(file, socket.SOL_SOCKET, _SO_COOKIE, ctypes.byref(cookie), ctypes.byref(size))
            (received,) = _RECEIVED.unpack_from(info, _RECEIVED_AT)
            yield Connection(peer, cookie.value, received, file)


def _file_slots() -> int:
    """Returns a number that all numbers of open files are below: somewhat more than there ever were at once."""
    text = ctypes.create_string_buffer(4_096)
    # Where all files are open that may be, this one cannot be; then any number may be one.
    status = _libc.open(b"/proc/self/status", os.O_RDONLY | os.O_CLOEXEC)
    _libc.read(status, text, len(text))
    _libc.close(status)
    slots = _SLOTS.search(text.raw)
    return int(slots[1]) if slots is not None else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


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
