"""How a client finds replicas, leaves one that stops, and retries, as gRPC's service config has it.

    channel = grpc.insecure_channel(target, options=[("grpc.service_config", SERVICE_CONFIG)])

Calls go to the replicas in turn, and to those alone whose health is SERVING; a call waits for one until its deadline,
10 seconds where it sets none; what fails because of the moment is sent again, up to 4 times in all, while not too many
calls fail. All calls are safe to send again: see the README.
"""

from importlib.resources import files

SERVICE_CONFIG: str = (files(__package__) / "service_config.json").read_text()
