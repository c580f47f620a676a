"""The gRPC server: what it serves and where it listens."""

from __future__ import annotations

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from participants.v1 import participant_service_pb2

from server.config import Address
from server.ports import bound
from server.rpc.handlers import service_handlers
from server.rpc.health import Health
from server.rpc.pipeline import Pipeline
from server.rpc.servicer import ParticipantServicer

SERVICE = participant_service_pb2.DESCRIPTOR.services_by_name["ParticipantService"]
# Room for the largest valid CreateParticipant (256 attributes of 4,096 code points are 4.5 MiB) and for a batch.
MAX_REQUEST_BYTES = 16 << 20


def grpc_server(
    servicer: ParticipantServicer, pipeline: Pipeline, health_service: Health, *, reflect: bool, share_port: bool
) -> grpc.aio.Server:
    """Returns a server that listens nowhere yet. `share_port` lets several processes listen on one port."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", int(share_port)),
            ("grpc.max_receive_message_length", MAX_REQUEST_BYTES),
            # What was written is answered, whatever its size.
            ("grpc.max_send_message_length", -1),
        ],
    )
    server.add_generic_rpc_handlers((service_handlers(SERVICE, servicer, pipeline),))
    health_pb2_grpc.add_HealthServicer_to_server(health_service.servicer, server)
    if reflect:
        reflection.enable_server_reflection((SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server)
    return server


def listen(server: grpc.aio.Server, address: Address, *, share_port: bool) -> Address:
    """Binds the server, and returns the address with the port it got. Raises ConfigurationError."""
    # grpcio says of a port that it cannot have neither why nor in one line: ours is the first try.
    with bound(address, "PARTICIPANTS_GRPC_ADDRESS", share=share_port):
        pass
    return Address(address.host, server.add_insecure_port(str(address)))
