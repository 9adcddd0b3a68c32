"""What is in deploy/: each file is what its reader takes, and its commands and paths are ours."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

from supervisor.changes.parsing import account_from
from supervisor.cli.main import app
from supervisor.client.supervisor_client import STOP_TIMEOUT_S

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BIN = Path(sys.executable).parent


def tool(name: str) -> str:
    found = shutil.which(name, path=str(BIN)) or shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def said_by(*arguments: str | Path) -> str:
    """What a check that ends 0 has to say."""
    done = subprocess.run([str(one) for one in arguments], capture_output=True, text=True)
    assert done.returncode == 0, done
    return done.stdout + done.stderr


def compose() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(DEPLOY / "compose.yaml")
    return found


def unit() -> dict[str, str]:
    lines = (DEPLOY / "reconciliation.service").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def our_options(command: list[str]) -> None:
    """That the command line knows a command and its options."""
    name, *rest = command
    shown = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"}).output
    assert all(option in shown for option in rest if option.startswith("--")), command


def test_the_container_file_is_clean() -> None:
    assert said_by(tool("hadolint"), DEPLOY / "Containerfile") == ""


def test_the_container_file_copies_what_is_there_and_what_the_build_may_see() -> None:
    seen = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"}
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Containerfile").read_text(), re.MULTILINE)
    sources = {source for line in copies for source in line.split()}
    assert sources == seen
    assert all((ROOT / source).exists() for source in sources)


def test_the_container_runs_our_commands() -> None:
    text = (DEPLOY / "Containerfile").read_text()
    found = re.search(r'^CMD \["(.*)"\]$', text, re.MULTILINE)
    assert found is not None
    our_options(found[1].split('", "'))
    extras = re.search(r"'\.\[(.*)\]'", text)
    declared = (ROOT / "pyproject.toml").read_text()
    assert extras is not None
    assert all(re.search(rf"^{extra} = \[", declared, re.MULTILINE) for extra in extras[1].split(","))


def test_the_compose_file_meets_its_schema() -> None:
    said_by(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_compose_file_mounts_what_is_there() -> None:
    services = compose()["services"]
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", ())]
    files = [one for one in mounts if one.startswith(".") and one != "./accounts.yaml"]
    assert len(files) == 5
    assert all((DEPLOY / one).is_file() for one in files)
    assert {one for one in mounts if not one.startswith(".")} == set(compose()["volumes"])


def test_the_compose_file_publishes_nothing_beyond_loopback() -> None:
    services = compose()["services"]
    ports = [port for service in services.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    our_options(services["metrics"]["command"])


def test_prometheus_takes_what_it_is_given(tmp_path: Path) -> None:
    shutil.copy(ROOT / "config/prometheus/alerts.yml", tmp_path)
    shutil.copy(DEPLOY / "prometheus.yml", tmp_path)
    said_by(tool("promtool"), "check", "config", tmp_path / "prometheus.yml")


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    text = (DEPLOY / "reconciliation.service").read_text()
    copied = tmp_path / "reconciliation.service"
    copied.write_text(text.replace("/opt/reconciliation/.venv/bin/python", sys.executable))
    said_by(tool("systemd-analyze"), "verify", "--man=no", copied)


def test_the_unit_runs_our_commands_and_waits_for_them() -> None:
    said = unit()
    for key in ("ExecStart", "ExecReload"):
        python, *command = shlex.split(said[key])
        assert (python, command[:2]) == ("/opt/reconciliation/.venv/bin/python", ["-m", "supervisor"])
        our_options(command[2:])
    assert (said["Type"], said["KillMode"], said["RestartPreventExitStatus"]) == ("notify", "mixed", "2")
    assert float(said["TimeoutStopSec"]) > STOP_TIMEOUT_S
    assert float(said["WatchdogSec"]) > 60  # a supervisor that is brought back may take that long


def ray_cluster() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load(ROOT / "config/kubernetes/raycluster.yaml")
    return found


def groups() -> list[dict[str, Any]]:
    spec = ray_cluster()["spec"]
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def test_the_ray_cluster_has_the_keys_of_kuberay_and_the_ray_that_the_tests_pass_with() -> None:
    """KubeRay's own schema is in no package that could be installed here: this is what of it matters to us."""
    cluster = ray_cluster()
    assert (cluster["apiVersion"], cluster["kind"]) == ("ray.io/v1", "RayCluster")
    assert set(cluster["spec"]) == {"rayVersion", "gcsFaultToleranceOptions", "headGroupSpec", "workerGroupSpecs"}
    assert f"ray=={cluster['spec']['rayVersion']}" in (ROOT / "constraints.txt").read_text().splitlines()
    of_head = {"serviceType", "labels", "rayStartParams", "template"}
    of_workers = {"groupName", "replicas", "minReplicas", "maxReplicas", "labels", "rayStartParams", "template"}
    assert [set(group) for group in groups()] == [of_head, of_workers, of_workers]
    for group in cluster["spec"]["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups():
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        assert "labels" not in group["rayStartParams"], "KubeRay refuses them there"
        pod = group["template"]["spec"]
        mounted = {mount["name"] for one in pod["containers"] for mount in one.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_gcs_of_the_ray_cluster_is_kept_in_redis_and_no_password_stands_in_the_file() -> None:
    """KubeRay takes the password here or among `rayStartParams`, and refuses both; of the keys it knows we set two."""
    options = ray_cluster()["spec"]["gcsFaultToleranceOptions"]
    assert set(options) == {"redisAddress", "redisPassword"}
    assert set(options["redisPassword"]) == {"valueFrom"}
    assert set(options["redisPassword"]["valueFrom"]["secretKeyRef"]) == {"name", "key"}
    for group in groups():
        assert not {"redis-password", "redis-username"} & set(group["rayStartParams"])
        names = {one["name"] for one in group["template"]["spec"]["containers"][0]["env"]}
        assert not {"RAY_REDIS_ADDRESS", "REDIS_PASSWORD"} & names, "KubeRay sets them"


def test_every_node_of_the_ray_cluster_has_labels_that_a_place_can_name_and_the_token_as_a_secret() -> None:
    for group in groups():
        labels = group["labels"]
        given = account_from({"name": "a", "broker": "paper", "instruments": ["X"], "place": labels})
        assert given.account.place == labels
        assert labels
        env = {one["name"]: one for one in group["template"]["spec"]["containers"][0]["env"]}
        assert env["RAY_AUTH_MODE"]["value"] == "token"
        assert set(env["RAY_AUTH_TOKEN"]) == {"name", "valueFrom"}, "no token stands in the file"
