"""pgbench, Postgres's own benchmark tool: the same upsert with nothing between the caller and the database, one row a
statement or a hundred."""

from __future__ import annotations

import math
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import psutil

from tests.bench import workload
from tests.bench.measure import Measurement, Slot, cpu_time, measurement
from tests.bench.postgres import Database
from tests.bench.systems.statement import with_parameters

ROWS = 100
THREADS = 2
# A run's numbers are chosen at random from so many.
NUMBERS = 1_000_000


def single_row_script(first: int, participants: int) -> str:
    """Returns a script that upserts one participant a run."""
    values = _values(":index::text", ":number::text")
    return "\n".join(
        [
            rf"\set number random({first}, {first + NUMBERS - 1})",
            rf"\set index :number * {workload.STRIDE} % {participants}",
            f"{with_parameters(values.__getitem__)};",
        ]
    )


def many_rows_script(first: int, participants: int) -> str:
    """Returns a script that upserts ROWS participants a run. They are in the order of their keys: two runs that have
    some in common must not deadlock."""
    values = _values(f"(number * {workload.STRIDE} % {participants})::text", "number::text")
    before, _, rest = with_parameters(values.__getitem__).partition("VALUES (")
    row, _, after = rest.partition("\n)\n")
    rows = f"SELECT {row}\nFROM generate_series(:number::bigint, :number::bigint + {ROWS - 1}) AS number\nORDER BY 3"
    return "\n".join([rf"\set number random({first}, {first + NUMBERS - ROWS})", f"{before}{rows}\n{after};"])


def _values(index: str, number: str) -> dict[str, str]:
    """Returns what to write for each parameter of the statement, given SQL for a participant's index and a number."""
    before, after = orjson.dumps({**workload.ATTRIBUTES, workload.CHANGING: "?"}).decode().split("?")
    return {
        "organization_id": ":organization_id",
        "participant_id": "gen_random_uuid()",
        "external_id": f"('user-' || lpad({index}, 7, '0'))",
        "status": "NULL",
        **{name: f"'{value}'" for name, value in workload.PROFILE.items()},
        "attributes": f"('{before}' || lpad({number}, 10, '0') || '{after}')",
        "tags": f"'{{{','.join(workload.TAGS)}}}'",
    }


def measure(database: Database, script: str, callers: int, slot: Slot, rows_per_request: int = 1) -> Measurement:
    """Runs pgbench, and measures a window of its run."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "script.sql").write_text(script)
        with subprocess.Popen(
            # It ends well after the window: connections that close would take their processor time away.
            _command(database, callers, math.ceil(slot.warm_up + slot.seconds) + 1),
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            time.sleep(slot.warm_up)
            cpu, started = cpu_time([process.pid], database.postmaster), time.time()
            time.sleep(slot.seconds)
            cpu, ended = cpu_time([process.pid], database.postmaster) - cpu, time.time()
            _, errors = process.communicate()
        if process.returncode != 0:
            raise RuntimeError(f"pgbench failed: {errors}")
        latencies = list(_latencies(directory, started, ended))
    return measurement(latencies, ended - started, cpu.without_server(), cpu.server, rows_per_request)


def _command(database: Database, callers: int, seconds: int) -> list[str]:
    pgbench = Path(psutil.Process(database.postmaster).exe()).with_name("pgbench")
    threads = min(THREADS, callers)
    return [
        str(pgbench), "--no-vacuum", "--protocol=prepared", "--file=script.sql", "--log",
        f"--client={callers}", f"--jobs={threads}", f"--time={seconds}",
        f"--define=organization_id={database.organization_id}", database.conninfo,
    ]  # fmt: skip


def _latencies(directory: Path, started: float, ended: float) -> Iterator[float]:
    """Yields the seconds of each transaction that ended in the window, from the logs that pgbench wrote."""
    for log in directory.glob("pgbench_log.*"):
        for line in log.read_text().splitlines():
            _, _, microseconds, _, second, microsecond = line.split()
            if started <= int(second) + int(microsecond) / 1e6 < ended:
                yield int(microseconds) / 1e6
