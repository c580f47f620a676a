"""The manifests under deploy/: they are what Kubernetes accepts, and each value that matters says why it does."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.manifests import DEPLOY, Manifest, environment_of, find, render

# Kinds of the Prometheus operator, of which Kubernetes itself has no schema. The rules are checked by promtool.
OPERATORS_KINDS = {"PodMonitor", "PrometheusRule"}
DOCKERFILE = Path(__file__).parents[2] / "Dockerfile"


@pytest.fixture(scope="module")
def base() -> list[Manifest]:
    return render("base")


@pytest.fixture(scope="module")
def example() -> list[Manifest]:
    return render("overlays/example")


@pytest.fixture(scope="module")
def deployment(base: list[Manifest]) -> Any:
    return find(base, "Deployment")["spec"]


@pytest.fixture(scope="module")
def pod(deployment: Any) -> Any:
    return deployment["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod: Any) -> Any:
    [container] = pod["containers"]
    return container


@pytest.fixture(scope="module")
def migration(pod: Any) -> Any:
    [container] = pod["initContainers"]
    return container


@pytest.fixture(scope="module")
def tls_pod(example: list[Manifest]) -> Any:
    return find(example, "Deployment")["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def kubernetes() -> Any:
    """What validates manifests. It takes a second to import, which all other processes of the tests do without."""
    return import_module("kubernetes_validate")


@pytest.mark.parametrize("directory", ["base", "overlays/example"])
@pytest.mark.parametrize("version", ["1.33", "latest"])
def test_kubernetes_accepts_every_manifest(kubernetes: Any, directory: str, version: str) -> None:
    asked = kubernetes.latest_version() if version == "latest" else version
    for manifest in render(directory):
        if manifest["kind"] not in OPERATORS_KINDS:
            kubernetes.validate(manifest, asked, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_noticed(kubernetes: Any, base: list[Manifest]) -> None:
    service = find(base, "Service")
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate({**service, "spec": {**service["spec"], "appProtocols": ""}}, "1.37", strict=True)


def test_the_base_needs_nothing_that_a_plain_cluster_has_not(base: list[Manifest]) -> None:
    assert not OPERATORS_KINDS & {manifest["kind"] for manifest in base}


def test_no_secret_is_in_the_manifests(example: list[Manifest]) -> None:
    assert "Secret" not in {manifest["kind"] for manifest in example}
    assert not re.search(r"postgres(ql)?://|sk_[0-9A-Za-z]", yaml.safe_dump_all(example))


class TestRollout:
    def test_there_are_never_fewer_pods_than_wanted(self, deployment: Any) -> None:
        assert deployment["strategy"] == {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        }
        assert deployment["minReadySeconds"] == 5
        assert deployment["revisionHistoryLimit"] == 5

    def test_applying_does_not_undo_what_the_autoscaler_did(self, deployment: Any) -> None:
        assert "replicas" not in deployment

    def test_a_pod_may_take_as_long_to_stop_as_it_needs(self, pod: Any, container: Any) -> None:
        drain = int(environment_of(container)["PARTICIPANTS_DRAIN_SECONDS"])
        # Connections are aged after 30 s, with 10 % of jitter.
        assert drain == 40 > 30 * 1.1
        # And then 10 s for the calls under way, and a margin.
        assert pod["terminationGracePeriodSeconds"] == 60 >= drain + 10 + 10
        assert "lifecycle" not in container

    def test_a_migration_that_fails_stops_the_rollout(self, migration: Any, container: Any) -> None:
        assert migration["args"] == ["migrate", "--serving-role", "participants"]
        assert migration["image"] == container["image"]

    def test_only_the_migration_has_the_role_that_owns_the_schema(
        self, pod: Any, migration: Any, container: Any
    ) -> None:
        assert [mount["name"] for mount in migration["volumeMounts"]] == ["migrator"]
        assert [mount["name"] for mount in container["volumeMounts"]] == ["database"]
        secrets = {volume["name"]: volume["secret"]["secretName"] for volume in pod["volumes"]}
        assert secrets == {"database": "participants-database", "migrator": "participants-migrator"}
        for each in (migration, container):
            [mount] = each["volumeMounts"]
            assert environment_of(each)["DATABASE_URL_FILE"] == f"{mount['mountPath']}/url"
            # A file that is mounted by itself never sees that a password was rotated.
            assert "subPath" not in mount

    def test_a_line_that_says_why_it_cannot_start_is_shown(self, migration: Any, container: Any) -> None:
        for each in (migration, container):
            assert each["terminationMessagePolicy"] == "FallbackToLogsOnError"


class TestProbes:
    def test_a_wrong_database_stops_the_rollout(self, container: Any) -> None:
        assert container["startupProbe"] == {
            "httpGet": {"port": "operations", "path": "/readyz"},
            "periodSeconds": 1, "timeoutSeconds": 3, "failureThreshold": 30,
        }  # fmt: skip

    def test_a_blip_of_the_database_takes_no_pod_out_of_service(self, container: Any) -> None:
        assert container["readinessProbe"] == {
            "httpGet": {"port": "operations", "path": "/readyz"},
            "periodSeconds": 5, "timeoutSeconds": 3, "failureThreshold": 6,
        }  # fmt: skip

    def test_a_failover_of_the_database_restarts_no_pod(self, container: Any) -> None:
        assert container["livenessProbe"] == {
            "httpGet": {"port": "operations", "path": "/livez"},
            "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6,
        }  # fmt: skip

    def test_callers_do_not_reach_the_port_that_they_ask(self, base: list[Manifest], tls_pod: Any) -> None:
        # Nor does what TLS changes move them to another.
        [container] = tls_pod["containers"]
        asked = {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
        let_in = find(base, "NetworkPolicy")["spec"]["ingress"][0]["ports"]
        assert not asked & {port["port"] for port in let_in}


class TestSecurity:
    def test_the_pod_meets_the_restricted_standard(self, pod: Any, migration: Any, container: Any) -> None:
        assert pod["securityContext"] == {
            "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001,
            "seccompProfile": {"type": "RuntimeDefault"},
        }  # fmt: skip
        assert "USER 10001:10001" in DOCKERFILE.read_text()
        for each in (migration, container):
            assert each["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }  # fmt: skip

    def test_the_secrets_are_not_for_everybody_in_the_pod(self, pod: Any) -> None:
        assert {volume["secret"]["defaultMode"] for volume in pod["volumes"]} == {0o440}

    def test_the_service_has_no_token_of_the_cluster(self, base: list[Manifest], pod: Any) -> None:
        assert pod["automountServiceAccountToken"] is False
        assert find(base, "ServiceAccount")["automountServiceAccountToken"] is False
        assert pod["serviceAccountName"] == "participants"

    def test_a_service_of_our_name_injects_no_settings(self, pod: Any) -> None:
        assert pod["enableServiceLinks"] is False

    def test_the_api_is_not_described_to_everybody(self, container: Any) -> None:
        assert environment_of(container)["PARTICIPANTS_REFLECTION"] == "off"
        assert environment_of(container)["PARTICIPANTS_DOCS"] == "off"

    def test_the_network_lets_in_and_out_what_is_needed(self, base: list[Manifest]) -> None:
        spec = find(base, "NetworkPolicy")["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        callers, monitoring = spec["ingress"]
        assert callers["from"] == [{"namespaceSelector": {"matchLabels": {"participants-client": "true"}}}]
        assert [port["port"] for port in callers["ports"]] == ["grpc", "http"]
        assert monitoring["from"] == [
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
        ]
        assert [port["port"] for port in monitoring["ports"]] == ["operations"]
        assert [[port["port"] for port in rule["ports"]] for rule in spec["egress"]] == [[53, 53], [5432], [4317]]


class TestCapacity:
    def test_a_pod_has_a_core_and_is_never_throttled(self, migration: Any, container: Any) -> None:
        for each in (migration, container):
            assert each["resources"] == {"requests": {"cpu": "1", "memory": "512Mi"}, "limits": {"memory": "1Gi"}}
        # One process fits the one core.
        assert environment_of(container)["PARTICIPANTS_WORKERS"] == "1"

    def test_pods_are_added_before_callers_wait_and_taken_away_slowly(self, base: list[Manifest]) -> None:
        spec = find(base, "HorizontalPodAutoscaler")["spec"]
        assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 6)
        [metric] = spec["metrics"]
        assert metric["resource"] == {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
        assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 300
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "participants"}

    def test_all_pods_together_fit_a_postgres_as_it_comes(self, base: list[Manifest], container: Any) -> None:
        pods = find(base, "HorizontalPodAutoscaler")["spec"]["maxReplicas"] + 1
        connections = int(environment_of(container)["PARTICIPANTS_DATABASE_CONNECTIONS"]) + 1
        # max_connections is 100, of which 3 are kept for the superuser.
        assert pods * connections <= 97

    def test_the_loss_of_a_zone_or_a_node_takes_a_part(self, pod: Any) -> None:
        spread = pod["topologySpreadConstraints"]
        assert [each["topologyKey"] for each in spread] == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
        for each in spread:
            assert (each["maxSkew"], each["whenUnsatisfiable"]) == (1, "ScheduleAnyway")
            assert each["matchLabelKeys"] == ["pod-template-hash"]

    def test_drained_nodes_take_one_pod_at_a_time(self, base: list[Manifest]) -> None:
        spec = find(base, "PodDisruptionBudget")["spec"]
        assert spec["maxUnavailable"] == 1
        assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


class TestServices:
    def test_everything_selects_the_pods(self, base: list[Manifest], deployment: Any) -> None:
        labels = deployment["template"]["metadata"]["labels"]
        budget, policy = find(base, "PodDisruptionBudget")["spec"], find(base, "NetworkPolicy")["spec"]
        for selector in (
            deployment["selector"]["matchLabels"],
            budget["selector"]["matchLabels"],
            policy["podSelector"]["matchLabels"],
            find(base, "Service")["spec"]["selector"],
            find(base, "Service", "participants-headless")["spec"]["selector"],
        ):
            assert selector
            assert selector.items() <= labels.items()

    def test_one_is_for_connections_and_one_for_clients_that_balance(self, base: list[Manifest]) -> None:
        assert "clusterIP" not in find(base, "Service")["spec"]
        assert find(base, "Service", "participants-headless")["spec"]["clusterIP"] == "None"

    def test_proxies_are_told_what_is_spoken(self, base: list[Manifest], example: list[Manifest]) -> None:
        def protocols(manifests: list[Manifest], name: str) -> dict[str, str]:
            return {port["name"]: port["appProtocol"] for port in find(manifests, "Service", name)["spec"]["ports"]}

        assert protocols(base, "participants") == {"grpc": "kubernetes.io/h2c", "http": "http"}
        assert protocols(base, "participants-headless") == {"grpc": "kubernetes.io/h2c"}
        assert protocols(example, "participants") == {"grpc": "https", "http": "https"}
        assert protocols(example, "participants-headless") == {"grpc": "https"}

    def test_the_ports_are_those_where_the_service_listens(self, base: list[Manifest], container: Any) -> None:
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        variables = environment_of(container)
        for name, port in ports.items():
            assert variables[f"PARTICIPANTS_{name.upper()}_ADDRESS"] == f"0.0.0.0:{port}"
        assert {port["targetPort"] for port in find(base, "Service")["spec"]["ports"]} <= ports.keys()


class TestTls:
    def test_a_renewed_certificate_reaches_the_pod(self, tls_pod: Any) -> None:
        [container] = tls_pod["containers"]
        [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
        assert "subPath" not in mount
        variables = environment_of(container)
        assert variables["PARTICIPANTS_TLS_CERT_FILE"] == f"{mount['mountPath']}/tls.crt"
        assert variables["PARTICIPANTS_TLS_KEY_FILE"] == f"{mount['mountPath']}/tls.key"


def test_the_example_has_everything_in_its_namespace(example: list[Manifest]) -> None:
    for manifest in example:
        if manifest["kind"] != "Namespace":
            assert manifest["metadata"]["namespace"] == "participants"
    namespace = find(example, "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_example_says_which_image_to_run(example: list[Manifest]) -> None:
    spec = find(example, "Deployment")["spec"]["template"]["spec"]
    images = {container["image"] for container in (*spec["containers"], *spec["initContainers"])}
    assert len(images) == 1
    assert re.fullmatch(r"\S+/participants:\d+\.\d+\.\d+", images.pop())


def test_commands_are_run_by_the_role_that_owns_the_schema(kubernetes: Any, migration: Any, pod: Any) -> None:
    manifest = yaml.safe_load((DEPLOY / "administration" / "pod.yaml").read_text())
    kubernetes.validate(manifest, kubernetes.latest_version(), strict=True)
    [container] = manifest["spec"]["containers"]
    assert environment_of(container) == environment_of(migration)
    assert container["volumeMounts"] == migration["volumeMounts"]
    for restricted in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert manifest["spec"][restricted] == pod[restricted]
    assert container["securityContext"] == migration["securityContext"]


def test_every_directory_is_rendered_by_a_test() -> None:
    found = {str(file.parent.relative_to(DEPLOY)) for file in DEPLOY.rglob("kustomization.yaml")}
    assert found == {"base", "components/tls", "components/monitoring", "overlays/example"}
