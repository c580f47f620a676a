"""The README's examples work as they are printed; only the ports are the test's own."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.conftest import PREFIX, fresh_database
from tests.support.clients import GrpcClient
from tests.support.process import Service, environment
from tests.support.seed import Seed, own_directory

# Runs the command of the installation in place of the image's.
DOCKER = 'docker() { shift; while [ "$1" != participants ]; do shift; done; "$@"; }'
README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.fixture(scope="module")
def directory(seed: Seed) -> Iterator[Path]:
    """Where somebody has typed `make serve`: the data is in .data."""
    with own_directory() as checkout:
        seed.plant(checkout / ".data")
        yield checkout


@pytest.fixture(scope="module")
def service(directory: Path) -> Iterator[Service]:
    running = Service(environment(PARTICIPANTS_DATA_DIR=str(directory / ".data")))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def printed(service: Service, directory: Path) -> Mapping[str, str]:
    """What the shell prints for each example of the section on the API, by the example's first word."""
    output = {}
    for block in examples("The API", "sh"):
        if not block.startswith("export"):
            output[block.split()[0]] = shell(f"export KEY=$(cat .data/development-key)\n{block}", service, directory)
    return output


def examples(section: str, language: str) -> list[str]:
    text = README.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def shell(script: str, service: Service, directory: Path) -> str:
    script = script.replace("127.0.0.1:50051", service.grpc_address).replace("http://127.0.0.1:8080", service.http_url)
    env = environment()
    env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=directory, env=env, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_image_serves_on_a_postgres_of_ones_own(postgres: str, service: Service, directory: Path) -> None:
    _, export, *commands, serve = examples("Two commands", "sh")[1].splitlines()
    with fresh_database(postgres, f"{PREFIX}_readme") as conninfo:
        export = f"{export.partition('=')[0]}={shlex.quote(conninfo)}"
        key = shell("\n".join([DOCKER, export, *commands]), service, directory).splitlines()[-1]
        assert serve.endswith(" participants serve")
        running = Service(environment(DATABASE_URL=conninfo))
        client = GrpcClient(running.grpc_address, key)
        try:
            assert client.create({"external_id": "user_1"}).result == "CREATED"
        finally:
            client.close()
            running.stop()


def test_the_grpcurl_examples_describe_and_create(printed: Mapping[str, str]) -> None:
    assert "rpc BatchCreateParticipants" in printed["grpcurl"]
    assert '"result": "CREATED"' in printed["grpcurl"]


def test_the_curl_examples_create_and_batch(printed: Mapping[str, str]) -> None:
    assert '"tags":["vip"]' in printed["curl"]
    assert '"status":"SUSPENDED"' in printed["curl"]
    assert '"result":"UPDATED"' in printed["curl"]
    assert '"code":3' in printed["curl"]


def test_the_python_example_creates(service: Service, directory: Path) -> None:
    (program,) = examples("The API", "python")
    (directory / "example.py").write_text(program.replace("127.0.0.1:50051", service.grpc_address))
    assert shell("KEY=$(cat .data/development-key) python example.py", service, directory).startswith("CREATED ")


def test_the_commands_for_keys_and_programs_work(service: Service, directory: Path) -> None:
    commands = "\n".join(examples("Keys", "sh")).splitlines()
    assert shell(commands[0], service, directory).startswith("sk_")
    listed = shell(f"{commands[1]}", service, directory)
    key_id = re.findall(r'"key_id": "(\w+)"', listed)[0]
    assert shell(commands[2].replace("KEY_ID", key_id), service, directory).startswith("sk_")
    assert shell(commands[3].replace("KEY_ID", key_id), service, directory) == f"revoked {key_id}\n"
    assert re.fullmatch(r"[0-9a-f-]{36}\n", shell(commands[4], service, directory))


def test_the_imports_work(service: Service, directory: Path) -> None:
    (directory / "members.jsonl").write_text('{"external_id": "import_1"}\n')
    (directory / "members.csv").write_text(
        "external_id,email,tags,attributes.plan\nimport_2,a@example.com,a;b,premium\n"
    )
    (directory / "crm.csv").write_text("Customer ID;Plan;Notes\nimport_3;premium;none\n")
    commands = "\n".join(examples("Bulk import", "sh"))
    output = shell(f"export PARTICIPANTS_GRPC_ADDRESS={service.grpc_address}\n{commands}", service, directory)
    assert output.count("created 1, updated 0, unchanged 0, rejected 0") == 2
    assert "valid 1, rejected 0" in output


def test_the_commands_that_read_work(printed: Mapping[str, str], service: Service, directory: Path) -> None:
    commands = "\n".join(examples("From the command line", "sh"))
    output = shell(f"export PARTICIPANTS_GRPC_ADDRESS={service.grpc_address}\n{commands}", service, directory)
    assert "EXTERNAL_ID" in output
    assert "user_1" in output
    assert '"user_1"' in (directory / "members.jsonl").read_text()


def test_the_settings_table_has_every_variable() -> None:
    source = (Path(__file__).parents[2] / "server" / "config.py").read_text()
    variables = set(re.findall(r"\b(?:PARTICIPANTS_[A-Z_]+|DATABASE_URL)\b", source))
    assert variables <= set(re.findall(r"^\| `(\w+)` \|", README, flags=re.MULTILINE))
