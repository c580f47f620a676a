"""What `kubectl kustomize` makes of deploy/."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBECTL = Path(sys.executable).parent / "kubectl"

Manifest = dict[str, Any]


def render(directory: str) -> list[Manifest]:
    """Returns the manifests of a directory under deploy/."""
    rendered = subprocess.run(
        [KUBECTL, "kustomize", DEPLOY / directory], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return list(yaml.safe_load_all(rendered))


def find(manifests: list[Manifest], kind: str, name: str = "participants") -> Manifest:
    """Returns the one manifest of a kind and a name."""
    [manifest] = [each for each in manifests if each["kind"] == kind and each["metadata"]["name"] == name]
    return manifest


def environment_of(container: Manifest) -> dict[str, str]:
    """Returns the variables that a container is given."""
    return {variable["name"]: variable["value"] for variable in container["env"]}
