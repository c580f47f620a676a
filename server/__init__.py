"""The participant service. README.md, in this folder, is the map."""

import os

# grpcio reads these when it is first imported, which may be anywhere below. With the engine that it takes for a
# server's connections of late, what is read goes from thread to thread; with the one it took before, the thread that
# waits for a socket reads it, and a call takes three quarters of the time.
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_listener")
# It reports each fork, and stopping the embedded Postgres forks.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
