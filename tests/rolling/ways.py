"""The ways in which callers reach two replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from participants.v1.service_config import SERVICE_CONFIG

from server.api.servicer import SERVICE
from tests.faults.cluster import Replica
from tests.rolling.callers import CALLERS, Send, by_grpc, by_http
from tests.support import envoy

ROUND_ROBIN = '{"loadBalancingConfig": [{"round_robin": {}}]}'
# How often Envoy asks for a replica's health; as protobuf writes a duration in JSON.
HEALTH_INTERVAL = "0.3s"

# Yields who sends the calls of the callers, who share the senders.
Way = Callable[[Sequence[Replica], str], AbstractAsyncContextManager[Sequence[Send]]]


@asynccontextmanager
async def as_published(replicas: Sequence[Replica], key: str) -> AsyncIterator[Sequence[Send]]:
    async with _channel(replicas, ("grpc.service_config", SERVICE_CONFIG)) as channel:
        yield [by_grpc(channel, key)]


@asynccontextmanager
async def round_robin_alone(replicas: Sequence[Replica], key: str) -> AsyncIterator[Sequence[Send]]:
    async with _channel(replicas, ("grpc.service_config", ROUND_ROBIN), ("grpc.enable_retries", 0)) as channel:
        yield [by_grpc(channel, key)]


@asynccontextmanager
async def grpc_through_envoy(replicas: Sequence[Replica], key: str) -> AsyncIterator[Sequence[Send]]:
    check = {"grpc_health_check": {"service_name": SERVICE.full_name}}
    addresses = [replica.grpc_address for replica in replicas]
    with _envoy("HTTP2", addresses, check) as address:
        async with grpc.aio.insecure_channel(address, options=[("grpc.enable_retries", 0)]) as channel:
            yield [by_grpc(channel, key)]


@asynccontextmanager
async def http_through_envoy(replicas: Sequence[Replica], key: str) -> AsyncIterator[Sequence[Send]]:
    addresses = [replica.http_url.removeprefix("http://") for replica in replicas]
    with _envoy("HTTP1", addresses, {"http_health_check": {"path": "/readyz"}}) as address:
        yield [by_http(address, key) for _ in range(CALLERS)]


WAYS: Mapping[str, Way] = {
    "gRPC, the published service config": as_published,
    "gRPC, round robin without retries": round_robin_alone,
    "gRPC through Envoy": grpc_through_envoy,
    "HTTP through Envoy, connections kept": http_through_envoy,
}


def _channel(replicas: Sequence[Replica], *options: tuple[str, Any]) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel("ipv4:" + ",".join(replica.grpc_address for replica in replicas), options=options)


@contextmanager
def _envoy(codec: str, addresses: Sequence[str], check: Mapping[str, Any]) -> Iterator[str]:
    """Runs an Envoy that asks each server for its health, and calls only those that are well."""
    thresholds = {"unhealthy_threshold": 1, "healthy_threshold": 1}
    health_check = {"timeout": "1s", "interval": HEALTH_INTERVAL, "no_traffic_interval": HEALTH_INTERVAL, **thresholds}
    replicas = envoy.cluster(
        "replicas",
        addresses,
        http2=codec == "HTTP2",
        health_checks=[{**health_check, **check}],
        # However few are well, the others are not called.
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
    )

    def settings(port: int) -> Mapping[str, Any]:
        return {"static_resources": {"listeners": [envoy.listener(port, codec, "replicas")], "clusters": [replicas]}}

    with TemporaryDirectory() as directory, envoy.envoy(settings, Path(directory)) as (address, _):
        yield address
