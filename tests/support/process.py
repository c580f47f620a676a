"""The real process: `participants serve` as its users start it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

COMMAND = Path(sys.executable).parent / "participants"
# Long enough for a machine that is busy with other things: what succeeds waits no longer for that.
START_TIMEOUT = 40.0


def environment(**variables: str) -> dict[str, str]:
    """Returns an environment with these settings of the service and no others."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PARTICIPANTS_")}
    ours.pop("DATABASE_URL", None)
    return {**ours, **variables}


def run(*arguments: str, env: Mapping[str, str], timeout: float = 50.0) -> subprocess.CompletedProcess[str]:
    """Runs `participants ARGUMENTS` to its end."""
    return subprocess.run([COMMAND, *arguments], env=env, capture_output=True, text=True, timeout=timeout, check=False)


def refusal(completed: subprocess.CompletedProcess[str]) -> str:
    """Returns the one line that a command refused with, and asserts that it said nothing else and failed."""
    assert completed.returncode == 1, completed
    assert completed.stdout == "", completed
    lines = completed.stderr.splitlines()
    assert len(lines) == 1, completed.stderr
    assert lines[0].startswith("participants: "), lines
    return lines[0]


def eventually(succeeds: Callable[[], bool], timeout: float = 30.0) -> None:
    """Waits until something that nobody announces has come about."""
    deadline = time.monotonic() + timeout
    while not succeeds():
        assert time.monotonic() < deadline, f"it did not come about within {timeout:.0f} s"
        time.sleep(0.02)


class Service:
    """A running `participants serve`, on ports of its own. `output` and `errors` are what it has printed so far."""

    def __init__(self, env: Mapping[str, str], command: Sequence[str | Path] = (COMMAND,)) -> None:
        ports = {"PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:0", "PARTICIPANTS_HTTP_ADDRESS": "127.0.0.1:0"}
        self._process = subprocess.Popen(
            [*command, "serve"],
            env={**ports, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        self._printed: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._readers = [threading.Thread(target=self._read, args=(name,), daemon=True) for name in self._printed]
        for reader in self._readers:
            reader.start()
        line = self.wait_for_output(r"serving gRPC on (\S+)(?: and HTTP on (\S+))?\n")
        self.grpc_address = line[1]
        self.http_url = f"http://{line[2]}" if line[2] else ""

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def operations_url(self) -> str:
        return "http://" + self.wait_for_output(r"serving operators on (\S+)\n")[1]

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def output(self) -> str:
        return "".join(self._printed["stdout"])

    @property
    def errors(self) -> str:
        return "".join(self._printed["stderr"])

    def wait_for_output(self, pattern: str) -> re.Match[str]:
        """Waits until the process has printed something, and returns the match."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            match = re.search(pattern, self.output)
            if match:
                return match
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        self.kill()
        raise AssertionError(f"the service did not print {pattern!r}:\n{self.output}\n{self.errors}")

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        """Waits for the process to end and returns its exit status."""
        status = self._process.wait(timeout)
        self._close()
        return status

    def stop(self) -> int:
        """Interrupts the process and its children, as Ctrl-C in a terminal does, and returns its exit status."""
        if self._process.poll() is None:
            os.killpg(self.pid, signal.SIGINT)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Kills the process, as a crash does."""
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    def _read(self, name: str) -> None:
        for line in getattr(self._process, name):
            self._printed[name].append(line)
