"""Messages in gzip: which are taken, and what those are that are not."""

from __future__ import annotations

import gzip
import zlib

import pytest
from participants.v1.participant_service_pb2 import CreateParticipantRequest

from server.errors import InvalidArgument, RequestTooLarge
from server.rpc.compression import plain

MAX_BYTES = 1_000
MESSAGE = CreateParticipantRequest(external_id="user_1", tags=["vip"] * 20).SerializeToString()


@pytest.mark.parametrize("message", [b"", MESSAGE, bytes(MAX_BYTES), b"\x78\x9c"])
def test_a_message_comes_out_as_it_was(message: bytes) -> None:
    assert plain(message, MAX_BYTES) == message
    assert plain(gzip.compress(message), MAX_BYTES) == message


def test_what_would_be_too_large_is_not_inflated(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = gzip.compress(bytes(MAX_BYTES + 1))
    monkeypatch.delattr(zlib, "decompressobj")
    with pytest.raises(RequestTooLarge, match="1001"):
        plain(bomb, MAX_BYTES)


WHOLE = gzip.compress(MESSAGE)


@pytest.mark.parametrize(
    "message",
    [
        WHOLE[:2],
        WHOLE[:-1],
        WHOLE + WHOLE,
        WHOLE + b"\0",
        WHOLE[:10] + bytes(20) + WHOLE[-8:],
        # A lie about its size, either way.
        WHOLE[:-4] + (len(MESSAGE) - 1).to_bytes(4, "little"),
        WHOLE[:-4] + (len(MESSAGE) + 1).to_bytes(4, "little"),
        gzip.compress(bytes(10_000_000))[:-4] + bytes(4),
    ],
    ids=["start", "torn", "two", "more", "nonsense", "less", "more than said", "bomb"],
)
def test_what_is_no_whole_gzip_is_no_message(message: bytes) -> None:
    with pytest.raises(InvalidArgument) as refused:
        # Of what is torn anything may stand where the size does.
        plain(message, 1 << 32)
    assert refused.value.reason == "MALFORMED_REQUEST"
