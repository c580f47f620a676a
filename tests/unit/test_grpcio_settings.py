"""The settings that grpcio takes from the environment when it is imported."""

import os
import subprocess
import sys
from collections.abc import Mapping

START_A_SERVER = """
import asyncio
import server.app
import grpc

async def main():
    grpc.aio.server()

asyncio.run(main())
"""


def _said(environment: Mapping[str, str]) -> str:
    """Returns what grpcio says of its settings in a new process."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("GRPC_")}
    command = [sys.executable, "-c", START_A_SERVER]
    return subprocess.run(command, check=True, env={**others, **environment}, capture_output=True, text=True).stderr


def test_grpcio_knows_the_experiment_that_is_switched_off() -> None:
    assert _said({}) == ""


def test_it_says_so_of_one_that_it_does_not_know() -> None:
    assert "Unknown experiment: no_such_engine" in _said({"GRPC_EXPERIMENTS": "-no_such_engine"})
