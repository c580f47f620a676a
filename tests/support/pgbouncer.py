"""PgBouncer in transaction mode, before a Postgres of the tests'."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from tests.support.process import eventually

# Debian puts it where only root has it on the PATH; TEST_PGBOUNCER names another.
COMMAND = os.environ.get("TEST_PGBOUNCER") or shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
# The first that keeps prepared statements in transaction mode, and answers DEALLOCATE ALL and DISCARD ALL.
KEEPS_PREPARED_STATEMENTS = (1, 22)


def version() -> tuple[int, ...]:
    """Returns the version of the PgBouncer that is installed, or nothing where there is none."""
    if COMMAND is None:
        return ()
    printed = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"(\d+)\.(\d+)", printed)
    assert match, printed
    return int(match[1]), int(match[2])


@contextmanager
def pgbouncer(conninfo: str, **settings: str) -> Iterator[str]:
    """Runs one before the database and the role of `conninfo`, and yields how to connect through it."""
    assert COMMAND is not None
    parameters = conninfo_to_dict(conninfo)
    host = str(parameters.get("host") or "127.0.0.1")
    with TemporaryDirectory(prefix="participants-pgbouncer-") as name:
        directory, port = Path(name), _free_port()
        directory.chmod(0o755)
        _write(directory / "users", f'"{parameters["user"]}" "{parameters.get("password", "")}"\n')
        options = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(directory / "users"),
            "pool_mode": "transaction",
            "default_pool_size": "3",
            **settings,
        }
        lines = ["[databases]", f"* = host={host} port={parameters.get('port') or 5432}", "[pgbouncer]"]
        _write(directory / "ini", "\n".join([*lines, *(f"{name} = {value}" for name, value in options.items()), ""]))
        # It does not run as root; the socket's owner may connect to it.
        user = (Path(host).stat().st_uid if host.startswith("/") else "nobody") if os.getuid() == 0 else None
        with (directory / "log").open("w") as log:
            process = subprocess.Popen([COMMAND, directory / "ini"], user=user, stdout=log, stderr=log)
        through = make_conninfo(conninfo, host="127.0.0.1", port=port)
        try:
            eventually(lambda: _answers(through))
            yield through
        finally:
            process.terminate()
            process.wait(10)


def _write(file: Path, text: str) -> None:
    file.write_text(text)
    file.chmod(0o644)


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


def _answers(conninfo: str) -> bool:
    try:
        psycopg.connect(conninfo).close()
    except psycopg.OperationalError:
        return False
    return True
