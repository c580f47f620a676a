"""As much of HTTP/2 as a gRPC caller needs who reads no more than whether an answer came. grpcio's client costs as
much as a server: on few cores it would be the bottleneck."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from enum import IntEnum

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
_INITIAL_WINDOW_SIZE = 0x4
# What either side may send before it is given more room, unless told otherwise.
DEFAULT_WINDOW = 65_535
MAX_WINDOW = 2**31 - 1

# In HPACK's static table.
_METHOD_POST, _SCHEME_HTTP = b"\x83", b"\x86"
_FIRST_DYNAMIC_INDEX = 62


class Type(IntEnum):
    """What a frame is."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8
    CONTINUATION = 9


def frame(kind: Type, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns a frame."""
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def opening() -> bytes:
    """Returns what a client says first: the peer may send as much as it likes."""
    settings = struct.pack(">HL", _INITIAL_WINDOW_SIZE, MAX_WINDOW)
    window = struct.pack(">L", MAX_WINDOW - DEFAULT_WINDOW)
    return PREFACE + frame(Type.SETTINGS, 0, 0, settings) + frame(Type.WINDOW_UPDATE, 0, 0, window)


def first_headers(fields: Sequence[tuple[str, str]]) -> bytes:
    """Returns the header block of a connection's first POST, which puts the fields into the peer's table."""
    literals = b"".join(b"\x40" + _string(name) + _string(value) for name, value in fields)
    return _METHOD_POST + _SCHEME_HTTP + literals


def next_headers(fields: Sequence[tuple[str, str]]) -> bytes:
    """Returns the header block of every POST after that, which refers to the table; the newest entry is the first."""
    return _METHOD_POST + _SCHEME_HTTP + bytes(0x80 | (_FIRST_DYNAMIC_INDEX + n) for n in reversed(range(len(fields))))


def _string(text: str) -> bytes:
    assert len(text) < 127, "a longer one has its length in several bytes"
    return bytes([len(text)]) + text.encode()


class FrameReader:
    """Finds the frames in what arrives."""

    def __init__(self) -> None:
        self._rest = b""

    def read(self, data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
        """Yields the type, flags, stream and payload of each frame that is complete."""
        data = self._rest + data
        start = 0
        while len(data) - start >= 9:
            high, low, kind, flags, stream = struct.unpack_from(">HBBBL", data, start)
            end = start + 9 + (high << 8 | low)
            if end > len(data):
                break
            yield kind, flags, stream, data[start + 9 : end]
            start = end
        self._rest = data[start:]
