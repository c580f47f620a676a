"""The participant service. README.md, in this folder, is the map."""

import os

# grpcio reads this when it is first imported, which may be anywhere below.
# It reports each fork, and stopping the embedded Postgres forks.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
