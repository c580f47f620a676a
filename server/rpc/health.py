"""grpc.health.v1.Health, as the protocol describes it, over the service's readiness."""

from __future__ import annotations

from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from server.operations.health import Health
from server.rpc.contexts import Context, abort, write
from server.rpc.keyless import Keyless

# The names that follow the database. `liveness` does not: a failover must not restart every pod.
READINESS_NAMES = ("", "participants.v1.ParticipantService", "readiness")
LIVENESS = "liveness"


class HealthService:
    """Answers health probes and watches. They need no key."""

    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(self, request: Any, context: Context) -> Any:
        """Returns the status of one name. An unknown one is NOT_FOUND."""
        answer = self._answer(request.service)
        if answer.status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN:
            await abort(context, grpc.StatusCode.NOT_FOUND, "there is no service of this name")
        return answer

    async def List(self, request: Any, context: Context) -> Any:  # noqa: ARG002  # gRPC's signature
        """Returns the status of every name."""
        return health_pb2.HealthListResponse(
            statuses={name: self._answer(name) for name in (*READINESS_NAMES, LIVENESS)}
        )

    async def Watch(self, request: Any, context: Context) -> None:
        """Sends the status of one name, and again whenever it changes.

        A client that does not read holds up this call alone, and gets the latest status when it reads on.
        """
        sent = None
        while True:
            changed = self._health.changed
            answer = self._answer(request.service)
            if answer != sent:
                await write(context, answer)
                sent = answer
            await changed.wait()

    def _answer(self, name: str) -> Any:
        statuses = health_pb2.HealthCheckResponse
        if name == LIVENESS:
            return statuses(status=statuses.SERVING)
        if name not in READINESS_NAMES:
            return statuses(status=statuses.SERVICE_UNKNOWN)
        return statuses(status=statuses.SERVING if self._health.ready else statuses.NOT_SERVING)


def health_handlers(health: Health, keyless: Keyless) -> grpc.GenericRpcHandler:
    """Returns the handlers of the service."""
    service = HealthService(health)
    return grpc.method_handlers_generic_handler(
        health_pb2.DESCRIPTOR.services_by_name["Health"].full_name,
        {
            "Check": keyless.answering(service.Check, health_pb2.HealthCheckRequest),
            "List": keyless.answering(service.List, health_pb2.HealthListRequest),
            "Watch": keyless.sending(service.Watch, health_pb2.HealthCheckRequest),
        },
    )
