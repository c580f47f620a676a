"""Envoy in front of our gRPC server, transcoding JSON: the gateway that one would otherwise run."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
from google.api import annotations_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from participants.v1 import participant_service_pb2

from tests.bench.systems.process import Server, stop

ENVOY = Path(sys.executable).parent / "envoy"
START_TIMEOUT = 20.0


@contextmanager
def envoy(grpc_server: Server, directory: Path) -> Iterator[Server]:
    """Runs an Envoy that leads to a gRPC server, with its settings in `directory`. Both count as the server."""
    descriptors = directory / "image.binpb"
    descriptors.write_bytes(_descriptors())
    port = _free_port()
    settings = directory / "envoy.json"
    settings.write_bytes(orjson.dumps(_settings(port, grpc_server.address, descriptors)))
    command = [str(ENVOY), "--config-path", str(settings), "--disable-hot-restart", "--log-level", "error"]
    with subprocess.Popen(command, text=True) as process:
        try:
            _wait_for(process, port)
            yield Server(f"127.0.0.1:{port}", [process.pid, *grpc_server.pids])
        finally:
            stop(process)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _wait_for(process: subprocess.Popen[str], port: int) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("envoy did not start") from None
            time.sleep(0.05)
        else:
            return


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


def _settings(port: int, upstream: str, descriptors: Path) -> dict[str, Any]:
    connection_manager = _typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="http",
        codec_type="HTTP1",
        route_config={
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "grpc"}}]}
            ]
        },
        http_filters=[
            {"name": "transcoder", "typed_config": _transcoder(descriptors)},
            {"name": "router", "typed_config": _typed("envoy.extensions.filters.http.router.v3.Router")},
        ],
    )
    listener = {
        "address": _address("127.0.0.1", port),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": connection_manager}]}],
    }
    return {"static_resources": {"listeners": [listener], "clusters": [_cluster(upstream)]}}


def _transcoder(descriptors: Path) -> dict[str, Any]:
    return _typed(
        "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(descriptors),
        services=["participants.v1.ParticipantService"],
        print_options={"always_print_primitive_fields": True, "preserve_proto_field_names": True},
    )


def _cluster(upstream: str) -> dict[str, Any]:
    host, _, port = upstream.rpartition(":")
    endpoint = {"endpoint": {"address": _address(host, int(port))}}
    options = _typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options": {}},
    )
    return {
        "name": "grpc",
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": "grpc", "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(host: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": host, "port_value": port}}


def _typed(name: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{name}", **fields}
