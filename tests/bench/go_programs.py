"""The programs in Go, `go/server` and `go/callers`: built with the Go and the libraries that Debian packages, and left
out where those are missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, ServiceDescriptorProto
from participants.v1 import participant_pb2, participant_service_pb2

SOURCES = Path(__file__).parent / "go"
# Where Debian puts the sources of libraries.
LIBRARIES = Path("/usr/share/gocode")
NEEDED_TOOLS = ("go", "protoc", "protoc-gen-go-grpc")
NEEDED_LIBRARIES = ("google.golang.org/grpc", "google.golang.org/protobuf", "github.com/jackc/pgx/v4")
PACKAGES = (
    "golang-go protobuf-compiler protoc-gen-go-grpc golang-google-grpc-dev golang-google-protobuf-dev "
    "golang-github-jackc-pgx-v4-dev"
)
_GO_PACKAGE = "bench/messages"
_METHOD = "CreateParticipant"


def missing() -> list[str]:
    """Returns which tools and libraries are not here."""
    tools = [tool for tool in NEEDED_TOOLS if shutil.which(tool) is None]
    return tools + [library for library in NEEDED_LIBRARIES if not (LIBRARIES / "src" / library).is_dir()]


def built(program: str) -> Path:
    """Builds `server` or `callers`, quickly when nothing has changed, and returns the executable."""
    workspace = Path(sys.prefix) / "go"
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{workspace}:{LIBRARIES}"}
    shutil.copytree(SOURCES, workspace / "src" / "bench", dirs_exist_ok=True)
    _generate_messages(workspace, environment)
    executable = workspace / "bin" / program
    _run(["go", "build", "-o", str(executable), f"bench/{program}"], environment)
    return executable


def _generate_messages(workspace: Path, environment: dict[str, str]) -> None:
    plugin = workspace / "bin" / "protoc-gen-go"
    _run(["go", "build", "-o", str(plugin), "google.golang.org/protobuf/cmd/protoc-gen-go"], environment)
    files = _files()
    image = workspace / "image.binpb"
    image.write_bytes(FileDescriptorSet(file=files).SerializeToString())
    names = [file.name for file in files[1:]]
    output = workspace / "src"
    protoc = ["protoc", f"--descriptor_set_in={image}"]
    _run([*protoc, f"--plugin={plugin}", f"--go_out={output}", *names], environment)
    # Debian's plugin for services knows no optional fields, of which services have none.
    image.write_bytes(FileDescriptorSet(file=map(_without_presence, files)).SerializeToString())
    _run([*protoc, f"--go-grpc_out={output}", names[-1]], environment)


def _files() -> list[FileDescriptorProto]:
    """Returns as much of our protos as CreateParticipant needs, after what they import: without options, for which
    Go would need more packages."""
    messages = FileDescriptorProto.FromString(participant_pb2.DESCRIPTOR.serialized_pb)
    service = FileDescriptorProto.FromString(participant_service_pb2.DESCRIPTOR.serialized_pb)
    kept = [message for message in service.message_type if message.name.startswith(_METHOD)]
    (method,) = (method for method in service.service[0].method if method.name == _METHOD)
    method.ClearField("options")
    service = FileDescriptorProto(
        name=service.name,
        package=service.package,
        syntax=service.syntax,
        dependency=[messages.name],
        message_type=kept,
        service=[ServiceDescriptorProto(name=service.service[0].name, method=[method])],
    )
    for file in (messages, service):
        file.options.Clear()
        file.options.go_package = _GO_PACKAGE
        for message in file.message_type:
            for field in message.field:
                field.ClearField("options")
    timestamp = FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb)
    return [timestamp, messages, service]


def _without_presence(file: FileDescriptorProto) -> FileDescriptorProto:
    plain = FileDescriptorProto()
    plain.CopyFrom(file)
    for message in plain.message_type:
        for field in message.field:
            field.ClearField("proto3_optional")
            field.ClearField("oneof_index")
        message.ClearField("oneof_decl")
    return plain


def _run(command: Iterable[str], environment: dict[str, str]) -> None:
    subprocess.run(list(command), env=environment, check=True, stdout=sys.stderr)
