"""`participants health`"""

from __future__ import annotations

import os
import sys

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.cli.parameters import TEXT
from server.client import open_channel, tls_hint
from server.config import read_settings

TIMEOUT = 3.0


@click.command()
@click.option(
    "--service",
    type=TEXT,
    default="",
    help="The name to ask about, such as liveness. By default the service as a whole.",
)
def health(service: str) -> None:
    """Ask the service on this machine whether it serves.

    Exit status 0 when it does, 1 when it does not or gives no answer.
    """
    settings = read_settings(os.environ)
    with open_channel(settings) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            address, why = settings.grpc_address.reachable(), tls_hint(settings, error.details() or "")
            sys.exit(f"participants: no answer from {address}: {error.code().name}{why}")
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    click.echo(status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(1)
