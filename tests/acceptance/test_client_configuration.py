"""The client configuration that participants-stubs publishes, through the loss of one of two replicas."""

from __future__ import annotations

import json
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing
from uuid import uuid4

import grpc
import pytest
from participants.v1 import participant_service_pb2 as messages
from participants.v1.participant_service_pb2_grpc import ParticipantServiceStub
from participants.v1.service_config import SERVICE_CONFIG

from server.api.servicer import SERVICE
from server.errors import Code
from server.rpc.health import READINESS_NAMES
from tests.conftest import Tenant, new_tenant
from tests.support import loopback
from tests.support.process import Service, environment, eventually

CALLERS = 16


@pytest.fixture
def tenant_and_replicas(
    new_database: Callable[[], AbstractContextManager[str]],
) -> Iterator[tuple[Tenant, list[Service]]]:
    with new_database() as conninfo:
        replicas = [Service(environment(DATABASE_URL=conninfo, PARTICIPANTS_DRAIN_SECONDS="1")) for _ in range(2)]
        yield new_tenant(conninfo, "acme"), replicas
        for replica in replicas:
            replica.stop()


class Callers:
    """Callers that create participants by one channel until closed. `failures` are the codes that they got."""

    def __init__(self, replicas: list[Service], key: str) -> None:
        target = "ipv4:" + ",".join(replica.grpc_address for replica in replicas)
        self._channel = grpc.insecure_channel(target, options=[("grpc.service_config", SERVICE_CONFIG)])
        self._create = ParticipantServiceStub(self._channel).CreateParticipant
        self._metadata = (("x-api-key", key),)
        self._enough = threading.Event()
        self._pool = ThreadPoolExecutor(CALLERS)
        self.answered = 0
        self.failures: Counter[str] = Counter()
        for _ in range(CALLERS):
            self._pool.submit(self._call_again_and_again)

    def close(self) -> None:
        self._enough.set()
        self._pool.shutdown()
        self._channel.close()

    def _call_again_and_again(self) -> None:
        while not self._enough.is_set():
            try:
                self._create(messages.CreateParticipantRequest(external_id=str(uuid4())), metadata=self._metadata)
                self.answered += 1
            except grpc.RpcError as error:
                self.failures[error.code().name] += 1


def calls_taken(replica: Service) -> float:
    exposition = loopback.get(f"{replica.http_url}/metrics").text
    return sum(
        float(line.rpartition(" ")[2])
        for line in exposition.splitlines()
        if line.startswith("grpc_server_started_total{")
    )


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_call_fails_while_one_of_two_replicas_goes(
    tenant_and_replicas: tuple[Tenant, list[Service]], number: signal.Signals
) -> None:
    tenant, replicas = tenant_and_replicas
    with closing(Callers(replicas, tenant.key)) as callers:
        # Both are used.
        eventually(lambda: all(calls_taken(replica) > 50 for replica in replicas), timeout=30)
        replicas[0].signal(number)
        replicas[0].wait()
        answered = callers.answered
        eventually(lambda: callers.answered > answered + 200, timeout=30)
    assert callers.failures == {}


def test_it_names_what_the_service_has() -> None:
    config = json.loads(SERVICE_CONFIG)
    assert config["healthCheckConfig"]["serviceName"] == SERVICE.full_name
    assert SERVICE.full_name in READINESS_NAMES
    [method] = config["methodConfig"]
    assert method["name"] == [{"service": SERVICE.full_name}]
    # What the service says may be sent again, and nothing else.
    assert set(method["retryPolicy"]["retryableStatusCodes"]) == {
        code.name for code in (Code.UNAVAILABLE, Code.ABORTED, Code.RESOURCE_EXHAUSTED)
    }
