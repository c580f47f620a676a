"""The check that a change to the protos breaks no caller."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROTOS = Path(__file__).parents[2] / "protos"


def breaking(script: Path, *directories: Path) -> subprocess.CompletedProcess[str]:
    """Runs breaking.py to its end."""
    return subprocess.run([sys.executable, script, *directories], capture_output=True, text=True, check=False)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """A copy of the protos, to be changed."""
    return Path(shutil.copytree(PROTOS, tmp_path / "protos"))


@pytest.mark.parametrize(
    ("file", "before", "after", "complaint"),
    [
        ("participant_service.proto", "rpc GetParticipant(", "rpc ReadParticipant(", 'RPC "GetParticipant"'),
        ("participant_service.proto", "> attributes = 9 [", "> attributes = 99 [", '"attributes"'),
        ("participant_service.proto", "optional string phone = 6", "optional bytes phone = 6", '"phone"'),
        ("participant.proto", "CLOSED = 3;", "ENDED = 3;", '"CLOSED"'),
    ],
    ids=["a removed RPC", "a renumbered field", "a changed type", "a renamed enum value"],
)
def test_a_breaking_change_is_found(changed: Path, file: str, before: str, after: str, complaint: str) -> None:
    path = changed / "participants" / "v1" / file
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))
    found = breaking(PROTOS / "breaking.py", PROTOS, changed)
    assert found.returncode != 0
    assert complaint in found.stdout


def test_a_new_field_breaks_nobody(changed: Path) -> None:
    path = changed / "participants" / "v1" / "participant.proto"
    path.write_text(path.read_text().replace("string id = 1;", "string id = 1;\n  string nickname = 1000;"))
    found = breaking(PROTOS / "breaking.py", PROTOS, changed)
    assert (found.returncode, found.stdout) == (0, "")


def test_without_a_main_branch_there_is_nothing_to_compare_with(changed: Path) -> None:
    found = breaking(changed / "breaking.py")
    assert found.returncode == 0
    assert "nothing to compare with" in found.stdout
