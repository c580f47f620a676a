"""One HTTP connection: uvicorn's protocol, bounded in what it holds and in how long it waits."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from server.api.call import request_id_from
from server.gateway.answers import PIECE_BYTES, HttpError
from server.gateway.connections import MAX_CONNECTIONS, Connections, Standing

MAX_PIPELINED = 16
MAX_HEADERS = 100
MAX_HEAD_BYTES = 64 << 10
# A path and a query of the most bytes. To take a longer one apart takes long, and nothing answers to it.
MAX_URL_BYTES = 20 << 10
# Each takes as long as a large one does, though it may have a single byte.
MAX_CHUNKS = 1_024
# Of a message that was answered before it had come, this much is read, so that the answer is not lost in a reset.
MAX_MESSAGE_BYTES = 8 << 20

# In seconds.
HEAD_TIMEOUT = 10.0
# Longer than load balancers keep an idle connection, so that it is they who close it.
IDLE_TIMEOUT = 75.0
# In this time a caller has to take at least MIN_READ_BYTES of what waits for it.
READ_TIMEOUT = 10.0
MIN_READ_BYTES = 64 << 10
# How long who was refused may take to read the answer, and how much is read of what it goes on sending.
LINGER = 2.0
LINGER_BYTES = 64 << 10


class _Refused(Exception):
    """Raised in the parser's callbacks. `error` is None where nothing is said."""

    def __init__(self, error: HttpError | None) -> None:
        super().__init__()
        self.error = error


