"""The participant service. README.md, in this folder, is the map."""

import os

# grpcio reads this when it is first imported, which may be anywhere below. Of its experiments none is set: without
# `event_engine_listener` a call costs a little less, but any thread that touches a connection may have to read it for
# as long as anything comes, also the event loop's, and then nobody is answered.
# It reports each fork, and stopping the embedded Postgres forks.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
