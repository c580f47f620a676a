"""Parameters that several commands take."""

from __future__ import annotations

import click


class Name(click.ParamType[str]):
    """The name of an organization or a program: 1 to 255 printable characters."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not 1 <= len(value) <= 255 or not value.isprintable():
            self.fail("must be 1 to 255 printable characters", param, ctx)
        return value


NAME = Name()
