"""``cachefs up`` for tests: one state folder, commands on it, and the processes that run there."""

import json
import os
import subprocess
import sys

from cachefs.cli.session import Session
from cachefs.cli.system.statefolder import StateFolder
from cachefs.errors import CacheFSError
from cachefs.transport.processes import ProcessRecord
from tests.integration.commands import run_here
from tests.integration.systems import wait_for

COMMAND_SECONDS = 60.0


class LocalSystem:
    """One state folder, and commands on it; a context manager that stops what runs."""

    def __init__(self, path):
        self.folder = StateFolder(path)
        self.environment = {
            **{name: value for name, value in os.environ.items() if "CACHEFS" not in name},
            "CACHEFS_STATE": str(self.folder.path),
            "CACHEFS_CLUSTER__BLOCK_SIZE": "64KiB",
            "CACHEFS_CLUSTER__LEASE_SECONDS": "2s",
            "CACHEFS_WORKER__FILL__BACKOFF_SECONDS": "50ms",
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        records = list(self.processes().values()) if self.folder.processes.exists() else []
        self.run("down")
        assert not [record.name for record in records if record.alive]
        assert not self.folder.memory.exists()

    def command(self, *words):
        """Return a command to be run as a process, in ``environment``."""
        return [sys.executable, "-m", "cachefs.cli", *words]

    def run_process(self, *words):
        """Run a command as a person does."""
        return subprocess.run(
            self.command(*words),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )

    def run(self, *words):
        """Run a command in this process."""
        return run_here(self.environment, *words)

    def do(self, *words):
        """Run a command that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done

    def ask(self, *words):
        """Run a command that must succeed; return the JSON that it prints."""
        return json.loads(self.do(*words, "--json").stdout)

    def up(self, *words):
        """Start it in the background; without endpoints, unless the words are for them."""
        gateway = () if "--gateway" in words else ("--no-gateway",)
        self.do("up", "--detach", "--disk", "64MiB", *gateway, *words)

    def have(self, workers):
        """Have so many workers, and no bounds, zones, policies and datasets that a test has left."""
        if not self.folder.is_locked():
            self.up("--workers", str(workers))
        policies = self.api.get("/v1/policies")
        none = {section: dict.fromkeys(policies[section]) for section in ("pools", "datasets")}
        self.api.fetch("PATCH", "/v1/policies", none)
        for dataset in self.api.get("/v1/datasets")["datasets"]:
            self.do("dataset", "rm", dataset["name"])
        change = {"wanted": workers, "wanted_by_zone": {}, "least": 0, "most": None, "by": "test"}
        self.api.fetch("PUT", "/v1/pools/default", change)
        wait_for(lambda: self.live() == workers and self.workers() == self.members(), seconds=40)

    def live(self):
        """Return how many workers there are, once they are those that there shall be; else nothing."""
        pool = self.api.get("/v1/pools/default")
        return pool["live"] if pool["settled"] else None

    @property
    def api(self):
        return Session(self.folder.path).api

    def processes(self):
        """Return the records of the processes, by name, as the supervisor wrote them down last."""
        document = json.loads(self.folder.processes.read_text())
        return {record.name: record for record in ProcessRecord.read(document)}

    def workers(self):
        return {name for name in self.processes() if name.startswith("worker")}

    def address(self, name):
        return json.loads((self.folder.path / "addresses.json").read_text())[name]["data"]

    def is_answering(self):
        """Whether the coordinator does."""
        try:
            return bool(self.api.get("/v1/view"))
        except CacheFSError:
            return False

    def members(self):
        return {each["worker"] for each in self.api.get("/v1/view")["members"]}
