"""What holds off from grpcio whoever takes too much: floods, crowds, and callers that do not read."""
