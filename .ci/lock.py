"""Writes requirements.lock: every dependency pinned with hashes, one section a group, each with what the ones before
it do not have. All groups are resolved together first, so that any of them can be installed beside the others.

    python .ci/lock.py
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GROUPS = {
    "runtime": [],
    "build": ["--group", "build"],
    "embedded": ["--extra", "embedded"],
    "tracing": ["--extra", "tracing"],
    "development": ["--group", "development"],
    "bench": ["--group", "bench"],
}


def main() -> None:
    together = resolve([option for options in GROUPS.values() for option in options], constraint="")
    written: set[str] = set()
    sections = []
    for group, options in GROUPS.items():
        pinned = pins(resolve(options, constraint=together))
        new = {name: pin for name, pin in pinned.items() if name not in written}
        written |= new.keys()
        sections.append(f"# {group}\n" + "".join(new[name] for name in sorted(new)))
    (ROOT / "requirements.lock").write_text("\n".join(sections))


def resolve(options: list[str], constraint: str) -> str:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write(constraint)
        file.flush()
        uv = Path(sys.executable).parent / "uv"
        command = [
            str(uv), "pip", "compile", "pyproject.toml", *options, "--constraint", file.name, "--quiet",
            "--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header",
            "--no-emit-index-url", "--no-emit-find-links", "--no-emit-package", "participants-stubs",
        ]  # fmt: skip
        return subprocess.run(command, cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE).stdout  # noqa: S603  # our own words


def pins(requirements: str) -> dict[str, str]:
    """Returns each requirement with its hashes, by name (and marker, where a name has several)."""
    entries = re.findall(r"^[^\s#].*(?:\n[ \t].*)*\n", requirements, flags=re.MULTILINE)
    return {entry.split("\\")[0].strip(): entry for entry in entries if "==" in entry}


if __name__ == "__main__":
    main()
