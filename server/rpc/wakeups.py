"""How grpcio tells the event loop that something happened: by a byte, of which it reads one at a time.

So each would wake the event loop once more, long after it has seen to what the byte stands for; and while a few hundred
of them are unread, grpcio waits for the event loop, and everybody for grpcio.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from types import SimpleNamespace

from grpc._cython import cygrpc  # type: ignore[attr-defined]  # it comes without types

# More than is ever unread: a pipe is full then, and nothing is lost, for a byte stands for all that has happened.
ALL = 1 << 16


def read_all_at_once() -> None:
    """Has grpcio read all of these bytes at once, and never wait. To be called before anything of it is made."""
    cygrpc.socket = SimpleNamespace(socketpair=_pipe)


@dataclass(frozen=True, slots=True)
class _End:
    """An end of a pipe, as far as grpcio takes it for a socket."""

    file: int

    def fileno(self) -> int:
        return self.file

    def setblocking(self, flag: bool) -> None:
        os.set_blocking(self.file, flag)

    def recv(self, _size: int) -> bytes:
        return os.read(self.file, ALL)

    def close(self) -> None:
        os.close(self.file)


def _pipe() -> tuple[_End, _End]:
    read, write = os.pipe()
    os.set_blocking(write, False)
    return _End(read), _End(write)
