"""What is rendered for pods starts real processes, with nothing but what a pod would be given."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from cachefs.benchmarks.nginx import free_port
from cachefs.benchmarks.processes import Process
from cachefs.config.schema import GIB
from cachefs.config.secrets import Secret
from cachefs.errors import ConfigError
from cachefs.k8s.installation import Installation
from cachefs.k8s.manifests.whole import documents
from cachefs.k8s.manifests.workers import of_installation, set_documents
from cachefs.k8s.starting import give, prepare
from cachefs.sdk import open_dataset
from cachefs.transport.api import Api
from tests.integration.systems import wait_for

TOKEN = "dummy-token-of-a-test"
WANTED = Installation(image="example/cachefs:1", disk_bytes=GIB, plain=True)
WHOLE = replace(WANTED, plain=False, trusted="default")


class Pods:
    """Folders as pods see them, and what runs there."""

    def __init__(self, folder, stack, wanted=WANTED):
        self.folder = folder
        self._stack = stack
        (workers,) = of_installation(wanted)
        made = [*documents(wanted), *set_documents(workers, wanted)]
        self._configs = {
            each["metadata"]["name"].removeprefix("cachefs-"): each["data"]
            for each in made
            if each["kind"] == "ConfigMap" and "data" in each
        }
        self._told = {
            each["metadata"]["name"].removeprefix("cachefs-"): _values(each)
            for each in made
            if each["kind"] in ("Deployment", "StatefulSet")
        }

    def root(self, component, name, changes):
        """Return a pod's root, with the volumes that the manifests give it."""
        root = self.folder / name
        for folder in ("etc/cachefs", "etc/cachefs-token", "run/cachefs", "var/lib/cachefs"):
            (root / folder).mkdir(parents=True)
        document = json.loads(self._configs[component][f"{component}.json"])
        own = document[component]
        if component == "worker":
            own["state_folder"] = f"{root}{own['state_folder']}"
            for tier in own["tiers"]:
                tier["folder"] = f"{root}{tier['folder']}"
            if "socket_folder" in own:
                own["socket_folder"] = f"{root}{own['socket_folder']}"
                Path(own["socket_folder"]).mkdir(parents=True)
        else:
            own["store_url"] = own["store_url"].replace("sqlite:///", f"sqlite:///{root}")
        own.update(changes)
        (root / f"etc/cachefs/{component}.json").write_text(json.dumps(document))
        (root / "etc/cachefs-token/token").write_text(TOKEN)
        return root

    def start(self, component, name, **changes):
        """Start a pod's process; return its addresses."""
        root = self.root(component, name, changes)
        told = {"POD_NAME": name, "POD_IP": "127.0.0.1", "NODE_NAME": f"node-of-{name}"}
        told |= {"POD_NAMESPACE": "cachefs", **self._told[component]}
        command, environment = prepare(component, {**os.environ, **told}, root)
        process = Process(command, log=root / "log", environment=environment)
        self._stack.callback(process.stop)
        return process.addresses


def _values(workload):
    """Return what the manifests say in a container's environment."""
    container = workload["spec"]["template"]["spec"]["containers"][0]
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


@pytest.mark.slow
def test_a_coordinator_and_workers_start_as_pods_and_serve(tmp_path):
    origin = tmp_path / "model"
    origin.mkdir()
    (origin / "weights.bin").write_bytes(os.urandom(3_000_000))
    with ExitStack() as stack:
        pods = Pods(tmp_path / "pods", stack, WHOLE)
        ports = {"http_port": free_port(), "control_port": free_port()}
        reading = {"origin": {"file_roots": [str(origin)]}}
        coordinator = pods.start("coordinator", "cachefs-coordinator-0", **ports, **reading)
        for at in range(2):
            place = {"coordinator": coordinator["control"], "data_port": 0, "control_port": 0}
            place |= reading
            pods.start("worker", f"cachefs-worker-{at}", **place)
        api = Api(coordinator["http"], Secret(TOKEN))
        wait_for(lambda: len(api.get("/v1/view")["members"]) == 2)
        api.post("/v1/datasets", {"name": "model", "origin": {"url": f"file://{origin}"}})
        token = tmp_path / "token"
        token.touch(0o600)
        token.write_text(TOKEN)
        with open_dataset("model", coordinator=coordinator["http"], token_file=token) as dataset:
            assert dataset.read("weights.bin") == (origin / "weights.bin").read_bytes()
        nodes = {f"node-of-cachefs-worker-{at}" for at in range(2)}
        question = {"datasets": [{"name": "model"}]}
        wait_for(
            lambda: {each["node"] for each in api.post("/v1/hints", question)["nodes"]} == nodes
        )


