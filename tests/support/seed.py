"""A data directory with a Postgres that a first start has made and migrated: made once for all tests, and copied for
each that wants one, which takes a tenth of the time."""

from __future__ import annotations

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg

from server.postgres.embedded import embedded_postgres
from server.postgres.migrations import migrate


@contextmanager
def own_directory() -> Iterator[Path]:
    """Makes a directory for an embedded Postgres, which as root is another user's: pytest's are closed to those."""
    with TemporaryDirectory(prefix="participants-test-") as directory:
        yield Path(directory)


class Seed:
    """Directories with the data of a first start. `shared` is a directory that the test processes of a run share."""

    def __init__(self, shared: Path) -> None:
        self._postgres = shared / "postgres"
        with (shared / "postgres.lock").open("w") as lock:
            # Whoever comes first makes it, and the others wait.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._postgres.exists():
                with own_directory() as directory:
                    with embedded_postgres(directory) as conninfo:
                        migrate(conninfo, report=lambda line: None)
                        with psycopg.connect(conninfo, autocommit=True) as admin:
                            # No test crashes the machine, and nothing else would lose what was not synced, or find
                            # half a page.
                            admin.execute("ALTER SYSTEM SET fsync = off")
                            admin.execute("ALTER SYSTEM SET full_page_writes = off")
                    _copy(directory / "postgres", self._postgres)

    def plant(self, data_directory: Path) -> None:
        """Puts the data into a directory without any."""
        data_directory.mkdir(exist_ok=True)
        _copy(self._postgres, data_directory / "postgres")

    @contextmanager
    def planted(self) -> Iterator[Path]:
        """Makes a directory with these data."""
        with own_directory() as directory:
            self.plant(directory)
            yield directory


def _copy(source: Path, target: Path) -> None:
    # Python's own copies leave out whose the files are.
    subprocess.run(["cp", "-a", source, target], check=True)
