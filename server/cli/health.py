"""`participants health`"""

from __future__ import annotations

import os
import sys

import click
import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from server.config import read_settings

TIMEOUT = 3.0


@click.command()
@click.option("--service", default="", help="The health name to ask for, such as liveness; empty is the whole.")
def health(service: str) -> None:
    """Ask the service on this machine how it is: exit status 0 when it serves, 1 when it does not."""
    address = read_settings(os.environ).grpc_address.reachable()
    with grpc.insecure_channel(str(address)) as channel:
        try:
            request = health_pb2.HealthCheckRequest(service=service)
            answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=TIMEOUT)
        except grpc.RpcError as error:
            sys.exit(f"participants: no answer from {address}: {error.code().name}")
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    click.echo(status)
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        sys.exit(1)
