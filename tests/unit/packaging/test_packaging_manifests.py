"""k8s/base as rendered: restricted pods, selectors that meet, and nothing that contradicts fleet.yaml."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeAlias

import pytest
from ruamel.yaml import YAML

from config.errors import ConfigError
from config.loader import load
from config.schema import FleetConfig, HttpConfig
from workers.telemetry.tracing import resource

Document: TypeAlias = dict[str, Any]

ROOT = Path(__file__).parents[3]
BASE = ROOT / "k8s" / "base"
KUBECTL = Path(sys.executable).with_name("kubectl")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
DRAIN_MARGIN_S = 20  # closing connections and flushing telemetry, after the pool's grace


def parse(text: str) -> list[Document]:
    return [*YAML(typ="safe").load_all(text)]


@pytest.fixture(scope="module")
def documents() -> dict[str, Document]:
    """What `kubectl apply -k k8s/base` would send, by kind."""
    rendered = subprocess.run([KUBECTL, "kustomize", BASE], capture_output=True, text=True, check=True).stdout
    return {document["kind"]: document for document in parse(rendered)}


@pytest.fixture(scope="module")
def template(documents: dict[str, Document]) -> Document:
    found: Document = documents["Deployment"]["spec"]["template"]
    return found


@pytest.fixture(scope="module")
def pod(template: Document) -> Document:
    found: Document = template["spec"]
    return found


@pytest.fixture(scope="module")
def container(pod: Document) -> Document:
    (found,) = pod["containers"]
    assert isinstance(found, dict)
    return found


def selected(selector: dict[str, dict[str, str]], labels: dict[str, str]) -> bool:
    return selector["matchLabels"].items() <= labels.items()


def argument(container: Document, flag: str) -> str:
    arguments: list[str] = container["args"]
    return arguments[arguments.index(flag) + 1]


def test_renders_each_kind_once(documents: dict[str, Document]) -> None:
    kinds = {"ServiceAccount", "ConfigMap", "Deployment", "PodDisruptionBudget", "NetworkPolicy"}
    assert documents.keys() == kinds


def test_pod_meets_the_restricted_standard(pod: Document, container: Document) -> None:
    """Pod Security Standards, level restricted."""
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert not [volume for volume in pod["volumes"] if "hostPath" in volume]


def test_pod_runs_as_the_user_of_the_image(pod: Document) -> None:
    user = re.search(r"^USER (\d+):(\d+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert user is not None
    assert (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]) == (
        int(user[1]),
        int(user[2]),
    )


def test_only_tmp_is_writable_and_it_is_bounded(pod: Document, container: Document) -> None:
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"tmp"}
    (tmp,) = (volume for volume in pod["volumes"] if volume["name"] == "tmp")
    assert tmp["emptyDir"]["sizeLimit"]


def test_pod_holds_no_token_and_no_service_variables(documents: dict[str, Document], pod: Document) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert documents["ServiceAccount"]["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False


def test_memory_is_bounded_and_requested_in_full(container: Document) -> None:
    resources = container["resources"]
    assert resources["limits"]["memory"] == resources["requests"]["memory"]
    assert "cpu" in resources["requests"]


def test_selectors_find_the_pods(documents: dict[str, Document], template: Document) -> None:
    labels = template["metadata"]["labels"]
    assert selected(documents["Deployment"]["spec"]["selector"], labels)
    assert selected(documents["PodDisruptionBudget"]["spec"]["selector"], labels)
    assert selected(documents["NetworkPolicy"]["spec"]["podSelector"], labels)
    for constraint in template["spec"]["topologySpreadConstraints"]:
        assert selected(constraint["labelSelector"], labels)


def test_disruption_budget_never_blocks_a_drain(documents: dict[str, Document]) -> None:
    spec = documents["PodDisruptionBudget"]["spec"]
    assert spec["maxUnavailable"] == 1 and "minAvailable" not in spec
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_network_policy_lets_names_resolve(documents: dict[str, Document]) -> None:
    """A label transformer that also writes selectors would ask the DNS pods for our labels."""
    names, *others = documents["NetworkPolicy"]["spec"]["egress"]
    assert names["to"][0]["podSelector"] == {"matchLabels": {"k8s-app": "kube-dns"}}
    assert {(port["protocol"], port["port"]) for port in names["ports"]} == {("UDP", 53), ("TCP", 53)}
    allowed = {port["port"] for rule in others for port in rule["ports"]}
    assert allowed == {6379, 25, 465, 587, 4317, 4318}


def test_only_the_metrics_port_is_reachable(documents: dict[str, Document], container: Document) -> None:
    (rule,) = documents["NetworkPolicy"]["spec"]["ingress"]
    (port,) = rule["ports"]
    assert [each["name"] for each in container["ports"]] == [port["port"]]
    assert documents["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_probes_and_scrapes_ask_the_port_that_the_fleet_listens_on(template: Document, container: Document) -> None:
    (port,) = container["ports"]
    assert port["containerPort"] == HttpConfig().port
    assert template["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    asked = {name: container[name]["httpGet"] for name in ("livenessProbe", "readinessProbe", "startupProbe")}
    assert {each["port"] for each in asked.values()} == {port["name"]}
    assert {name: each["path"] for name, each in asked.items()} == {
        "livenessProbe": "/livez",
        "readinessProbe": "/readyz",
        "startupProbe": "/startupz",
    }


def overlaid(**env: str) -> FleetConfig:
    return load(ROOT / "config" / "fleet.yaml", overlays=[BASE / "overlay.yaml"], env=env).config


def test_container_listens_to_the_outside_and_logs_for_machines() -> None:
    config = overlaid(REDIS_URL="redis://redis", SMTP_URL="smtp://mail", SITE_EMAIL_ALIAS="hi@example.com")
    assert config.http.host == "0.0.0.0"
    assert config.log.format == "json"


@pytest.mark.parametrize("missing", ["REDIS_URL", "SMTP_URL", "SITE_EMAIL_ALIAS"])
def test_container_without_a_server_is_told_which_variable_to_set(missing: str) -> None:
    env = {"REDIS_URL": "redis://redis", "SMTP_URL": "smtp://mail", "SITE_EMAIL_ALIAS": "hi@example.com"}
    del env[missing]
    with pytest.raises(ConfigError, match=rf"overlay\.yaml:.*set {missing} or {missing}_FILE"):
        overlaid(**env)


def test_kill_comes_after_the_drain(pod: Document, container: Document) -> None:
    pools = overlaid(REDIS_URL="redis://redis", SMTP_URL="smtp://mail", SITE_EMAIL_ALIAS="hi@example.com").pools
    assert pod["terminationGracePeriodSeconds"] >= pools[argument(container, "--pool")].grace + DRAIN_MARGIN_S


def test_pod_reads_the_overlay_of_this_revision(
    documents: dict[str, Document], pod: Document, container: Document
) -> None:
    config_map = documents["ConfigMap"]
    (volume,) = (volume for volume in pod["volumes"] if "configMap" in volume)
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == volume["name"])
    assert volume["configMap"]["name"] == config_map["metadata"]["name"] != "fleet-overlay"
    assert config_map["data"] == {"overlay.yaml": (BASE / "overlay.yaml").read_text()}
    assert argument(container, "--overlay") == f"{mount['mountPath']}/overlay.yaml"


def test_overlay_takes_the_place_of_the_one_in_the_image(container: Document) -> None:
    assert f" {argument(container, '--overlay')}\n" in (ROOT / "Dockerfile").read_text()


def test_secrets_are_files_that_the_process_may_read(pod: Document, container: Document) -> None:
    secrets = {volume["name"]: volume["secret"] for volume in pod["volumes"] if "secret" in volume}
    mounts = [mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in secrets]
    files = [each["value"] for each in container["env"] if each["name"].endswith("_FILE")]
    assert (len(files), len(mounts), len(secrets)) == (3, 2, 2)
    assert {Path(file).parent for file in files} == {Path(mount) for mount in mounts}
    for secret in secrets.values():
        assert secret["defaultMode"] == 0o440
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsGroup"]
    assert not [each for each in container["env"] if "secretKeyRef" in each.get("valueFrom", {})]


def test_every_variable_without_a_default_is_set(container: Document) -> None:
    files = [ROOT / "config" / "fleet.yaml", BASE / "overlay.yaml"]
    text = re.sub(r"(?m)^\s*#.*|\s#.*$", "", "".join(file.read_text() for file in files))
    needed = set(re.findall(r"(?<!\$)\$\{(\w+)\}", text))
    assert needed
    given = {each["name"].removesuffix("_FILE") for each in container["env"]}
    assert needed <= given


def test_spans_say_which_pod_they_come_from(container: Document) -> None:
    env = {each["name"]: f"the {each['name']}" for each in container["env"] if "fieldRef" in each.get("valueFrom", {})}
    attributes = resource("fleet", env).attributes
    places = {name for name in attributes if name.startswith("k8s.")}
    assert places == {"k8s.namespace.name", "k8s.node.name", "k8s.pod.name", "k8s.pod.uid"}
    assert {attributes[name] for name in places} == set(env.values())


def test_server_is_never_the_embedded_one(container: Document) -> None:
    """Without REDIS_URL the fleet would want the bundled Valkey, which the image leaves out."""
    assert "REDIS_URL_FILE" in {each["name"] for each in container["env"]}


def test_image_and_labels_carry_the_version_of_the_project(template: Document, container: Document) -> None:
    assert container["image"] == f"fleet:{VERSION}"
    assert template["metadata"]["labels"]["app.kubernetes.io/version"] == VERSION
