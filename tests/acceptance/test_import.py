"""`participants import`: bulk upserts through a running service."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from tests.conftest import Deployment
from tests.support.process import COMMAND, environment, run


@pytest.fixture
def env(deployment: Deployment) -> dict[str, str]:
    """What an import needs to know of the running service."""
    return environment(
        DATABASE_URL=deployment.conninfo,
        PARTICIPANTS_GRPC_ADDRESS=deployment.service.grpc_address,
        PARTICIPANTS_API_KEY=deployment.tenant.key,
    )


def json_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def rejects(file: Path) -> dict[int, str]:
    """Returns the reasons in a rejects file, by line number."""
    lines = file.with_name(f"{file.name}.rejects.jsonl").read_text().splitlines()
    return {reject["line"]: reject["reason"] for reject in map(json.loads, lines)}


def stored(deployment: Deployment, external_id: str) -> Mapping[str, Any]:
    with psycopg.connect(deployment.conninfo, row_factory=psycopg.rows.dict_row) as connection:
        row = connection.execute("SELECT * FROM participants WHERE external_id = %s", [external_id]).fetchone()
    assert row is not None
    return row


def test_an_import_can_be_run_again(env: dict[str, str], tmp_path: Path) -> None:
    prefix = uuid4()
    rows = [{"external_id": f"{prefix}-{number}", "attributes": {"n": str(number)}} for number in range(1_300)]
    first = run("import", str(json_lines(tmp_path / "rows.jsonl", rows)), env=env)
    assert (first.returncode, first.stdout.split(" (")[0]) == (
        0,
        "created 1,300, updated 0, unchanged 0, rejected 0",
    )
    rows[7]["attributes"] = {"n": "changed"}
    second = run("import", str(json_lines(tmp_path / "rows.jsonl", rows)), env=env)
    assert second.stdout.startswith("created 0, updated 1, unchanged 1,299, rejected 0")


def test_rows_that_fail_are_told_with_line_and_reason(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"external_id": "good"}\n\n{"external_id": ""}\nnot json\n{"external_id": "x", "counters": {}}\n')
    finished = run("import", str(file), env=env)
    assert finished.returncode == 1
    assert finished.stdout.startswith("created 1, updated 0, unchanged 0, rejected 3")
    reasons = rejects(file)
    assert sorted(reasons) == [3, 4, 5]
    assert "external_id" in reasons[3]
    assert "JSON" in reasons[4]
    assert "counters" in reasons[5]


def test_a_line_without_end_is_rejected_and_the_next_one_read(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"external_id": "{"x" * (3 << 20)}"}}\n{{"external_id": "after the long line"}}\n')
    finished = run("import", str(file), env=env)
    assert finished.stdout.startswith("created 1, updated 0, unchanged 0, rejected 1")
    assert "longer than" in rejects(file)[1]


def test_csv_columns_are_fields_tags_and_attributes(
    env: dict[str, str], deployment: Deployment, tmp_path: Path
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "external_id,display_name,status,tags,attributes.plan,attributes.note\n"
        'csv-1,"Doe, Jane",SUSPENDED,VIP;gold,premium,"two\nlines"\n'
        "csv-2,,,,,\n"
        "csv-3,too,few\n"
        "csv-4,,RETIRED,,,\n"
    )
    finished = run("import", str(file), env=env)
    assert finished.stdout.startswith("created 2, updated 0, unchanged 0, rejected 2"), finished
    row = stored(deployment, "csv-1")
    assert (row["display_name"], row["status"], row["tags"]) == ("Doe, Jane", "SUSPENDED", ["vip", "gold"])
    assert row["attributes"] == {"plan": "premium", "note": "two\nlines"}
    assert stored(deployment, "csv-2")["display_name"] is None
    reasons = rejects(file)
    assert "3 cells" in reasons[5]
    assert "status" in reasons[6]


def test_a_csv_that_is_not_utf_8_is_rejected_row_by_row(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"external_id,first_name\nlatin-1,Ren\xe9\nutf-8,Ren\xc3\xa9\n")
    finished = run("import", str(file), env=env)
    assert finished.stdout.startswith("created 1, updated 0, unchanged 0, rejected 1")
    assert "first_name" in rejects(file)[2]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.csv", "external_id,nickname\n", "nickname"),
        ("rows.csv", "email\n", "external_id"),
        ("rows.csv", "external_id,external_id\n", "twice"),
        ("rows.xlsx", "", "--format"),
    ],
)
def test_a_file_that_cannot_be_read_is_one_line(
    env: dict[str, str], tmp_path: Path, name: str, content: str, said: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    finished = run("import", str(file), env=env)
    assert finished.returncode == 1
    assert said in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_rows_of_one_participant_apply_in_order(env: dict[str, str], deployment: Deployment, tmp_path: Path) -> None:
    external_id = f"ordered-{uuid4()}"
    rows = [{"external_id": external_id, "display_name": f"name {number}"} for number in range(700)]
    finished = run("import", str(json_lines(tmp_path / "rows.jsonl", rows)), env=env)
    assert finished.stdout.startswith("created 1, updated 699, unchanged 0, rejected 0")
    assert stored(deployment, external_id)["display_name"] == "name 699"


def test_standard_input_is_a_file_too(env: dict[str, str], tmp_path: Path) -> None:
    row = json.dumps({"external_id": f"stdin-{uuid4()}"})
    finished = subprocess.run(
        [COMMAND, "import", "-", "--format", "jsonl", "--rejects", tmp_path / "rejects"],
        input=row, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert finished.stdout.startswith("created 1")


def test_a_key_that_is_not_accepted_is_one_line(env: dict[str, str], tmp_path: Path) -> None:
    file = json_lines(tmp_path / "rows.jsonl", [{"external_id": "x"}])
    finished = run("import", str(file), env={**env, "PARTICIPANTS_API_KEY": "sk_nobody"})
    assert finished.returncode == 1
    assert "UNAUTHENTICATED" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_an_interrupted_import_says_how_far_it_came(env: dict[str, str], tmp_path: Path) -> None:
    prefix = uuid4()
    file = json_lines(tmp_path / "rows.jsonl", [{"external_id": f"{prefix}-{number}"} for number in range(300_000)])
    process = subprocess.Popen(
        [COMMAND, "import", file], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "rows/s" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert output.startswith("interrupted: created ")
    assert "Traceback" not in errors
