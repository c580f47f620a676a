"""`participants import`: bulk upserts through a running service."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import psycopg
import pytest
from click.testing import CliRunner

from server.cli import participants
from tests.conftest import Deployment
from tests.support.process import COMMAND, environment, eventually, refusal, run


@pytest.fixture
def env(deployment: Deployment) -> dict[str, str]:
    """What an import needs to know of the running service."""
    return environment(
        PARTICIPANTS_GRPC_ADDRESS=deployment.service.grpc_address,
        PARTICIPANTS_API_KEY=deployment.tenant.key,
    )


def json_lines(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return file


def rejects(file: Path) -> Path:
    """Returns where the rejected rows of a file are by default."""
    return file.with_suffix(f".rejects{file.suffix}")


def reasons(rejects: Path) -> dict[int, str]:
    """Returns the reasons beside a rejects file, by line number and in their order."""
    lines = rejects.with_name(f"{rejects.name}.reasons.jsonl").read_text().splitlines()
    return {reject["line"]: reject["reason"] for reject in map(json.loads, lines)}


def stored(deployment: Deployment, external_id: str) -> Mapping[str, Any]:
    with psycopg.connect(deployment.conninfo, row_factory=psycopg.rows.dict_row) as connection:
        row = connection.execute(
            "SELECT * FROM participants WHERE (organization_id, external_id) = (%s, %s)",
            [deployment.tenant.organization_id, external_id],
        ).fetchone()
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
    told = reasons(rejects(file))
    assert list(told) == [3, 4, 5]
    assert "external_id" in told[3]
    assert "JSON" in told[4]
    assert "counters" in told[5]
    assert rejects(file).read_text().splitlines() == file.read_text().splitlines()[2:]


def test_a_line_without_end_is_rejected_and_the_next_one_read(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"external_id": "{"x" * (3 << 20)}"}}\n{{"external_id": "after the long line"}}\n')
    finished = run("import", str(file), env=env)
    assert finished.stdout.startswith("created 1, updated 0, unchanged 0, rejected 1")
    assert "longer than" in reasons(rejects(file))[1]
    assert rejects(file).read_text() == file.read_text().splitlines(keepends=True)[0]


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
    told = reasons(rejects(file))
    assert "3 cells" in told[5]
    assert "status" in told[6]


def test_a_csv_that_is_not_utf_8_is_rejected_row_by_row(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(b"external_id,first_name\nlatin-1,Ren\xe9\nutf-8,Ren\xc3\xa9\n")
    finished = run("import", str(file), env=env)
    assert finished.stdout.startswith("created 1, updated 0, unchanged 0, rejected 1")
    assert "not UTF-8, line 2" in reasons(rejects(file))[2]
    assert "not UTF-8: 1 lines; say --encoding" in finished.stderr
    assert rejects(file).read_bytes() == b"external_id,first_name\nlatin-1,Ren\xe9\n"


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


def test_a_service_that_is_not_there_is_one_line(env: dict[str, str], tmp_path: Path) -> None:
    file = json_lines(tmp_path / "rows.jsonl", [{"external_id": "x"}])
    line = refusal(run("import", str(file), env={**env, "PARTICIPANTS_GRPC_ADDRESS": "127.0.0.1:1"}))
    assert "127.0.0.1:1" in line


def test_a_key_that_is_not_accepted_is_one_line(env: dict[str, str], tmp_path: Path) -> None:
    file = json_lines(tmp_path / "rows.jsonl", [{"external_id": "x"}])
    finished = run("import", str(file), env={**env, "PARTICIPANTS_API_KEY": "sk_nobody"})
    assert finished.returncode == 1
    assert "UNAUTHENTICATED" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_an_interrupted_import_says_how_far_it_came(env: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "import", "-", "--format", "jsonl", "--rejects", tmp_path / "rejects"],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process, ThreadPoolExecutor(1) as pool:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        # Until it ends more rows come, though not as many as could.
        pool.submit(pour, process.stdin)
        try:
            assert "rows/s" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            output, errors = process.stdout.read(), process.stderr.read()
            process.wait(20)
        finally:
            # Else an import that goes on would be waited for, and rows be poured into it, for ever.
            process.kill()
    assert process.returncode == 130
    assert output.startswith("interrupted: created ")
    assert "Traceback" not in errors


def pour(file: IO[str]) -> None:
    """Writes rows of new participants until nobody reads them."""
    prefix = uuid4()
    with suppress(BrokenPipeError):
        for batch in itertools.count():
            file.write("".join(f'{{"external_id": "{prefix}-{batch}-{number}"}}\n' for number in range(250)))
            file.flush()
            time.sleep(0.1)
    with suppress(BrokenPipeError):
        file.close()


def test_the_rejects_are_never_written_over_the_input(env: dict[str, str], tmp_path: Path) -> None:
    file = json_lines(tmp_path / "rows.jsonl", [{"external_id": ""}])
    content = file.read_bytes()
    (tmp_path / "link.jsonl").symlink_to(file)
    (tmp_path / "hard.jsonl").hardlink_to(file)
    (tmp_path / "past.jsonl.old").hardlink_to(file)
    (tmp_path / "past.jsonl").write_text("mended by hand")
    for name in ("rows.jsonl", "link.jsonl", "hard.jsonl", "past.jsonl"):
        line = refusal(run("import", str(file), "--rejects", str(tmp_path / name), env=env))
        assert "--rejects" in line
    with file.open() as opened:
        finished = subprocess.run(
            [COMMAND, "import", "-", "--format", "jsonl", "--rejects", file],
            stdin=opened, env=env, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert "--rejects" in refusal(finished)
    assert file.read_bytes() == content
    assert (tmp_path / "past.jsonl").read_text() == "mended by hand"


def test_rejects_that_are_there_are_kept(env: dict[str, str], tmp_path: Path) -> None:
    file = json_lines(tmp_path / "rows.jsonl", [{"external_id": f"kept-{uuid4()}"}])
    rejects(file).write_text("being mended")
    assert run("import", str(file), env={**env, "PARTICIPANTS_API_KEY": "sk_nobody"}).returncode == 1
    assert run("import", str(file), env=env).returncode == 0
    assert rejects(file).read_text() == "being mended"
    json_lines(file, [{"external_id": ""}])
    assert run("import", str(file), env=env).returncode == 1
    assert rejects(file).read_bytes() == file.read_bytes()
    assert rejects(file).with_name(f"{rejects(file).name}.old").read_text() == "being mended"


def test_rejects_are_mended_and_imported(env: dict[str, str], deployment: Deployment, tmp_path: Path) -> None:
    prefix = uuid4()
    heading = b'\xef\xbb\xbfexternal_id,"display_name",attributes.note,status\r\n'
    broken = f'{prefix}-odd,"Doe, ""JD"" Jane","two\r\nlines, ""quoted""\n",RETIRED\r\n'.encode()
    file = tmp_path / "rows.csv"
    good = [f'{prefix}-{number},"x",,\r\n'.encode() for number in range(1_400)]
    last = f"{prefix}-last,too few".encode()
    file.write_bytes(heading + b"".join(good[:3]) + broken + b"\r\n" + b"".join(good[3:]) + last)
    finished = run("import", str(file), env=env)
    assert finished.stdout.startswith("created 1,400, updated 0, unchanged 0, rejected 2"), finished
    assert rejects(file).read_bytes() == heading + broken + last
    assert list(reasons(rejects(file))) == [5, 1406]
    mended = rejects(file)
    mended.write_bytes(mended.read_bytes().replace(b"RETIRED", b"CLOSED") + b",,")
    finished = run("import", str(mended), env=env)
    assert finished.stdout.startswith("created 2, updated 0, unchanged 0, rejected 0"), finished
    row = stored(deployment, f"{prefix}-odd")
    assert (row["display_name"], row["attributes"]) == ('Doe, "JD" Jane', {"note": 'two\r\nlines, "quoted"\n'})


def test_rejects_are_in_the_order_of_the_lines(env: dict[str, str], tmp_path: Path) -> None:
    # The service refuses the ones, and the import itself the others.
    bad: list[dict[str, Any]] = [{"external_id": "x" * 256}, {"external_id": "x", "counters": {}}]
    rows = [bad[number % 2] if number % 3 else {"external_id": f"order-{number}"} for number in range(6_000)]
    file = json_lines(tmp_path / "rows.jsonl", rows)
    assert ", rejected 4,000" in run("import", str(file), env=env).stdout
    lines = file.read_text().splitlines(keepends=True)
    assert rejects(file).read_text() == "".join(line for number, line in enumerate(lines) if number % 3)
    assert list(reasons(rejects(file))) == [number + 1 for number in range(6_000) if number % 3]


def test_rejects_survive_a_kill(env: dict[str, str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "import", "-", "--format", "csv", "--rejects", tmp_path / "rejects.csv"],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        # Enough for the first batches to be settled; the input stays open, so the import goes on.
        process.stdin.write(b"external_id,email\n" + b"someone,no address\n" * 5_000)
        process.stdin.flush()
        eventually(lambda: (tmp_path / "rejects.csv").exists() and (tmp_path / "rejects.csv").stat().st_size > 2_000)
        process.kill()
    lines = (tmp_path / "rejects.csv").read_bytes().splitlines()
    assert lines[0] == b"external_id,email"
    assert set(lines[1:-1]) == {b"someone,no address"}


@pytest.mark.parametrize("rejects", ["/dev/null", "no/such/directory/rejects.jsonl"])
def test_rejects_that_cannot_be_written_are_one_line(env: dict[str, str], tmp_path: Path, rejects: str) -> None:
    file = json_lines(tmp_path / "rows.jsonl", [{"external_id": ""}])
    assert "--rejects" in refusal(run("import", str(file), "--rejects", rejects, env=env))


MAPPED = (
    "--map",
    "Customer ID=external_id",
    "--map",
    "E-Mail = email",
    "--map",
    "Notes=",
    "--map",
    "Plan=attributes.plan",
)


@pytest.mark.parametrize(
    ("encoding", "delimiter", "options"),
    [
        ("utf-8", ";", ()),
        ("utf-8-sig", "\t", ()),
        ("utf-16", "\t", ()),
        ("utf-16-le", ";", ("--encoding", "utf-16")),
        ("utf-16-be", ",", ("--encoding", "utf-16-be")),
        ("cp1252", ";", ("--encoding", "Windows-1252")),
        ("utf-8", "^", ("--delimiter", "^")),
        ("utf-8", "\t", ("--delimiter", "tab")),
    ],
)
def test_a_spreadsheet_is_read_as_it_was_saved(
    *,
    env: dict[str, str],
    deployment: Deployment,
    tmp_path: Path,
    encoding: str,
    delimiter: str,
    options: tuple[str, ...],
) -> None:
    external_id = f"crm-{uuid4()}"
    lines = [
        ("Customer ID", "E-Mail", "Notes", "Plan", "tags", "first_name"),
        (external_id, "rene@example.com", "left out", "gold", '"vip;new"', "René"),
        (f"{external_id}-2", "no address", "€", "", "", "Renée"),
    ]
    text = [f"{delimiter.join(cells)}\r\n" for cells in lines]
    file = tmp_path / "rows.csv"
    file.write_bytes("".join(text).encode(encoding))
    finished = run("import", str(file), *MAPPED, *options, env=env)
    assert finished.stdout.startswith("created 1, updated 0, unchanged 0, rejected 1"), finished
    row = stored(deployment, external_id)
    assert (row["first_name"], row["email"], row["tags"]) == ("René", "rene@example.com", ["vip", "new"])
    assert row["attributes"] == {"plan": "gold"}
    assert rejects(file).read_bytes() == "".join([text[0], text[2]]).encode(encoding)


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"Customer ID,E-Mail,plan\n", (), ["'Customer ID', 'E-Mail', 'plan'", "--map 'Customer ID=FIELD'"]),
        (b"external_id\n", ("--map", "Customer ID=external_id"), ["'Customer ID'", "'external_id'"]),
        (b"id,external_id\n", ("--map", "id=external_id"), ["twice", "'external_id'"]),
        (b"external_id,Stra\xdfe\n", (), ["not UTF-8, line 1", "--encoding"]),
        ("external_id\n".encode("utf-16-le"), (), ["line 1", "--encoding utf-16-le"]),
        ("external_id\n".encode("utf-16") + b"\x00\xd8\x00\x00", (), ["not UTF-16-LE", "--encoding"]),
        ("external_id\n".encode("utf-16"), ("--encoding", "cp1252"), ["UTF-16-LE", "--encoding"]),
        (b"", (), ["external_id"]),
    ],
)
def test_a_heading_that_cannot_be_used_says_in_one_line_what_to_change(
    env: dict[str, str], tmp_path: Path, content: bytes, options: tuple[str, ...], said: list[str]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(content)
    line = refusal(run("import", str(file), *options, env=env))
    assert [each for each in said if each not in line] == [], line


@pytest.mark.parametrize(
    "options",
    [
        ("--encoding", "klingon"), ("--encoding", "base64"), ("--delimiter", "::"), ("--delimiter", '"'),
        ("--map", "external_id"), ("--format", "jsonl", "--map", "a=b"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_wrong_usage(
    env: dict[str, str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("external_id\n")
    assert CliRunner(env=env).invoke(participants, ["import", str(file), *options]).exit_code == 2


def test_a_dry_run_checks_everything_and_sends_nothing(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    rows = [f"dry-{number},{'a@example.com' if number % 100 else 'no address'}\n" for number in range(20_000)]
    file.write_text("external_id,email\n" + "".join(rows))
    # Nobody listens there, and there is no key.
    nobody = environment(PARTICIPANTS_GRPC_ADDRESS="127.0.0.1:1", PARTICIPANTS_DATA_DIR=str(tmp_path))
    finished = run("import", str(file), "--dry-run", env=nobody)
    assert finished.returncode == 1
    assert finished.stdout.startswith("valid 19,800, rejected 200 ("), finished
    assert finished.stdout.endswith("; nothing was sent\n")
    assert len(rejects(file).read_text().splitlines()) == 201
    # The service says the same of the same rows, in the same words.
    told = reasons(rejects(file))
    finished = run("import", str(file), env=env)
    assert finished.stdout.startswith("created 19,800, updated 0, unchanged 0, rejected 200 (")
    assert reasons(rejects(file)) == told


def test_a_dry_run_refuses_what_no_participant_may_hold(env: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows: list[dict[str, Any]] = [
        {"external_id": "attributes", "attributes": {str(number): "x" * 4_096 for number in range(16)}},
        {"external_id": "tags", "tags": [f"{number:03}" + "x" * 252 for number in range(65)]},
        # In lower case they have half as many bytes again, or twice as many characters.
        {"external_id": "bytes", "tags": [f"{number:03}" + "\u023a" * 126 for number in range(60)]},
        {"external_id": "characters", "tags": ["\u0130" * 200]},
        {"external_id": "fits", "tags": [f"{number:03}" + "x" * 252 for number in range(64)]},
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert run("import", str(file), "--dry-run", env=env).stdout.startswith("valid 1, rejected 4 (")
    told = reasons(rejects(file))
    assert run("import", str(file), env=env).stdout.startswith("created 1, updated 0, unchanged 0, rejected 4 (")
    assert reasons(rejects(file)) == told


def test_the_import_loads_nothing_that_serves() -> None:
    program = "import sys, server.cli.bulk_import; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    serving = ("server.app", "server.postgres", "server.rpc", "server.quickstart", "uvicorn", "psycopg", "alembic")
    assert [name for name in loaded if name.startswith(serving)] == []
