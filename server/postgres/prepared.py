"""Runs prepared statements on one connection, past the driver's cursors.

What a cursor does beyond this (reading the query for placeholders, choosing types, a task and a timer a wait) takes
longer than all the rest, and is the same at every execution. Here alone are driver calls that psycopg does not document
as public: the `Transformer`, `error_from_result` and the low-level use of `pgconn`. The driver is pinned below its next
minor version, and a test of this file says when one of them changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import AsyncConnection
from psycopg.abc import Transformer as TransformerType
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format
from psycopg.pq.abc import PGresult

from server.postgres.queries.query import Query

# How long a statement that is cancelled may take to end before its connection is closed instead; in seconds. A frozen
# Postgres answers neither the statement nor the request to cancel it.
CANCEL_TIMEOUT = 2.0
CANCEL_AGAIN = 0.2

_SUCCESSES = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)

Row = Sequence[Any]


class PreparedConnection:
    """A connection on which our queries are prepared. It runs one statement at a time.

    Its socket stays registered with the event loop from `__init__` to `detach`: to register it for every statement
    would cost two system calls each. So a connection that the server closes while it is idle is known at once.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.taken = time.monotonic()
        # The process id of the server's end, also when the connection is closed.
        self.backend = connection.pgconn.backend_pid
        self._pgconn = connection.pgconn
        self._socket = connection.pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._readable = select.poll()
        self._readable.register(self._socket, select.POLLIN)
        self._answer: asyncio.Future[PGresult] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._results: list[PGresult] = []
        self._transformers: dict[bytes, TransformerType] = {}
        self._is_writing = False
        self._is_reading = True
        self._loop.add_reader(self._socket, self._on_readable)

    @property
    def is_idle(self) -> bool:
        """Whether the next statement can be run: none is under way, and the server has not gone."""
        return self._answer is None and self._pgconn.status == ConnStatus.OK

    @property
    def under_way(self) -> object | None:
        """The statement that has been sent and has no answer yet; it is equal to nothing but itself."""
        return None if self._is_writing else self._answer

    def is_alive(self) -> bool:
        """Looks whether the server has gone, which the event loop may not have come round to tell; for an idle one."""
        # What the server said in parting may come first, and the end of the stream only then.
        while self._is_reading and self._readable.poll(0):
            self._on_readable()
        return self.is_idle

    async def prepare(self, query: Query) -> None:
        """Prepares a query. Raises psycopg.Error."""
        self._pgconn.send_prepare(query.name, query.text)
        await self._sent()

    async def run(self, query: Query, parameters: Sequence[bytes | None]) -> Sequence[Row]:
        """Runs a prepared query in a commit of its own, and returns its rows. Parameters are in text format.

        Raises psycopg.Error. When it is cancelled the statement goes on: see `cancel`.
        """
        self._pgconn.send_query_prepared(query.name, parameters, result_format=Format.BINARY)
        return self._rows(query, await self._sent())

    async def cancel(self) -> None:
        """Asks the server to cancel what is under way, and waits until it is over, or closes the connection."""
        if self._answer is None:
            return
        ended = self._ended = self._loop.create_future()
        try:
            async with asyncio.timeout(CANCEL_TIMEOUT):
                while not ended.done():
                    with contextlib.suppress(psycopg.Error):
                        await self.connection.cancel_safe(timeout=CANCEL_TIMEOUT)
                    # A request that arrives before the server has begun the statement is lost.
                    await asyncio.wait((ended,), timeout=CANCEL_AGAIN)
        except TimeoutError:
            pass
        finally:
            if self._answer is not None:
                self._fail(psycopg.OperationalError("the statement did not end when it was cancelled"))
                self._pgconn.finish()

    def lose(self) -> None:
        """Closes the connection, since the answer to its statement is lost, unless it has just come."""
        if self._answer is not None and not self._readable.poll(0):
            self._fail(psycopg.OperationalError("the answer to the statement is lost"))
            self._pgconn.finish()

    def close(self) -> None:
        """Closes the connection, on which nothing is under way, so that the pool replaces it."""
        self._stop_reading()
        self._pgconn.finish()

    def detach(self) -> AsyncConnection:
        """Returns the connection for others to use."""
        self._stop_reading()
        return self.connection

    def _sent(self) -> asyncio.Future[PGresult]:
        answer = self._answer = self._loop.create_future()
        self._flush()
        return answer

    def _flush(self) -> None:
        """Sends what the socket takes now, and the rest when it takes more."""
        try:
            unfinished = self._pgconn.flush()
        except psycopg.Error as error:
            self._fail(error)
            return
        if unfinished and not self._is_writing:
            self._is_writing = True
            self._loop.add_writer(self._socket, self._flush)
        elif self._is_writing and not unfinished:
            self._stop_writing()

    def _stop_reading(self) -> None:
        # Once only: the driver closes the socket of a server that has gone, and its number is soon another's.
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._socket)

    def _stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._socket)

    def _on_readable(self) -> None:
        try:
            self._pgconn.consume_input()
            if self._answer is None:
                self._check_idle()
                return
            # uvloop tells of a socket's error once, and then no more of this socket: its end may come behind what the
            # server said in parting.
            while not self._read_results() and self._readable.poll(0):
                self._pgconn.consume_input()
        except psycopg.Error as error:
            self._fail(error)

    def _read_results(self) -> bool:
        """Takes what has come of the answer, and tells whether that is all."""
        pgconn = self._pgconn
        while not pgconn.is_busy():
            result = pgconn.get_result()
            if result is None:
                self._settle()
                return True
            self._results.append(result)
        return False

    def _check_idle(self) -> None:
        # Nothing is expected, so it is a notice, or the server's goodbye. A socket at its end stays readable for ever.
        if self._pgconn.status != ConnStatus.OK:
            self._stop_reading()

    def _settle(self) -> None:
        """Hands out what came of the statement: its first failure if there was one, whatever came before it.

        A backend that is terminated just as it answers sends its rows and then a failure: nobody knows then whether
        the statement was committed.
        """
        results, self._results = self._results, []
        answer, self._answer = self._answer, None
        failed = next((result for result in results if result.status not in _SUCCESSES), None)
        if answer is not None and not answer.done():
            if failed is not None:
                answer.set_exception(psycopg.errors.error_from_result(failed))
            else:
                answer.set_result(results[-1])
        self._tell_end()

    def _fail(self, error: psycopg.Error) -> None:
        self._stop_reading()
        self._stop_writing()
        self._results.clear()
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_exception(error)
        self._tell_end()

    def _tell_end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    def _rows(self, query: Query, result: PGresult) -> Sequence[Row]:
        transformer = self._transformers.get(query.name)
        known = transformer is not None
        if transformer is None:
            transformer = self._transformers[query.name] = Transformer(self.connection)
        transformer.set_pgresult(result, set_loaders=not known)
        rows = transformer.load_rows(0, result.ntuples, tuple)
        # The result is freed now, and not when the query runs again.
        transformer.set_pgresult(None, set_loaders=False)
        return rows
