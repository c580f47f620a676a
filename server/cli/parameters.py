"""Parameters that several commands take."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click


class Text(click.ParamType[str]):
    """Any text. Of bytes that are no text Python makes surrogates, which cannot be sent to anybody."""

    name = "text"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if any("\ud800" <= character <= "\udfff" for character in value):
            self.fail("must be text in UTF-8", param, ctx)
        return value


class Name(click.ParamType[str]):
    """The name of an organization, a program or a key: at most 255 printable characters, and at least as many as are
    said."""

    name = "name"

    def __init__(self, at_least: int) -> None:
        self._at_least = at_least

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._at_least <= len(value) <= 255 or not value.isprintable():
            self.fail(f"must be {self._at_least} to 255 printable characters", param, ctx)
        return value


class Duration(click.ParamType[timedelta]):
    """A whole number of seconds, minutes, hours or days: 30s, 15m, 24h, 7d. At most 100 years."""

    name = "duration"

    def convert(self, value: str | timedelta, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"([0-9]{1,10})([smhd])", value)
        seconds = int(match[1]) * {"s": 1, "m": 60, "h": 3_600, "d": 86_400}[match[2]] if match else None
        if seconds is None or seconds > 36_500 * 86_400:
            self.fail("must be a number and a unit, such as 30s, 15m, 24h or 7d", param, ctx)
        return timedelta(seconds=seconds)


class Time(click.ParamType[datetime]):
    """A time in RFC 3339, with its offset from UTC."""

    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            time = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            time = None
        if time is None or time.tzinfo is None:
            self.fail("must be a time such as 2026-01-31T08:00:00Z", param, ctx)
        return time


TEXT = Text()
NAME = Name(at_least=1)
KEY_NAME = Name(at_least=0)
DURATION = Duration()
TIME = Time()
