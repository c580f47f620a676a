"""Envoy in front of our gRPC server, transcoding JSON: the gateway that one would otherwise run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from participants.v1 import participant_service_pb2

from tests.bench.systems.process import Server
from tests.support import envoy as support


@contextmanager
def envoy(grpc_server: Server, directory: Path) -> Iterator[Server]:
    """Runs an Envoy that leads to a gRPC server, with its settings in `directory`. Both count as the server."""
    descriptors = directory / "image.binpb"
    descriptors.write_bytes(_descriptors())

    def settings(port: int) -> dict[str, Any]:
        transcoder = {"name": "transcoder", "typed_config": _transcoder(descriptors)}
        return {
            "static_resources": {
                "listeners": [support.listener(port, "HTTP1", "grpc", transcoder)],
                "clusters": [support.cluster("grpc", [grpc_server.address], http2=True)],
            }
        }

    with support.envoy(settings, directory) as (address, pid):
        yield Server(address, [pid, *grpc_server.pids])


def _descriptors() -> bytes:
    """Returns the protos as Envoy takes them: it knows no `response_body`, so it answers the whole response."""
    files: dict[str, FileDescriptorProto] = {}
    _collect(participant_service_pb2.DESCRIPTOR, files)
    for method in files[participant_service_pb2.DESCRIPTOR.name].service[0].method:
        method.options.Extensions[annotations_pb2.http].ClearField("response_body")
    return FileDescriptorSet(file=files.values()).SerializeToString()


def _collect(file: FileDescriptor, files: dict[str, FileDescriptorProto]) -> None:
    for dependency in file.dependencies:
        _collect(dependency, files)
    files[file.name] = FileDescriptorProto.FromString(file.serialized_pb)


def _transcoder(descriptors: Path) -> dict[str, Any]:
    return support.typed(
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(descriptors),
        services=["participants.v1.ParticipantService"],
        print_options={"always_print_primitive_fields": True, "preserve_proto_field_names": True},
    )
