"""What is in the wheels that the image installs."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.wheels import ROOT, build


@pytest.mark.parametrize(
    ("source", "packages"),
    [(ROOT, ["server"]), (ROOT / "generated", ["buf", "participants"])],
    ids=["participants-server", "participants-stubs"],
)
def test_a_wheel_has_its_packages_whole_and_the_license(tmp_path: Path, source: Path, packages: list[str]) -> None:
    wheel = ZipFile(build(source, tmp_path))
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == {
        str(path.relative_to(source))
        for package in packages
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    [license_file] = [name for name in wheel.namelist() if name.endswith("/LICENSE")]
    assert wheel.read(license_file) == (ROOT / "LICENSE").read_bytes()
