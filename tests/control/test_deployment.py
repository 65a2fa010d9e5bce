"""What the files for Docker Compose and Kubernetes promise, read from them; tests/cluster/docker runs the former."""

import json
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

from control.flink.cluster import DISTRIBUTION
from control.home import REPO_ROOT, Home
from control.kafka.settings import KafkaSettings
from control.machine.ports import LOOPBACK, Ports
from control.machine.programs import programs
from control.people.settings import SignInSettings
from feed.settings import FeedSettings
from flink_jobs.spec import BarsJobSpec

COMPOSE = yaml.safe_load((REPO_ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
EXAMPLES = sorted((REPO_ROOT / "deploy" / "compose").glob("*.yml"))
KUBERNETES = REPO_ROOT / "deploy" / "kubernetes"
# The resource definition that the operator's API brings along in Maven; it is older than Flink 2.
OPERATOR_API = "org.apache.flink:flink-kubernetes-operator-api:1.10.0"


def kinds(name: str) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((KUBERNETES / name).read_text())}


def test_every_process_has_a_service_and_no_service_is_unknown(home: Home) -> None:
    kafka = KafkaSettings(bootstrap="kafka:9092")
    known = {one.name for one in programs(home, Ports(1, 2, 3, 4), FeedSettings(), kafka)}
    assert {name for name, one in SERVICES.items() if one.get("command", [""])[0] == "run"} == known
    assert all(SERVICES[name]["command"] == ["run", name] for name in known)
    assert set(SERVICES) == {*known, "kafka", "prepare"}


def test_the_peers_are_the_services() -> None:
    text = COMPOSE["x-barmill"]["environment"]["BARMILL_PEERS"].replace("${BARMILL_PORT:-8501}", "8501")
    peers = Ports(**json.loads(text))
    assert {peers.market_host, peers.jobmanager_host, peers.kafka_host} <= set(SERVICES)
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].endswith(f"{peers.kafka_host}:{peers.kafka}")


def test_only_the_app_is_published_and_by_default_to_this_machine() -> None:
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert list(published) == ["app"]
    assert published["app"][0].startswith(f"${{BARMILL_ADDRESS:-{LOOPBACK}}}:")


def test_flink_is_in_a_network_of_its_own_that_leads_nowhere() -> None:
    assert SERVICES["jobmanager"]["networks"] == SERVICES["taskmanager"]["networks"] == ["cluster"]
    assert COMPOSE["networks"]["cluster"]["internal"]
    inside = {name for name, one in SERVICES.items() if "cluster" in one["networks"]}
    assert inside == {"jobmanager", "taskmanager", "controller", "kafka", "shipper", "materialiser"}


def test_what_opens_the_keys_is_out_of_reach_of_flink_market_and_broker() -> None:
    with_keys = {name for name, one in SERVICES.items() if any("keys:" in volume for volume in one["volumes"])}
    assert with_keys == {"prepare", "ingest", "controller", "app", "shipper", "materialiser"}
    for example in EXAMPLES:
        given = {name for name, one in yaml.safe_load(example.read_text())["services"].items() if "secrets" in one}
        assert given <= {"prepare", "ingest", "app", "shipper", "materialiser", "openbao"}, example.name


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_bounded_and_locked_down(name: str) -> None:
    one = SERVICES[name]
    assert one["mem_limit"]
    assert one["pids_limit"]
    assert one["logging"]["options"]["max-size"]
    assert one["cap_drop"] == ["ALL"]
    assert one["security_opt"] == ["no-new-privileges:true"]
    assert ":latest" not in one["image"]
    if name != "prepare":
        assert one["restart"] == "unless-stopped"
        assert one["healthcheck"]["test"]
        assert one["cpus"]
    if name != "kafka":  # whose image writes into itself
        assert one["read_only"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_add_to_services_that_there_are(path: Path) -> None:
    services = yaml.safe_load(path.read_text())["services"]
    assert {name for name, one in services.items() if "image" not in one} <= set(SERVICES)


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
    assert all({"namespaceSelector", "podSelector"} <= set(one) for one in rule["from"])


def test_the_pod_on_kubernetes_runs_processes_that_there_are(home: Home) -> None:
    kafka = KafkaSettings(bootstrap="kafka:9092")
    known = {one.name for one in programs(home, Ports(1, 2, 3, 4), FeedSettings(), kafka)}
    pod = kinds("barmill.yml")["StatefulSet"]["spec"]["template"]["spec"]
    for one in [*pod["initContainers"], *pod["containers"]]:
        peers = json.loads(next(each["value"] for each in one["env"] if each["name"] == "BARMILL_PEERS"))
        assert Ports(**peers).app == 8501
        assert one["securityContext"]["readOnlyRootFilesystem"]
    assert all(one["args"] == ["run", one["name"]] and one["name"] in known for one in pod["containers"])


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
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    open_ended = "additionalProperties" in schema or schema.get("x-kubernetes-preserve-unknown-fields")
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not open_ended:
        found.setdefault("additionalProperties", False)
    return found
