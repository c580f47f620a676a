"""Lines of a text file as bytes and as text, so that a line can be given back exactly as it came."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from server.errors import CommandError

# A longer line is held in no memory. No row may be nearly as long, so this is no text file of rows at all.
MAX_LINE_BYTES = 16 << 20
ADVICE = "say --encoding with the file's encoding, such as cp1252"
_BYTE_ORDER_MARKS = {
    # UTF-32 first: its little-endian mark starts with that of UTF-16.
    codecs.BOM_UTF32_LE: "utf-32-le",
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
# Their line ends are no single byte. Without a mark they are little-endian, which is what Windows writes.
_WIDE = {"utf-16": "utf-16-le", "utf-32": "utf-32-le"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line with its end: its number from 1 on, its bytes, its text, and a problem where they are no text."""

    number: int
    raw: bytes
    text: str
    problem: str = ""


class Lines:
    """Iterates over the lines of a file. `mark` is the byte order mark that the file starts with, if any, and
    `undecodable` the number of lines so far that are no text in `encoding`."""

    def __init__(self, file: IO[bytes], encoding: str | None) -> None:
        """Finds the encoding by the mark; without one it is `encoding`, or UTF-8."""
        self._file = file
        start = file.peek(4)[:4] if isinstance(file, io.BufferedReader) else b""
        self.mark = next((mark for mark in _BYTE_ORDER_MARKS if start.startswith(mark)), b"")
        file.read(len(self.mark))
        self.encoding = _encoding(encoding, self.mark)
        self.undecodable = 0

    def __iter__(self) -> Iterator[Line]:
        return self._of_characters() if self.encoding.startswith(("utf-16", "utf-32")) else self._of_bytes()

    def _of_bytes(self) -> Iterator[Line]:
        number = 0
        while raw := self._file.readline(MAX_LINE_BYTES + 1):
            number += 1
            _check_length(number, len(raw))
            try:
                yield Line(number, raw, raw.decode(self.encoding))
            except UnicodeDecodeError as error:
                self.undecodable += 1
                problem = f"not {self.encoding.upper()}, line {number}, byte {error.start + 1}; {ADVICE}"
                yield Line(number, raw, raw.decode(self.encoding, "replace"), problem)

    def _of_characters(self) -> Iterator[Line]:
        decoded = io.TextIOWrapper(self._file, self.encoding, newline="\n")
        number = 0
        try:
            while text := decoded.readline(MAX_LINE_BYTES + 1):
                number += 1
                _check_length(number, len(text))
                # Encoding again gives the bytes there were: these encodings write each text in one way only.
                yield Line(number, text.encode(self.encoding), text)
        except UnicodeDecodeError:
            raise CommandError(f"not {self.encoding.upper()}, soon after line {number}; {ADVICE}") from None


def _check_length(number: int, length: int) -> None:
    if length > MAX_LINE_BYTES:
        raise CommandError(f"line {number} is longer than {MAX_LINE_BYTES >> 20} MiB; a row takes at most 1 MiB")


def _encoding(given: str | None, mark: bytes) -> str:
    marked = _BYTE_ORDER_MARKS.get(mark)
    if given is None:
        return marked or "utf-8"
    name = codecs.lookup(given).name.removesuffix("-sig")
    if marked is not None and name != marked and name != marked.rpartition("-")[0]:
        raise CommandError(f"the file starts as {marked.upper()} does, not {name.upper()}; leave out --encoding")
    return marked or _WIDE.get(name, name)