def test_files_of_a_pod_are_readable_by_nobody_else(tmp_path):
    with ExitStack() as stack:
        root = Pods(tmp_path, stack).root("worker", "w", {})
    told = {"POD_NAME": "w", "POD_IP": "127.0.0.1", "NODE_NAME": "n"}
    for _ in range(2):  # a container that starts again finds what it wrote
        command, environment = prepare("worker", told, root)
    config = json.loads(Path(command[command.index("--config") + 1]).read_text())
    assert (config["worker"]["name"], config["worker"]["node_name"]) == ("w", "n")
    assert TOKEN not in json.dumps(config)
    for file in (root / "run/cachefs").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    assert Path(environment["CACHEFS_TOKEN_FILE"]).read_text() == TOKEN


def test_the_stores_password_is_in_no_environment_of_the_process(tmp_path):
    with ExitStack() as stack:
        root = Pods(tmp_path, stack).root("coordinator", "c", {"store_url": ""})
    url = "postgresql://user:dummy@db/cachefs"
    command, environment = prepare(
        "coordinator", {"POD_IP": "127.0.0.1", "CACHEFS_STORE_URL": url}, root
    )
    assert url not in environment.values()
    assert url not in command
    assert (
        json.loads((root / "run/cachefs/coordinator.json").read_text())["coordinator"]["store_url"]
        == url
    )


@pytest.mark.parametrize("lacking", ["POD_NAME", "POD_IP", "NODE_NAME"])
def test_what_a_pod_does_not_know_of_itself_is_named(tmp_path, lacking):
    with ExitStack() as stack:
        root = Pods(tmp_path, stack).root("worker", "w", {})
    told = {"POD_NAME": "w", "POD_IP": "127.0.0.1", "NODE_NAME": "n"}
    del told[lacking]
    with pytest.raises(ConfigError, match=lacking):
        prepare("worker", told, root)


def test_a_worker_of_each_node_is_not_called_after_its_pod(tmp_path):
    with ExitStack() as stack:
        root = Pods(tmp_path, stack).root("worker", "w", {})
    told = {"POD_NAME": "w-x7k2p", "WORKER_NAME": "gpu-n", "POD_IP": "127.0.0.1", "NODE_NAME": "n"}
    command, _ = prepare("worker", told, root)
    config = json.loads(Path(command[command.index("--config") + 1]).read_text())
    assert config["worker"]["name"] == "gpu-n"


def test_the_operator_has_a_token_that_only_it_can_read(tmp_path):
    for folder in ("etc/cachefs-token", "run/cachefs"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "etc/cachefs-token/token").write_text(TOKEN)
    command, environment = prepare("operator", {"CACHEFS_IMAGE": "i"}, tmp_path)
    assert command[1:] == ["-m", "cachefs.k8s.operator"]
    assert environment["CACHEFS_IMAGE"] == "i"
    file = Path(environment["CACHEFS_TOKEN_FILE"])
    assert file.read_text() == TOKEN
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_secret_that_is_not_there_yet_is_named(tmp_path):
    with pytest.raises(ConfigError, match="cachefs-token/token"):
        prepare("operator", {}, tmp_path)


@pytest.mark.skipif(os.getuid() != 0, reason="gives a folder to somebody else")
def test_a_folder_of_the_node_is_given_once(tmp_path):
    folder = tmp_path / "nvme"
    folder.mkdir(mode=0o755)
    for _ in range(2):
        give(65532, [folder])
        status = folder.stat()
        assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (65532, 65532, 0o700)


def test_a_wrong_component_ends_with_a_line_and_no_traceback():
    done = subprocess.run(
        [sys.executable, "-m", "cachefs.k8s.starting", "mount"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "no such component" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_coordinator_trusts_its_own_namespace_and_those_that_were_named(tmp_path):
    pods = Pods(tmp_path, None)
    root = pods.root("coordinator", "c", {})
    told = {"POD_IP": "127.0.0.1", "POD_NAMESPACE": "cachefs"}
    told |= {"CACHEFS_SOURCES": "*=hf://*,ml=s3://ml-*", "CACHEFS_TRUSTED": "ops-*"}
    told["CACHEFS_DESTINATIONS"] = "ml=s3://ml-*"
    prepare("coordinator", told, root)
    written = json.loads((root / "run/cachefs/coordinator.json").read_text())["coordinator"]
    assert written["tenants"] == {
        "trusted": ["cachefs", "ops-*"],
        "sources": ["*=hf://*", "ml=s3://ml-*"],
        "destinations": ["ml=s3://ml-*"],
    }
    assert written["origin"]["file_roots"] == []


@pytest.mark.parametrize("component", ["coordinator", "worker"])
def test_nothing_of_a_pods_own_is_a_dataset(tmp_path, component):
    root = Pods(tmp_path, None).root(component, "pod", {})
    document = json.loads((root / f"etc/cachefs/{component}.json").read_text())
    assert document[component]["origin"]["file_roots"] == []
