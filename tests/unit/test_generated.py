"""The committed stubs are byte for byte what the generator writes now."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import buf.validate.validate_pb2  # noqa: F401  # makes the options known that the file defines, and uses
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).parents[2]
WRITTEN_BY_HAND = {
    "__init__.py",
    "py.typed",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "service_config.json",
    "service_config.py",
}


def generated_files(directory: Path) -> dict[str, bytes]:
    """Returns the generated files under a directory, by path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and path.name not in WRITTEN_BY_HAND
    }


def test_the_stubs_are_what_the_protos_say(tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "protos" / "generate.py", "stubs", tmp_path], check=True)
    committed, written = generated_files(ROOT / "generated"), generated_files(tmp_path)
    assert committed.keys() == written.keys()
    differing = [path for path, content in written.items() if committed[path] != content]
    assert not differing, "run `make generate` and commit generated/"


def test_the_rendered_rules_compile_to_the_descriptor_they_come_from(tmp_path: Path) -> None:
    protos, image = ROOT / "generated" / "participants" / "protos", tmp_path / "image.binpb"
    assert protoc.main(["protoc", f"-I{protos}", f"--descriptor_set_out={image}", "buf/validate/validate.proto"]) == 0
    [compiled] = FileDescriptorSet.FromString(image.read_bytes()).file
    assert compiled == FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary())
