"""The project's two distributions, built and installed without an index, by uv, which takes a fifth of pip's time."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from uv import find_uv_bin

ROOT = Path(__file__).parents[2]


def uv(*arguments: str | Path) -> str:
    """Runs uv without its cache, its settings and a network, and returns what it prints."""
    command = [find_uv_bin(), "--offline", "--no-cache", "--no-config", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def build(source: Path, directory: Path) -> Path:
    """Builds the wheel of a distribution into a directory, and returns it."""
    uv(
        "build",
        "--quiet",
        "--wheel",
        "--no-build-isolation",
        f"--python={sys.executable}",
        f"--out-dir={directory}",
        source,
    )
    [wheel] = directory.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment with a wheel and what it depends on, and nothing else."""

    def __init__(self, directory: Path, wheel: Path) -> None:
        self.python = directory / "bin" / "python"
        uv("venv", "--quiet", f"--python={sys.executable}", directory)
        [self._packages] = directory.glob("lib/python*/site-packages")
        uv("pip", "install", "--quiet", f"--python={self.python}", "--no-deps", wheel)
        [metadata] = self._packages.glob("*.dist-info")
        for name in _dependencies(distribution(metadata.name.partition("-")[0]).requires):
            self._copy(name)

    def installed(self) -> set[str]:
        """Returns the names of the distributions that are in it."""
        lines = uv("pip", "list", f"--python={self.python}", "--format=freeze").splitlines()
        return {line.partition("==")[0] for line in lines}

    def check(self) -> None:
        """Raises CalledProcessError where a distribution in it lacks one that it needs."""
        uv("pip", "check", f"--python={self.python}")

    def _copy(self, name: str) -> None:
        # The locked version is installed beside the tests; copying it needs no index and takes a moment.
        installed = distribution(name)
        for file in installed.files or ():
            if ".." not in file.parts and file.suffix != ".pyc":
                target = self._packages / file
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(Path(installed.locate_file(file)).read_bytes())  # type: ignore[arg-type]  # a path


def _dependencies(requires: list[str] | None) -> set[str]:
    """Returns the names of requirements and of theirs in turn, without extras."""
    needed = [Requirement(requirement) for requirement in requires or ()]
    names = {
        canonicalize_name(each.name) for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})
    }
    return names.union(*(_dependencies(distribution(name).requires) for name in names))
