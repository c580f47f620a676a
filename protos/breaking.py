"""Fails where a change to the .proto files would break callers.

    python protos/breaking.py                 compares protos/ with that of the main branch
    python protos/breaking.py BEFORE AFTER    compares two directories of .proto files

Where there is no main branch, as in an unpacked archive, there is nothing to compare with, and it says so.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from generate import PROTOS, write_image

REFERENCES = ("origin/main", "main")
BUF = Path(sys.executable).parent / "buf"


def main(arguments: list[str]) -> int:
    match arguments:
        case []:
            return compare_with_main()
        case [before, after]:
            return compare(Path(before), Path(after))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


def compare_with_main() -> int:
    for reference in REFERENCES:
        files = git("ls-tree", "-r", "--name-only", reference, ".")
        if files:
            print(f"comparing the protos with those of {reference}")
            return compare_with(reference, files.decode().splitlines())
    print("there is no main branch with protos here: nothing to compare with")
    return 0


def compare_with(reference: str, files: list[str]) -> int:
    with tempfile.TemporaryDirectory() as before:
        for file in files:
            path = Path(before, file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(git("show", f"{reference}:./{file}"))
        return compare(Path(before), PROTOS)


def compare(before: Path, after: Path) -> int:
    with tempfile.TemporaryDirectory() as directory:
        old, new = Path(directory, "before.binpb"), Path(directory, "after.binpb")
        failed = write_image(old, before) or write_image(new, after)
        if failed:
            return failed
        command = [BUF, "breaking", new, "--against", old, "--config", PROTOS / "buf.yaml"]
        return subprocess.run(command, check=False).returncode  # noqa: S603  # our own words


def git(*arguments: str) -> bytes:
    """Returns what git prints, and nothing where it fails: no git, no repository, no such branch."""
    command = ["git", *arguments]
    try:
        return subprocess.run(command, cwd=PROTOS, check=False, capture_output=True).stdout  # noqa: S603  # our own words
    except FileNotFoundError:
        return b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
