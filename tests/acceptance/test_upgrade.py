"""A rollout migrates first: the version before goes on serving while the schema changes under it, and after."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from server.postgres.migrations import is_current
from tests.conftest import PREFIX, fresh_database
from tests.support.clients import GrpcClient, Reply
from tests.support.process import Service, environment, eventually, run
from tests.support.wheels import ROOT, build, uv

# The last commit before migrations said which versions work on them.
BEFORE = "e30559c4521d"
WRITERS = 4


@pytest.fixture(scope="module")
def installed_before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the version before, installed from its wheels."""
    archive = subprocess.run(["git", "archive", BEFORE], cwd=ROOT, capture_output=True, check=False)
    if archive.returncode != 0:
        pytest.skip("the repository has no history: the version before is not to be had")
    source, packages = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("packages")
    with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
        files.extractall(source, filter="data")
    wheels = [
        build(source, tmp_path_factory.mktemp("server")),
        build(source / "generated", tmp_path_factory.mktemp("stubs")),
    ]
    uv("pip", "install", "--quiet", f"--python={sys.executable}", "--no-deps", f"--target={packages}", *wheels)
    return packages


class Load:
    """Callers that upsert without a pause, and what they were answered."""

    def __init__(self, service: Service, key: str) -> None:
        self._service, self._key = service, key
        self._stop = threading.Event()
        self.replies: list[Reply] = []

    def goes_on(self) -> None:
        """Waits until each caller has been answered some times more."""
        enough = len(self.replies) + 20 * WRITERS
        eventually(lambda: len(self.replies) >= enough)

    @contextmanager
    def running(self) -> Iterator[Load]:
        threads = [threading.Thread(target=self._call, args=(n,)) for n in range(WRITERS)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _call(self, number: int) -> None:
        client = GrpcClient(self._service.grpc_address, self._key)
        count = 0
        while not self._stop.is_set():
            count += 1
            request = {"external_id": f"{number}-{count % 10}", "attributes": {"count": str(count)}}
            self.replies.append(client.create(request))
        client.close()


def test_the_version_before_serves_while_this_one_migrates_and_beside_it(postgres: str, installed_before: Path) -> None:
    before: Sequence[str] = (sys.executable, "-P", "-m", "server")
    with fresh_database(postgres, f"{PREFIX}_upgrade") as conninfo:
        old = environment(DATABASE_URL=conninfo, PYTHONPATH=str(installed_before))
        subprocess.run([*before, "migrate"], env=old, check=True, capture_output=True)
        assert not is_current(conninfo)
        create = [*before, "keys", "create", "--organization", "acme"]
        key = subprocess.run(create, env=old, check=True, capture_output=True, text=True).stdout.strip()
        serving = Service(old, before)
        with Load(serving, key).running() as load:
            load.goes_on()
            migrated = run("migrate", env=environment(DATABASE_URL=conninfo))
            assert migrated.returncode == 0, migrated
            assert is_current(conninfo)
            load.goes_on()
            beside = Service(environment(DATABASE_URL=conninfo))
            with Load(beside, key).running() as newer:
                newer.goes_on()
                load.goes_on()
        assert [beside.stop(), serving.stop()] == [0, 0]
        assert {reply.code for reply in (*load.replies, *newer.replies)} == {"OK"}
