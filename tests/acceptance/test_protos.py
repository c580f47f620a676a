"""`participants protos`: a folder from which callers in any language work, and which needs no other."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from tests.conftest import Deployment
from tests.support.process import environment, refusal, run

ROOT = Path(__file__).parents[2]
SERVICE = "participants/v1/participant_service.proto"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command wrote, in a directory of its own."""
    directory = tmp_path_factory.mktemp("protos") / "made" / "on demand"
    completed = run("protos", str(directory), env=environment())
    assert completed.returncode == 0, completed
    return directory


def test_protoc_needs_nothing_else(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.binpb"
    assert protoc.main(["protoc", f"-I{folder}", "--include_imports", f"--descriptor_set_out={image}", SERVICE]) == 0
    compiled = {file.name for file in FileDescriptorSet.FromString(image.read_bytes()).file}
    assert compiled == {str(path.relative_to(folder)) for path in folder.rglob("*.proto")}


def test_buf_needs_nothing_else(folder: Path) -> None:
    buf = Path(sys.executable).parent / "buf"
    built = subprocess.run([buf, "build", folder, "-o", "/dev/null"], capture_output=True, text=True, check=False)
    assert (built.returncode, built.stderr) == (0, "")


def test_our_own_are_those_of_the_checkout(folder: Path) -> None:
    own = ROOT / "protos" / "participants"
    for path in own.rglob("*.proto"):
        assert (folder / "participants" / path.relative_to(own)).read_bytes() == path.read_bytes()


def test_writing_them_again_replaces_them(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    (tmp_path / SERVICE).write_text("old")
    (tmp_path / "mine.proto").write_text("mine")
    assert run("protos", str(tmp_path), env=environment()).returncode == 0
    assert (tmp_path / SERVICE).read_bytes() == (folder / SERVICE).read_bytes()
    assert (tmp_path / "mine.proto").read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in refusal(run("protos", str(tmp_path / "file" / "protos"), env=environment()))


@pytest.fixture(scope="module")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with gRPC for Node."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("there is no npm here")
    directory = tmp_path_factory.mktemp("node")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "@grpc/grpc-js", "@grpc/proto-loader"]
    installed = subprocess.run(install, cwd=directory, capture_output=True, text=True, check=False, timeout=50)
    if installed.returncode:
        pytest.skip(f"npm cannot install gRPC for Node here: {installed.stderr[-200:]}")
    return directory


def test_the_readme_s_example_calls_the_service_from_node(
    folder: Path, node_modules: Path, deployment: Deployment
) -> None:
    [program] = re.findall(r"```js\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    program = program.replace("127.0.0.1:50051", deployment.service.grpc_address).replace('"protos"', f'"{folder}"')
    (node_modules / "example.js").write_text(program)
    called = subprocess.run(
        ["node", "example.js"],
        cwd=node_modules, env=environment(KEY=deployment.tenant.key), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (called.returncode, called.stderr) == (0, "")
    assert re.fullmatch(r"CREATED [0-9a-f-]{36}\n", called.stdout)
