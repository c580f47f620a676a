"""The distribution `participants-stubs`, used as its README says, where nothing of the server is installed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Deployment
from tests.support.process import environment
from tests.support.wheels import ROOT, Environment, build

README_ADDRESS = "127.0.0.1:50051"
EXAMPLES = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "generated" / "README.md").read_text(), re.DOTALL | re.MULTILINE
)

TYPED = """
from participants.v1.participant_pb2 import Participant
from participants.v1.participant_service_pb2 import CreateParticipantResponse

reveal_type(CreateParticipantResponse().participant)
reveal_type(Participant().external_id)
Participant(external_id=1)
"""


@pytest.fixture(scope="module")
def stubs(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the stubs alone."""
    wheel = build(ROOT / "generated", tmp_path_factory.mktemp("wheel"))
    return Environment(tmp_path_factory.mktemp("environment"), wheel)


@pytest.fixture(scope="module")
def outputs(stubs: Environment, deployment: Deployment) -> list[str]:
    """What the README's examples print, one after the other."""
    env = environment(PARTICIPANTS_API_KEY=deployment.tenant.key)
    return [
        _printed(stubs, example.replace(README_ADDRESS, deployment.service.grpc_address), env) for example in EXAMPLES
    ]


def _printed(stubs: Environment, program: str, env: dict[str, str]) -> str:
    # -I: nothing of this checkout is importable.
    command = [str(stubs.python), "-I", "-W", "error", "-c", program]
    completed = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (completed.returncode, completed.stderr) == (0, "")
    return completed.stdout


def test_the_stubs_bring_nothing_of_the_server(stubs: Environment) -> None:
    needed = {"googleapis-common-protos", "grpcio", "participants-stubs", "protobuf", "typing-extensions"}
    assert stubs.installed() == needed


def test_what_the_stubs_depend_on_is_all_they_need(stubs: Environment) -> None:
    stubs.check()


def test_the_first_example_creates_a_participant(outputs: list[str]) -> None:
    assert re.fullmatch(r"CREATED [0-9a-f-]{36}\n", outputs[0])


def test_the_asyncio_example_creates_ten_participants(outputs: list[str]) -> None:
    assert outputs[1] == "".join(f"CREATED user_{number}\n" for number in range(10))


def test_the_example_of_errors_prints_every_violation(outputs: list[str]) -> None:
    heading, *violations = outputs[2].splitlines()
    assert heading.startswith("INVALID_ARGUMENT ")
    assert [violation.split()[:2] for violation in violations] == [
        ["external_id", "STRING_MIN_LEN"],
        ["email", "STRING_EMAIL_OR_EMPTY"],
    ]


def test_the_example_of_retries_updates_the_participant(outputs: list[str]) -> None:
    assert outputs[3:] == ["+15551234567\n"]


def test_a_type_checker_knows_the_messages(stubs: Environment, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(TYPED)
    options = [f"--python-executable={stubs.python}", "--ignore-missing-imports", "--no-incremental", "--config-file="]
    command = [sys.executable, "-m", "mypy", *options, str(program)]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    assert re.findall(r'Revealed type is "(.*?)"', found) == ["participants.v1.participant_pb2.Participant", "str"]
    assert 'incompatible type "int"; expected "str"' in found
