"""The project's two distributions, built as the image builds them and without a package index."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]


def build(source: Path, directory: Path) -> Path:
    """Builds the wheel of a distribution into a directory, and returns it."""
    options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", f"--wheel-dir={directory}"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(source)], check=True)
    [wheel] = directory.glob("*.whl")
    return wheel


class Environment:
    """A virtual environment with a wheel and what it depends on, and nothing else."""

    def __init__(self, directory: Path, wheel: Path) -> None:
        self.python = directory / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", directory], check=True)
        [self._packages] = directory.glob("lib/python*/site-packages")
        self.pip("install", "--quiet", "--no-index", "--no-deps", str(wheel))
        [metadata] = self._packages.glob("*.dist-info")
        for name in _dependencies(distribution(metadata.name.partition("-")[0]).requires):
            self._copy(name)

    def pip(self, *arguments: str) -> str:
        """Runs our own pip on the environment, and returns what it prints."""
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", f"--python={self.python}", *arguments]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

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
