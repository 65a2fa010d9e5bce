"""What the files for Docker Compose and Kubernetes promise, read from them; tests/cluster/docker runs the former."""

import json
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from barmill.auth.settings import SignInSettings
from barmill.model.job_spec import BarsJobSpec
from barmill.platform.feed_settings import FeedSettings
from barmill.platform.home import REPO_ROOT, Home
from barmill.platform.kafka_settings import KafkaSettings
from barmill.platform.ports import LOOPBACK, Ports
from control.flink.class_archive import DISTRIBUTION
from control.system.readiness import programs

COMPOSE = yaml.safe_load((REPO_ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
EXAMPLES = sorted((REPO_ROOT / "deploy" / "compose").glob("*.yml"))
KUBERNETES = REPO_ROOT / "deploy" / "kubernetes"
# The resource definition that the operator's API brings along in Maven; it is older than Flink 2.
OPERATOR_API = "org.apache.flink:flink-kubernetes-operator-api:1.10.0"


def kinds(name: str) -> dict[str, Any]:
    return {document["kind"]: document for document in yaml.safe_load_all((KUBERNETES / name).read_text())}


def test_every_process_has_a_service_and_no_service_is_unknown(home: Home) -> None:
    kafka = KafkaSettings(bootstrap="kafka:9092")
    known = {program.name for program in programs(home, Ports(1, 2, 3, 4), FeedSettings(), kafka)}
    assert {name for name, service in SERVICES.items() if service.get("command", [""])[0] == "run"} == known
    assert all(SERVICES[name]["command"] == ["run", name] for name in known)
    assert set(SERVICES) == {*known, "kafka", "prepare"}


def test_the_peers_are_the_services() -> None:
    text = COMPOSE["x-barmill"]["environment"]["BARMILL_PEERS"].replace("${BARMILL_PORT:-8501}", "8501")
    peers = Ports(**json.loads(text))
    assert {peers.market_host, peers.jobmanager_host, peers.kafka_host} <= set(SERVICES)
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith(f"{peers.kafka_host}:{peers.kafka}")


def test_only_the_app_is_published_and_by_default_to_this_machine() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["app"]
    assert published["app"][0].startswith(f"${{BARMILL_ADDRESS:-{LOOPBACK}}}:")


def test_flink_is_in_a_network_of_its_own_that_leads_nowhere() -> None:
    assert SERVICES["jobmanager"]["networks"] == SERVICES["taskmanager"]["networks"] == ["cluster"]
    assert COMPOSE["networks"]["cluster"]["internal"]
    inside = {name for name, service in SERVICES.items() if "cluster" in service["networks"]}
    assert inside == {"jobmanager", "taskmanager", "controller", "kafka", "shipper", "materialiser"}


def test_what_opens_the_keys_is_out_of_reach_of_flink_market_and_broker() -> None:
    with_keys = {name for name, service in SERVICES.items() if any("keys:" in volume for volume in service["volumes"])}
    assert with_keys == {"prepare", "ingest", "controller", "app", "shipper", "materialiser"}
    for example in EXAMPLES:
        given = {
            name for name, service in yaml.safe_load(example.read_text())["services"].items() if "secrets" in service
        }
        assert given <= {"prepare", "ingest", "app", "shipper", "materialiser", "openbao"}, example.name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_locked_down(name: str) -> None:
    service = SERVICES[name]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"]["max-size"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert ":latest" not in service["image"]
    if name != "prepare":
        assert service["restart"] == "unless-stopped"
        assert service["healthcheck"]["test"]
        assert service["cpus"]
    if name != "kafka":  # whose image writes into itself
        assert service["read_only"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_add_to_services_that_there_are(path: Path) -> None:
    services = yaml.safe_load(path.read_text())["services"]
    assert {name for name, service in services.items() if "image" not in service} <= set(SERVICES)


def test_the_job_on_kubernetes_is_one_that_the_job_program_takes() -> None:
    spec = BarsJobSpec.model_validate_json(kinds("flink.yml")["ConfigMap"]["data"]["bars.json"])
    settings = kinds("barmill.yml")["ConfigMap"]["data"]
    kafka = KafkaSettings.model_validate_json(settings["kafka.json"])
    sign_in = SignInSettings.model_validate_json(settings["sign-in.json"])
    assert ip_network(sign_in.proxy).num_addresses == 1
    assert spec.kafka is not None
    assert (spec.shards, spec.kafka.bootstrap, spec.kafka.prefix) == (kafka.partitions, kafka.bootstrap, kafka.prefix)
    deployment = kinds("flink.yml")["FlinkDeployment"]["spec"]
    assert deployment["flinkConfiguration"]["job.autoscaler.vertex.max-parallelism"] == str(spec.shards)
    assert deployment["job"]["parallelism"] == spec.parallelism


def test_only_the_proxy_reaches_the_app_on_kubernetes() -> None:
    made = kinds("barmill.yml")
    policy, pod = made["NetworkPolicy"]["spec"], made["StatefulSet"]["spec"]["template"]
    assert policy["podSelector"]["matchLabels"] == pod["metadata"]["labels"]
    assert policy["policyTypes"] == ["Ingress"]
    (rule,) = policy["ingress"]
    assert rule["ports"] == [{"port": "http"}]
    assert all({"namespaceSelector", "podSelector"} <= set(origin) for origin in rule["from"])


def test_the_pod_on_kubernetes_runs_processes_that_there_are(home: Home) -> None:
    kafka = KafkaSettings(bootstrap="kafka:9092")
    known = {program.name for program in programs(home, Ports(1, 2, 3, 4), FeedSettings(), kafka)}
    pod = kinds("barmill.yml")["StatefulSet"]["spec"]["template"]["spec"]
    for container in [*pod["initContainers"], *pod["containers"]]:
        peers = json.loads(next(each["value"] for each in container["env"] if each["name"] == "BARMILL_PEERS"))
        assert Ports(**peers).app == 8501
        assert container["securityContext"]["readOnlyRootFilesystem"]
    assert all(
        container["args"] == ["run", container["name"]] and container["name"] in known
        for container in pod["containers"]
    )


def flink_option_names() -> Iterator[bytes]:
    """Return the constants of all classes that hold options of Flink."""
    for jar in DISTRIBUTION.glob("**/flink-*.jar"):
        with zipfile.ZipFile(jar) as content:
            yield from (content.read(name) for name in content.namelist() if name.endswith("Options.class"))


def test_every_flink_setting_on_kubernetes_is_one_that_flink_has() -> None:
    settings = kinds("flink.yml")["FlinkDeployment"]["spec"]["flinkConfiguration"]
    # The operator's own, and those of the plugin for object stores, are in neither of Flink's jars here.
    ours = [key for key in settings if not key.startswith(("job.autoscaler.", "s3.", "env."))]
    constants = b"".join(flink_option_names())
    # A strategy's settings are put together from its name.
    missing = [key for key in ours if key.encode() not in constants and not key.startswith("restart-strategy.")]
    assert missing == []


def test_the_deployment_is_what_the_operator_takes(tmp_path: Path) -> None:
    if shutil.which("mvn") is None:
        pytest.skip("Maven is not installed, which fetches the operator's resource definition")
    copied = ["dependency:copy", f"-Dartifact={OPERATOR_API}", f"-DoutputDirectory={tmp_path}"]
    subprocess.run(["mvn", "--quiet", "--batch-mode", *copied], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.jar"))) as jar:
        definition = yaml.safe_load(jar.read("META-INF/fabric8/flinkdeployments.flink.apache.org-v1.yml"))
    (version,) = definition["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    schema["properties"]["flinkVersion"] = {"const": "v2_2"}
    jsonschema.validate(kinds("flink.yml")["FlinkDeployment"]["spec"], closed(schema))


def closed(schema: Any) -> Any:
    """Return a schema that takes no field it does not name, as Kubernetes drops such fields without a word."""
    if isinstance(schema, list):
        return [closed(document) for document in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not open_ended:
        found.setdefault("additionalProperties", False)
    return found


def test_no_script_names_a_package_host() -> None:
    """Package sources are those of the machine: apt's own configuration, pip's and Maven's."""
    scripts = [*(REPO_ROOT / "tests").rglob("*.sh"), REPO_ROOT / ".ci" / "run", REPO_ROOT / "barmill"]
    named = {path.name: hosts for path in scripts if (hosts := named_hosts(path.read_text()))}
    assert named == {}
    assert named_hosts("debootstrap bookworm tree http://deb.debian.org/debian") == ["deb.debian.org"]


def named_hosts(script: str) -> list[str]:
    return [host for host in re.findall(r"https?://([\w.-]+)", script) if host not in ("127.0.0.1", "localhost")]
