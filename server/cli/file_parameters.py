"""Parameters that say how a file is to be read."""

from __future__ import annotations

import codecs

import click


class Delimiter(click.ParamType[str]):
    """One character, or the word tab."""

    name = "character"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        value = {"tab": "\t", "\\t": "\t"}.get(value, value)
        if len(value) != 1 or value in '\r\n"':
            self.fail("must be one character, or the word tab", param, ctx)
        return value


class Encoding(click.ParamType[str]):
    """An encoding that Python knows."""

    name = "encoding"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            "".encode(value)
            return codecs.lookup(value).name
        except LookupError:
            self.fail(f"{value!r} is no encoding; there are utf-8, utf-16, cp1252, iso-8859-1 and others", param, ctx)


class Column(click.ParamType[tuple[str, str]]):
    """COLUMN=FIELD: which field a column of a file is."""

    name = "column=field"

    def convert(
        self, value: str | tuple[str, str], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        column, equals, field = (part.strip() for part in value.rpartition("="))
        if not equals or not column:
            self.fail("must be COLUMN=FIELD", param, ctx)
        return column, field


DELIMITER = Delimiter()
ENCODING = Encoding()
COLUMN = Column()
