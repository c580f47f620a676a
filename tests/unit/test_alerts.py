"""The alerts and the dashboard under deploy/components/monitoring."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from server.errors import Overloaded
from tests.support.manifests import DEPLOY, find, queries, render

MONITORING = DEPLOY / "components" / "monitoring"
SERVER = DEPLOY.parent / "server"


@pytest.fixture(scope="module")
def rules() -> Any:
    return find(render("overlays/example"), "PrometheusRule")["spec"]


@pytest.fixture(scope="module")
def alerts(rules: Any) -> list[Any]:
    return [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]


@pytest.fixture
def promtool(rules: Any, tmp_path: Path) -> Path:
    """A directory with the rules and their tests."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed; Debian has it in the package prometheus")
    (tmp_path / "alerts.rules.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(MONITORING / "alerts.test.yaml", tmp_path)
    return tmp_path


def test_alerts_fire_when_they_should(promtool: Path) -> None:
    for command in (["check", "rules", "alerts.rules.yaml"], ["test", "rules", "alerts.test.yaml"]):
        run = subprocess.run(["promtool", *command], cwd=promtool, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr


def test_an_alert_that_never_fires_is_noticed(promtool: Path) -> None:
    rules = promtool / "alerts.rules.yaml"
    rules.write_text(rules.read_text().replace("participants_ready == 0", "participants_ready == 2"))
    run = subprocess.run(
        ["promtool", "test", "rules", "alerts.test.yaml"], cwd=promtool, capture_output=True, check=False
    )
    assert run.returncode != 0


def test_every_alert_is_tested_both_ways(alerts: list[Any]) -> None:
    cases = yaml.safe_load((MONITORING / "alerts.test.yaml").read_text())["tests"]
    expected = [(each["alertname"], bool(each["exp_alerts"])) for case in cases for each in case["alert_rule_test"]]
    for alert in alerts:
        assert (alert["alert"], True) in expected


def test_every_alert_has_an_entry_in_the_runbook(alerts: list[Any]) -> None:
    headings = re.findall(r"^### (\w+)$", (DEPLOY / "README.md").read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in alerts]
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"deploy/README.md#{alert['alert'].lower()}"
        assert alert["labels"]["severity"] in {"page", "ticket"}


def test_every_reason_for_which_the_service_refuses_calls_is_watched_and_in_the_runbook(alerts: list[Any]) -> None:
    source = "".join(file.read_text() for file in SERVER.rglob("*.py"))
    reasons = {Overloaded.reason, *re.findall(r'Overloaded\([^()]*reason="(\w+)"', source)}
    [alert] = [alert for alert in alerts if alert["alert"] == "ParticipantsRefusing"]
    assert set(re.findall(r"[A-Z]+(?:_[A-Z]+)+", alert["expr"])) == reasons
    entry = (DEPLOY / "README.md").read_text().split("### ParticipantsRefusing")[1].split("### ")[0]
    assert set(re.findall(r"`(\w+)`: ", entry)) == reasons


def test_grafana_finds_the_dashboard() -> None:
    config_map = find(render("overlays/example"), "ConfigMap", "participants-dashboard")
    assert config_map["metadata"]["labels"]["grafana_dashboard"] == "1"
    dashboard = json.loads(config_map["data"]["dashboard.json"])
    assert dashboard["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)


def test_no_query_asks_for_an_organization() -> None:
    assert not [query for query in queries() if "organization" in query]
