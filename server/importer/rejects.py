"""The rows that failed, as they were, and beside them why."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import IO

from server.errors import CommandError
from server.importer.rows import Row


class RejectsFile:
    """Rows that failed, in a file that can be mended and imported again, and their reasons in one beside it.

    `first` is the line and the reason of the first one, None where there is none.

    The nth row of `path`, its heading not counted, has its reason in the nth line of `reasons`. Nothing is touched
    before there is a row to write; a file of an earlier import is then kept as PATH.old. Every row reaches the
    system at once, so that an interruption, however hard, loses none.
    """

    def __init__(self, path: Path, heading: bytes) -> None:
        """`heading` is what the file starts with: a byte order mark, the heading of a CSV."""
        self.path = path
        self.reasons = reasons_path(path)
        self.first: tuple[int, str] | None = None
        self._heading = heading
        self._files: list[IO[bytes]] = []

    def __enter__(self) -> RejectsFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for file in self._files:
            file.close()

    def add(self, row: Row, reason: str) -> None:
        """Writes a row and its reason. Raises CommandError where that is not possible."""
        self.first = self.first or (row.line, reason)
        try:
            if not self._files:
                self._files = [_new(self.path), _new(self.reasons)]
                self._files[0].write(self._heading)
            line = json.dumps({"line": row.line, "reason": reason}, ensure_ascii=False)
            for file, content in zip(self._files, (row.raw, f"{line}\n".encode()), strict=True):
                file.write(content)
                file.flush()
        except OSError as error:
            raise CommandError(f"cannot write the rejected rows to {self.path}: {error.strerror}") from None


def reasons_path(path: Path) -> Path:
    """Returns where the reasons for the rejects in `path` are."""
    return path.with_name(f"{path.name}.reasons.jsonl")


def check_rejects_path(path: Path, source: IO[bytes]) -> None:
    """Raises CommandError when rejects written to `path` would destroy something, or cannot be written."""
    for written in (path, reasons_path(path)):
        for touched in (written, _old(written)):
            if touched.exists() and os.path.samestat(touched.stat(), os.fstat(source.fileno())):
                raise CommandError(
                    f"rejects would be written over the input; say --rejects with another name than {path}"
                )
        if written.exists() and not written.is_file():
            raise CommandError(f"{written} is no regular file; say --rejects with another name")
    if not os.access(path.absolute().parent, os.W_OK):
        raise CommandError(f"cannot write into the directory of {path}; say --rejects with another name")


def _old(path: Path) -> Path:
    return path.with_name(f"{path.name}.old")


def _new(path: Path) -> IO[bytes]:
    if path.exists():
        path.replace(_old(path))
    return path.open("xb")
