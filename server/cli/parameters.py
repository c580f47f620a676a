"""Parameters that several commands take."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import click


class Name(click.ParamType[str]):
    """The name of an organization or a program: 1 to 255 printable characters."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not 1 <= len(value) <= 255 or not value.isprintable():
            self.fail("must be 1 to 255 printable characters", param, ctx)
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


NAME = Name()
DURATION = Duration()
TIME = Time()
