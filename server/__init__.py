"""The participant service. README.md, in this folder, is the map."""

import os

# grpcio reads this when it is first imported, which may be anywhere below. It reports each fork, and stopping the
# embedded Postgres forks. Its experiments stay as they are: without `event_engine_listener` a call costs a little less,
# but whatever thread touches a connection often has to read it for as long as anything comes, also the event loop's,
# and then nobody is answered. Rarely it does so anyhow: see rpc/guard/watchdog.py.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
