"""Real Slurm: features are published to it, and it places jobs by what a hint says.

``slurmctld``, three ``slurmd`` on this machine and their ``munged`` are started for this file, each with
a folder of the test's, and end with it. Jobs say on which node they ran.
"""

import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from cachefs.benchmarks.nginx import free_port
from cachefs.cli import session
from cachefs.cli.hinting.slurming import publish_slurm
from cachefs.core.names import DatasetName
from cachefs.errors import ConfigError
from cachefs.hints.renderings.slurm import feature, parse_nodes, slurm, table, updates
from tests.integration.systems import wait_for
from tests.unit.hints.making import hint, node, question

pytestmark = pytest.mark.slow

PROGRAMS = ("munged", "slurmctld", "slurmd", "scontrol", "srun", "sinfo")
NODES = ("n1", "n2", "n3")
COMMAND_SECONDS = 20.0
HINTS_DOCUMENT = Path(__file__).parents[3] / "docs" / "HINTS.md"

CONFIG = """\
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldPidFile={folder}/slurmctld.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobSubmitPlugins=lua
SchedulerParameters=ignore_prefer_validation
ReturnToService=2
MailProg=/bin/true
PartitionName=all Nodes={nodes} Default=YES State=UP
"""


def find_programs() -> dict[str, str]:
    """Return where Slurm's programs are, or skip the tests."""
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    found = {name: shutil.which(name, path=path) for name in PROGRAMS}
    missing = [name for name, where in found.items() if where is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurmctld slurmd slurm-client munge")
    return {name: where for name, where in found.items() if where is not None}


class Slurm:
    """A cluster of three nodes on this machine; a context manager."""

    def __init__(self, folder: Path, job_submit: str) -> None:
        self._programs = find_programs()
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        user = Path(f"/proc/{os.getpid()}").owner()
        names = "".join(
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={free_port()} CPUs=1"
            f"{' Features=site' if name == 'n1' else ''}\n"
            for name in NODES
        )
        for each in ("state", "munge", *(f"spool.{name}" for name in NODES)):
            (folder / each).mkdir(mode=0o755)
        (folder / "slurm.conf").write_text(
            CONFIG.format(port=free_port(), user=user, folder=folder, nodes=",".join(NODES)) + names
        )
        (folder / "job_submit.lua").write_text(job_submit)
        key = folder / "munge" / "key"
        key.touch(mode=0o600)
        key.write_bytes(os.urandom(128))

    def __enter__(self):
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _start(self) -> None:
        munge = self._folder / "munge"
        self._run_on(
            "munged",
            "--foreground",
            "--force",  # the folders above ours may be anybody's to write
            *(
                f"--{kind}={munge / kind}"
                for kind in ("socket", "key-file", "pid-file", "seed-file")
            ),
            f"--key-file={munge / 'key'}",
            f"--log-file={munge / 'log'}",
        )
        wait_for((munge / "socket").exists, what="munged did not start")
        config = ("-D", "-f", str(self._folder / "slurm.conf"))
        self._run_on("slurmctld", *config, "-i")
        for name in NODES:
            self._run_on("slurmd", *config, "-N", name)
        wait_for(self._is_idle, seconds=30.0, what=self._log)

    def _is_idle(self) -> bool:
        with suppress(AssertionError):
            return self.run("sinfo", "--noheader", "--format=%D %t").strip() == "3 idle"
        return False

    def _log(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self._folder.glob("*.log"))

    def _run_on(self, program: str, *arguments: str) -> None:
        with (self._folder / f"{program}.{len(self._processes)}.log").open("wb") as log:
            self._processes.append(
                subprocess.Popen(
                    [self._programs[program], *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    def run(self, program: str, *arguments: str) -> str:
        """Run one of Slurm's commands; return what it says."""
        done = subprocess.run(
            [self._programs[program], *arguments],
            env={**os.environ, "SLURM_CONF": str(self._folder / "slurm.conf")},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def place(self, *options: str) -> list[str]:
        """Run a job; return the nodes that it ran on."""
        wait_for(self._is_idle, what=self._log)  # the last job's node is not free at once
        # An immediate job fails where it would wait: no test hangs on a preference that binds.
        options = ("--immediate=10", *options)
        return sorted(self.run("srun", *options, "printenv", "SLURMD_NODENAME").split())

    def publish(self, wanted) -> int:
        """Publish features as a hint's rendering has them; return with how many commands."""
        known = parse_nodes(self.run("scontrol", "--oneliner", "show", "nodes"))
        commands = updates(known, wanted)
        for command in commands:
            self.run(*command)
        return len(commands)

    def features(self) -> dict[str, tuple[str, ...]]:
        nodes = parse_nodes(self.run("scontrol", "--oneliner", "show", "nodes"))
        return {name: each.active for name, each in nodes.items()}

    def enter(self, patch: pytest.MonkeyPatch) -> None:
        """Let this process be one that runs Slurm's commands."""
        patch.setenv("SLURM_CONF", str(self._folder / "slurm.conf"))

    def close(self) -> None:
        """End all processes, the last that was started first."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(timeout=10.0)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def job_submit(table: Path) -> str:
    """Return the script that the document tells people to install, reading another file."""
    (script,) = re.findall(r"```lua\n(.*?)```", HINTS_DOCUMENT.read_text(), flags=re.DOTALL)
    assert '"/run/cachefs/slurm"' in script
    return script.replace("/run/cachefs/slurm", str(table))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slurm")
    with Slurm(folder, job_submit(folder / "table")) as running:
        running.table = folder / "table"
        yield running


@pytest.fixture
def slurm_cluster(cluster):
    """Return the cluster, with no features of ours and no table."""
    cluster.publish({})
    cluster.table.unlink(missing_ok=True)
    return cluster


HELD_BY_N3 = hint(
    node("n3", 3.0, held=100), node("n2", 40.0, held=30, arriving=10), node("n1", 300.0)
)
LLAMA = DatasetName("default", "llama")


def test_a_job_goes_where_a_hint_says_once_features_are_published(slurm_cluster):
    rendered = slurm(HELD_BY_N3, question("llama"))
    assert slurm_cluster.publish(rendered["features"]) == 2
    assert slurm_cluster.place() == ["n1"]
    assert rendered["arguments"] == [f"--prefer={feature(LLAMA, 'hot')}"]
    assert slurm_cluster.place(*rendered["arguments"]) == ["n3"]


def test_publishing_leaves_the_sites_features_and_takes_ours_back(slurm_cluster):
    slurm_cluster.publish({name: [feature(LLAMA, "warm")] for name in NODES})
    assert slurm_cluster.features() == {
        "n1": ("site", feature(LLAMA, "warm")),
        "n2": (feature(LLAMA, "warm"),),
        "n3": (feature(LLAMA, "warm"),),
    }
    slurm_cluster.publish({"n2": [feature(LLAMA, "warm")]})
    assert slurm_cluster.features() == {
        "n1": ("site",),
        "n2": (feature(LLAMA, "warm"),),
        "n3": (),
    }
    assert slurm_cluster.publish({"n2": [feature(LLAMA, "warm")]}) == 0


def test_a_gang_prefers_as_many_nodes_as_it_needs(slurm_cluster):
    rendered = slurm(HELD_BY_N3, question("llama"))
    slurm_cluster.publish(rendered["features"])
    # One node is hot, and Slurm does not prefer what only a part of the job could have.
    assert slurm_cluster.place("--nodes=2", f"--prefer={feature(LLAMA, 'hot')}") == ["n1", "n2"]
    assert slurm_cluster.place("--nodes=2", f"--prefer={feature(LLAMA, 'warm')}") == ["n2", "n3"]


def test_a_required_dataset_binds_and_a_late_node_is_excluded(slurm_cluster):
    required = slurm(hint(*HELD_BY_N3.nodes[:2]), question(required=("llama",)))
    slurm_cluster.publish(required["features"])
    assert slurm_cluster.place("--exclude=n3", *required["arguments"]) == ["n2"]
    late = slurm(HELD_BY_N3, question("tokens", deadline_seconds=20.0))
    assert late["exclude"] == "n1,n2"
    assert slurm_cluster.place(f"--exclude={late['exclude']}") == ["n3"]


def test_a_preference_that_no_node_meets_stops_no_job(slurm_cluster):
    rendered = slurm(HELD_BY_N3, question("llama"))
    slurm_cluster.publish(rendered["features"])
    assert slurm_cluster.place("--exclude=n3", *rendered["arguments"]) == ["n1"]
    assert slurm_cluster.place("--prefer=cf_00000000_hot") == ["n1"]  # a feature of no node


def test_without_an_opinion_jobs_go_where_they_always_went(slurm_cluster):
    rendered = slurm(hint(), question("llama"))
    assert rendered["arguments"] == []
    assert slurm_cluster.publish(rendered["features"]) == 0
    assert slurm_cluster.place(*rendered["arguments"]) == ["n1"]


def test_the_site_prefers_for_jobs_that_say_what_they_read(slurm_cluster):
    rendered = slurm(HELD_BY_N3, question("llama"))
    slurm_cluster.publish(rendered["features"])
    reads = "--comment=my job cachefs=llama,unheard-of"
    assert slurm_cluster.place(reads) == ["n1"]  # no table yet
    slurm_cluster.table.write_text("garbage\n" + table({"llama": rendered["features"]}))
    assert slurm_cluster.place(reads) == ["n3"]
    assert slurm_cluster.place(reads, "--nodes=2") == ["n2", "n3"]
    assert slurm_cluster.place("--comment=cachefs=qwen") == ["n1"]
    assert slurm_cluster.place() == ["n1"]
    assert slurm_cluster.place(reads, "--prefer=site") == ["n1"]


class Asked:
    """A session with a system that answers about ``llama`` and ``qwen``."""

    def __init__(self, state):
        self.api = self

    def datasets(self):
        return [{"name": "llama"}, {"name": "qwen"}]

    def post(self, path, body, *, timeout_seconds):
        assert (path, body["dry_run"], body["limit"]) == ("/v1/hints", True, 10_000)
        (name,) = (each["name"] for each in body["datasets"])
        told = HELD_BY_N3 if name == "llama" else hint(node("elsewhere", 2.0, held=100))
        return {"renderings": {"slurm": slurm(told, question(name))}}


def test_the_command_publishes_features_and_the_table(slurm_cluster, monkeypatch, capsys):
    slurm_cluster.enter(monkeypatch)
    monkeypatch.setattr(session, "Session", Asked)
    publish_slurm(dry_run=True, table=slurm_cluster.table)
    planned = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in planned] == ["NodeName=n2", "NodeName=n3"]
    assert slurm_cluster.features()["n3"] == ()
    assert not slurm_cluster.table.exists()
    publish_slurm(table=slurm_cluster.table)
    assert slurm_cluster.features()["n3"] == (feature(LLAMA, "hot"), feature(LLAMA, "warm"))
    assert slurm_cluster.table.read_text() == (
        f"llama {feature(LLAMA, 'hot')} 1\nllama {feature(LLAMA, 'warm')} 2\n"
    )
    assert "1 of their nodes" in capsys.readouterr().err
    assert slurm_cluster.place("--comment=cachefs=llama") == ["n3"]


def test_the_command_wants_slurms_programs(monkeypatch):
    monkeypatch.setattr(session, "Session", Asked)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigError, match="there is no scontrol here"):
        publish_slurm(["llama"])