class _Flow(FlowControl):
    """Reads on only where nothing waits: neither requests for their turn nor answers for their reader."""

    def __init__(self, protocol: Protocol) -> None:
        super().__init__(protocol.transport)
        self._protocol = protocol

    def resume_reading(self) -> None:
        if not (self._protocol.pipeline or self.write_paused or self._protocol.refusing):
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """Answers the requests of one connection in turn. Whoever does not send, or does not read, is cut off in time."""

    server_state: Connections

    def __init__(
        self,
        config: Config,
        server_state: Connections,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, {**app_state, "known": self._known_as}, _loop)
        # The organization whose good key it sent first, as long as it need not make way.
        self.organization: str | None = None
        self._had_answer = False
        # When it began to be idle, or to send what it sends now.
        self.since = self.loop.time()
        self.refusing = False
        self._answering: asyncio.Task[None] | None = None
        self._answered: RequestResponseCycle | None = None
        self._in_message = False
        self._in_head = False
        self._message_bytes = 0
        # The size of what is being parsed, and how many chunks the message has had.
        self._data_size = 0
        self._chunks = 0
        self._unread = (0.0, 0)
        # The head of a request that asks for another protocol, without that; until it is parsed once more.
        self._declined = b""

    @property
    def standing(self) -> Standing:
        """What it is to others who want its place: the lowest makes way first."""
        answering = self._is_answering()
        if self.refusing and not answering:
            return Standing.REFUSED
        if self._answered is None:
            return Standing.SILENT
        if self.organization is None:
            return Standing.STRANGER if self._had_answer else Standing.ASKING
        if not answering or self.flow.write_paused:
            return Standing.KNOWN
        return Standing.SENDING if self._in_message else Standing.SERVED

    @property
    def is_served(self) -> bool:
        """Whether its caller has sent a request, and waits for the answer."""
        return self._is_answering() and "complete" in self._state and not self.flow.write_paused

    @property
    def _state(self) -> dict[str, Any]:
        """What is said of the request that is answered, and by whoever answers it."""
        assert self._answered is not None
        return self._answered.scope["state"]

    def _known_as(self, organization_id: str) -> None:
        """Is told whose a call is, before its turn: while that waits, it is no stranger's. Raises Overloaded."""
        if self.organization is None:
            self.server_state.becomes_known(self, organization_id)

    def _is_answering(self) -> bool:
        return self._answered is not None and not self._answered.response_complete

    def _unread_bytes(self) -> int:
        """Returns how much waits for the caller: what has been written, and what is to follow of the answer."""
        size = self.transport.get_write_buffer_size()
        if self._answered is not None and self._answered.response_started:
            size += self._answered.expected_content_length
        return size

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        if len(self.connections) >= MAX_CONNECTIONS:
            self.server_state.make_room()
        super().connection_made(transport)
        # Of what is written TLS encrypts all at once, and does not count it any more: so it is written in pieces.
        transport.set_write_buffer_limits(PIECE_BYTES)
        self.flow = _Flow(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server_state.forget(self)
        self.pipeline.clear()
        if self._is_answering():
            # There is nobody to answer any more.
            assert self._answered is not None
            assert self._answering is not None
            self._answered.disconnected = True
            self._answering.cancel()
        super().connection_lost(exc)

    def cut_off(self) -> None:
        """Ends the connection. Whoever waits for an answer is told to call again, unless it does not read."""
        if self.transport.is_closing():
            return
        if self._answered is None or self._answered.response_started or self.flow.write_paused:
            self.transport.abort()
        else:
            assert self._answering is not None
            self._state["cut_off"] = True
            self._answering.cancel()

    def check(self, now: float) -> None:
        """Closes the connection if its time is up."""
        age = now - self.since
        if self.transport.is_closing():
            if age > READ_TIMEOUT:
                self.transport.abort()
        elif self.refusing:
            if age > LINGER:
                self.transport.abort()
        elif self.flow.write_paused:
            self._check_reader(now)
        elif self._is_answering():
            return
        elif self._in_message and age > HEAD_TIMEOUT:
            if self._in_head:
                self._refuse(HttpError(408, "request_timeout", f"no request came within {HEAD_TIMEOUT:.0f} s"))
            else:
                self.transport.close()
        elif age > (HEAD_TIMEOUT if self._answered is None else IDLE_TIMEOUT):
            self.transport.close()

    def _check_reader(self, now: float) -> None:
        since, size = self._unread
        if now - since > READ_TIMEOUT:
            left = self._unread_bytes()
            if size - left < MIN_READ_BYTES:
                self.transport.abort()
            self._unread = (now, left)

    def data_received(self, data: bytes) -> None:
        if self.refusing:
            self._message_bytes += len(data)
            if self._message_bytes > LINGER_BYTES:
                self.flow.pause_reading()
            return
        self._data_size = len(data)
        try:
            self._parse(data)
        except httptools.HttpParserError as error:
            cause = error.__context__
            if isinstance(cause, _Refused):
                self._refuse(cause.error)
            else:
                self._refuse(HttpError(400, "bad_request", "the request is not HTTP/1.1"))
            return
        if self._in_message:
            self._message_bytes += self._data_size
            if self._in_head and self._message_bytes > MAX_HEAD_BYTES:
                self._refuse(_head_too_large())
            elif self._message_bytes > MAX_MESSAGE_BYTES:
                self._refuse(None)
            elif not self._in_head and self.cycle.response_complete:
                self.server_state.read_in_vain(self, self._data_size)

    def _parse(self, data: bytes) -> None:
        """Parses what has come, as if nobody ever asked for another protocol: the answer is in this one.

        The parser takes what follows the head for that protocol, and not for a body.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                head, self._declined = self._declined, b""
                if not head:
                    # CONNECT, after whose answer the connection ends.
                    return
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
                data = head + data[upgrade.args[0] :]
            else:
                return

    def _head_without_upgrade(self) -> bytes:
        fields = b"".join(name + b": " + value + b"\r\n" for name, value in self.headers if name != b"upgrade")
        version = self.parser.get_http_version().encode()
        return self.parser.get_method() + b" " + self.url + b" HTTP/" + version + b"\r\n" + fields + b"\r\n"

    def _refuse(self, error: HttpError | None) -> None:
        """Ends the connection with an answer, if there is one, in the shape of all our errors."""
        self.refusing = True
        self.since = self.loop.time()
        self._message_bytes = 0
        if self._is_answering():
            assert self._answered is not None
            if self.cycle is not self._answered or self._in_head or self._answered.response_started:
                # This is not its turn; the connection ends after what comes before.
                self.cycle.keep_alive = False
                self.since += IDLE_TIMEOUT
                self.flow.pause_reading()
                return
            assert self._answering is not None
            self._answered.disconnected = True
            self._answering.cancel()
        is_answered = self._in_message and not self._in_head and self.cycle.response_complete
        if error is not None and not is_answered:
            answer = error.answer
            headers = {**answer.all_headers(request_id_from({})), "connection": "close"}
            head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
            status = HTTPStatus(answer.status)
            self.transport.write(f"HTTP/1.1 {status} {status.phrase}\r\n{head}\r\n".encode() + answer.body)
        if self.transport.can_write_eof():
            # Closed at once, it would be reset by what still comes, and the answer could be lost.
            self.transport.write_eof()
        else:
            self.transport.close()

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            # The caller sends those again that are not answered (RFC 9112, section 9.3.2).
            raise _Refused(None)
        super().on_message_begin()
        self.since = self.loop.time()
        self._in_message = self._in_head = True
        self._chunks = 0
        # What this data has of it is counted at its end.
        self._message_bytes = -self._data_size

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            # Trailers mean nothing here.
            return
        if len(self.headers) >= MAX_HEADERS:
            raise _Refused(_head_too_large())
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._data_size + self._message_bytes > MAX_HEAD_BYTES // 8:
            size = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
            if size > MAX_HEAD_BYTES:
                raise _Refused(_head_too_large())
            if len(self.url) > MAX_URL_BYTES:
                raise _Refused(HttpError(400, "bad_request", f"path and query must be at most {MAX_URL_BYTES} bytes"))
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._declined = self._head_without_upgrade()
            return
        self._in_head = False
        super().on_headers_complete()
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False

    def on_chunk_header(self) -> None:
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise _Refused(HttpError(400, "bad_request", f"a body may have at most {MAX_CHUNKS} chunks"))

    def on_message_complete(self) -> None:
        if self._declined:
            return
        self._in_message = False
        # Whoever reads the body need not be ready to wait for it.
        self.scope["state"]["complete"] = True
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._answered = cycle
        self._answering = self.loop.create_task(cycle.run_asgi(app))
        self._answering.add_done_callback(self.tasks.discard)
        self.tasks.add(self._answering)

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.since = self.loop.time()
        self._had_answer = True
        self.server_state.answered(self)
        self._go_on()

    def _go_on(self) -> None:
        """Answers the next request, once the last answer has been read."""
        if self.pipeline and not self.flow.write_paused:
            self._start_asgi_task(*self.pipeline.pop())
        self.flow.resume_reading()

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()
        size = self._unread_bytes()
        self._unread = (self.loop.time(), size)
        self.server_state.stops_reading(self, size)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.server_state.reads_on(self)
        if not self._is_answering():
            self._go_on()


def _head_too_large() -> HttpError:
    return HttpError(
        431, "headers_too_large", f"request line and headers must be at most {MAX_HEAD_BYTES} bytes and {MAX_HEADERS}"
    )
