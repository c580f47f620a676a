"""Which calls have a line, and what becomes of lines that repeat."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator

import pytest

from server.operations.call_log import SAMPLE_EVERY, SLOW, CallLog
from server.operations.logs import JsonFormatter
from server.operations.repeats import Repeats
from server.operations.trace_context import trace_context_from


@pytest.fixture
def repeats() -> Iterator[Repeats]:
    made = Repeats()
    yield made
    made.flush()


@pytest.fixture
def log(repeats: Repeats) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger, and what it printed."""
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    handler.setFormatter(JsonFormatter())
    repeats.attach(handler)
    logger = logging.getLogger(f"{__name__}.{id(printed)}")
    logger.propagate = False
    logger.addHandler(handler)
    yield logger, printed
    logger.removeHandler(handler)


def printed_lines(printed: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def test_failed_and_slow_calls_are_logged_always_and_others_now_and_then() -> None:
    log = CallLog()
    assert log.wants("OK", 10.0, 10.1)
    assert not log.wants("OK", 10.1, 10.2)
    assert log.wants("NOT_FOUND", 10.1, 10.2)
    assert log.wants("OK", 10.1, 10.2 + SLOW)
    assert not log.wants("OK", 10.9, 11.0)
    assert log.wants("OK", 10.9, 10.1 + SAMPLE_EVERY)


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"bytes",
        "",
        "garbage",
        "00-short-00f067aa0ba902b7-01",
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{'A' * 32}-00f067aa0ba902b7-01",
        "x" * 10_000,
    ],
)
def test_a_trace_that_is_none_is_left_out(given: str | bytes | None) -> None:
    assert trace_context_from({} if given is None else {"traceparent": given}) is None


def test_equal_lines_are_printed_once_and_counted(repeats: Repeats, log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, printed = log
    for _ in range(1000):
        logger.warning("the database is %s", "away")
    logger.warning("the database is %s", "back")
    repeats.flush()
    logger.warning("the database is %s", "away")
    assert [(line["message"], line.get("repeated")) for line in printed_lines(printed)] == [
        ("the database is away", None),
        ("the database is back", None),
        ("the database is away", 999),
        ("the database is away", None),
    ]


def test_an_exception_that_repeats_is_printed_once_with_its_stack(
    repeats: Repeats, log: tuple[logging.Logger, io.StringIO]
) -> None:
    logger, printed = log
    for number in range(100):
        try:
            int(f"not a number: {number}")
        except ValueError:
            logger.exception("%s failed, request id %s", "Create", number)
    repeats.flush()
    first, summary = printed_lines(printed)
    assert "not a number: 0" in str(first["exception"])
    assert summary["repeated"] == 99
    assert "exception" not in summary


def test_who_repeats_last_is_counted_though_nothing_follows(log: tuple[logging.Logger, io.StringIO]) -> None:
    logger, printed = log
    logger.warning("again")
    logger.warning("again")
    for timer in threading.enumerate():
        if isinstance(timer, threading.Timer):
            timer.join()
    assert [line.get("repeated") for line in printed_lines(printed)] == [None, 1]
