"""What `kubectl kustomize` makes of deploy/."""

from __future__ import annotations

import json
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


def queries() -> list[str]:
    """Returns what the alerts and the dashboard ask Prometheus for."""
    monitoring = DEPLOY / "components" / "monitoring"
    groups = yaml.safe_load((monitoring / "alerts.yaml").read_text())["spec"]["groups"]
    panels = json.loads((monitoring / "dashboard.json").read_text())["panels"]
    return [
        *(rule["expr"] for group in groups for rule in group["rules"]),
        *(target["expr"] for panel in panels for target in panel["targets"]),
    ]
