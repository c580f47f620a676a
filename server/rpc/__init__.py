"""gRPC: the servicer and what every call passes through on its way to it."""
