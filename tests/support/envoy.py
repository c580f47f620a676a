"""Envoy as a process, with what all of its settings need."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

COMMAND = Path(sys.executable).parent / "envoy"
START_TIMEOUT = 20.0
STOP_TIMEOUT = 10.0


@contextmanager
def envoy(settings: Callable[[int], Mapping[str, Any]], directory: Path) -> Iterator[tuple[str, int]]:
    """Runs an Envoy with the settings for a port, which it keeps in `directory`; yields its address and its pid."""
    port = _free_port()
    file = directory / "envoy.json"
    file.write_bytes(orjson.dumps(settings(port)))
    command = [str(COMMAND), "--config-path", str(file), "--disable-hot-restart", "--log-level", "error"]
    with subprocess.Popen(command) as process:
        try:
            _wait_for(process, port)
            yield f"127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()


def typed(name: str, **fields: Any) -> dict[str, Any]:
    """Returns an extension's settings."""
    return {"@type": f"type.googleapis.com/{name}", **fields}


def address(host_and_port: str) -> dict[str, Any]:
    """Returns HOST:PORT as Envoy has it."""
    host, _, port = host_and_port.rpartition(":")
    return {"socket_address": {"address": host, "port_value": int(port)}}


def listener(port: int, codec: str, cluster: str, *filters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a listener that leads all requests through the HTTP filters, and at last to a cluster."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": cluster}}
    router = {"name": "router", "typed_config": typed("envoy.extensions.filters.http.router.v3.Router")}
    manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="http",
        codec_type=codec,
        route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        http_filters=[*filters, router],
    )
    chain = {"filters": [{"name": "http", "typed_config": manager}]}
    return {"address": address(f"127.0.0.1:{port}"), "filter_chains": [chain]}


def cluster(name: str, addresses: Sequence[str], *, http2: bool, **more: Any) -> dict[str, Any]:
    """Returns a cluster of servers."""
    endpoints = [{"endpoint": {"address": address(host_and_port)}} for host_and_port in addresses]
    options = typed(
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config={"http2_protocol_options" if http2 else "http_protocol_options": {}},
    )
    return {
        "name": name,
        "type": "STATIC",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        **more,
    }


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return int(bound.getsockname()[1])


def _wait_for(process: subprocess.Popen[bytes], port: int) -> None:
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
