"""A gRPC client that does what no library does: stops in the middle, never reads, sends what makes no sense."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType

from tests.bench.http2 import END_HEADERS, END_STREAM, PREFACE, FrameReader, Type, frame

SERVICE = "participants.v1.ParticipantService"
_INITIAL_WINDOW_SIZE = 0x4
_MAX_FRAME = 16_384


class Wire:
    """One connection. `window` is how much of each answer the peer may send before it is given more room; `sent` is how
    much was sent after the preface, here and on the connections that came `again`."""

    def __init__(self, address: str, *, window: int = 65_535) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self._reader = FrameReader()
        self._frames: list[tuple[int, int, int, bytes]] = []
        self._next_stream = 1
        self.sent = 0
        self.socket.sendall(PREFACE + frame(Type.SETTINGS, 0, 0, struct.pack(">HL", _INITIAL_WINDOW_SIZE, window)))

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.socket.close()

    @contextmanager
    def again(self) -> Iterator[Wire]:
        """Opens another connection like this one."""
        with Wire(self.address) as wire:
            try:
                yield wire
            finally:
                self.sent += wire.sent

    def call(self, path: str, metadata: Sequence[tuple[str, str]] = (), *, ended: bool = False) -> int:
        """Opens a stream with the headers of a call, and returns its number."""
        stream, self._next_stream = self._next_stream, self._next_stream + 2
        self.send(headers(stream, path, metadata, ended=ended))
        return stream

    def message(self, stream: int, message: bytes, *, announced: int | None = None, ended: bool = True) -> None:
        """Sends a message, maybe less than it announces. It has to fit in what the peer takes unasked."""
        data = struct.pack(">BL", 0, len(message) if announced is None else announced) + message
        for at in range(0, len(data), _MAX_FRAME):
            piece = data[at : at + _MAX_FRAME]
            last = ended and at + _MAX_FRAME >= len(data)
            self.send(frame(Type.DATA, END_STREAM if last else 0, stream, piece))

    def end(self, stream: int) -> None:
        """Ends a stream without more data."""
        self.send(frame(Type.DATA, END_STREAM, stream))

    def pour(self, stream: int, data: bytes, *, ended: bool = False) -> None:
        """Sends the data of a stream, with the prefixes of its messages, as the peer takes it, or until it refuses."""
        room = {0: 65_535, stream: 65_535}
        # A view: to cut off what was sent copies nothing.
        left = memoryview(data)
        while left:
            size = min(len(left), _MAX_FRAME, *room.values())
            if size:
                last = ended and size == len(left)
                self.send(frame(Type.DATA, END_STREAM if last else 0, stream, bytes(left[:size])))
                left = left[size:]
                room = {key: value - size for key, value in room.items()}
                continue
            kind, flags, number, payload = self.next_frame()
            if kind == Type.WINDOW_UPDATE and number in room:
                room[number] += struct.unpack(">L", payload)[0]
            elif number == stream and kind in {Type.RST_STREAM, Type.HEADERS}:
                self._frames.insert(0, (kind, flags, number, payload))
                return

    def next_frame(self) -> tuple[int, int, int, bytes]:
        """Returns the next frame; raises ConnectionError where the peer closed, TimeoutError where nothing comes."""
        while not self._frames:
            data = self.socket.recv(65_536)
            if not data:
                raise ConnectionError("the peer closed")
            self._frames += self._reader.read(data)
        return self._frames.pop(0)

    def until_closed(self) -> None:
        """Waits until the peer has closed the connection."""
        with suppress(ConnectionError):
            while True:
                self.next_frame()

    def until_ended(self, stream: int) -> list[tuple[int, bytes]]:
        """Returns the types and payloads of a stream's frames up to its end."""
        frames = []
        while True:
            kind, flags, number, payload = self.next_frame()
            if number != stream:
                continue
            frames.append((kind, payload))
            if kind == Type.RST_STREAM or (kind in {Type.HEADERS, Type.DATA} and flags & END_STREAM):
                return frames

    def discard(self) -> None:
        """Reads what has come, and forgets it."""
        timeout = self.socket.gettimeout()
        self.socket.settimeout(0)
        with suppress(BlockingIOError):
            while self.socket.recv(1 << 20):
                pass
        self.socket.settimeout(timeout)

    def send(self, data: bytes) -> None:
        """Sends frames, whatever is in them."""
        # Of what is cut off in the middle something was sent.
        taken = self.socket.send(data)
        self.sent += taken
        self.socket.sendall(memoryview(data)[taken:])

    def reset_when_closed(self) -> None:
        """Has the connection end without a word, with all that was not read yet."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def headers(
    stream: int, path: str, metadata: Sequence[tuple[str, str]] = (), *, ended: bool = False, whole: bool = True
) -> bytes:
    """Returns the frames with the headers of a call; they are said not to be all of them if they are not `whole`."""
    block = b"".join(b"\x00" + _string(name) + _string(value) for name, value in [*_fields(path), *metadata])
    return _frames(stream, block, ended=ended, whole=whole)


def bomb(stream: int, path: str, field: tuple[str, str], times: int, *, whole: bool = True) -> bytes:
    """Returns the frames with the headers of a call that has one field so many times, which take a byte each."""
    block = b"".join(b"\x00" + _string(name) + _string(value) for name, value in _fields(path))
    # RFC 7541, section 6: a literal that is put into the peer's table, and then its place there, which is the first.
    block += b"\x40" + _string(field[0]) + _string(field[1]) + b"\xbe" * (times - 1)
    return _frames(stream, block, whole=whole)


def _fields(path: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", f"/{path}"),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ]


def _frames(stream: int, block: bytes, *, ended: bool = False, whole: bool = True) -> bytes:
    pieces = [block[at : at + _MAX_FRAME] for at in range(0, len(block), _MAX_FRAME)]
    frames = [
        frame(Type.CONTINUATION if number else Type.HEADERS, END_STREAM if ended and not number else 0, stream, piece)
        for number, piece in enumerate(pieces)
    ]
    if whole:
        last = frames[-1]
        frames[-1] = last[:4] + bytes([last[4] | END_HEADERS]) + last[5:]
    return b"".join(frames)


def _string(text: str) -> bytes:
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    # RFC 7541, section 5.1: an integer that does not fit in seven bits.
    length, rest = b"\x7f", len(data) - 127
    while rest >= 128:
        length += bytes([rest % 128 | 128])
        rest //= 128
    return length + bytes([rest]) + data
