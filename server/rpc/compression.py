"""Undoes gzip, in which callers may send messages.

Left to grpcio, a message would be inflated before anybody asked who sends it: a few kilobytes, which cost a stranger
nothing, would each take milliseconds of the few threads that read for everybody. And it would refuse what becomes too
large in its own words.
"""

from __future__ import annotations

import zlib

from server.errors import RequestTooLarge
from server.rpc.request_message import malformed

# Of grpc_compression_algorithm: a bit for none, one for deflate and one for gzip. Deflate, which few clients know, may
# start like a message. Who sends it is told UNIMPLEMENTED, with what is accepted, as gRPC wants it.
ACCEPTED = 0b101
# grpcio does not tell what is compressed, but no message starts like this: there is no such type of field.
_MAGIC = b"\x1f\x8b"
_GZIP = 16 + zlib.MAX_WBITS


def is_compressed(message: bytes) -> bool:
    """Tells whether a message was compressed."""
    return message.startswith(_MAGIC)


def plain(message: bytes, max_bytes: int) -> bytes:
    """Returns a message as it was before it was compressed, if it was. Raises RequestTooLarge and InvalidArgument."""
    if not is_compressed(message):
        return message
    # RFC 1952: the size comes last.
    size = int.from_bytes(message[-4:], "little")
    if size > max_bytes:
        raise RequestTooLarge(f"a message may have at most {max_bytes} bytes, this one is inflated to {size}")
    inflated = _inflated(message, size)
    if inflated is None:
        raise malformed("the message starts as gzip does, and is no gzip, or not all of one")
    return inflated


def _inflated(message: bytes, size: int) -> bytes | None:
    """Returns what was compressed, or None if that is not of this size, or nothing was."""
    inflating = zlib.decompressobj(_GZIP)
    try:
        # One more, for none at all would be without a limit.
        inflated = inflating.decompress(message, size + 1)
    except zlib.error:
        return None
    return inflated if inflating.eof and not inflating.unused_data else None
