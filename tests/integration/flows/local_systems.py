"""``cachefs up`` for tests of flows: commands, the API, and where a flow has come."""

import json
import os
import random
import signal
import subprocess
import sys

from cachefs.cli.system.statefolder import StateFolder
from cachefs.config.secrets import read_token
from cachefs.dataflow.steps.programs.rooms import look, notes_of, rooms_in
from cachefs.errors import CacheFSError
from cachefs.transport.api import Api
from cachefs.transport.processes import ProcessRecord
from tests.unit.dataflow.steps.contexts import RUNTIME

BLOCK_SIZE = 64 * 1024
SHELL = ["/bin/sh", "-c"]
SERVE = [*SHELL, "echo ready; exec sleep 600"]


class LocalSystem:
    """One state folder, and what runs on it; a context manager."""

    def __init__(self, folder, *, workers=1):
        self.folder = folder
        self.state = StateFolder(folder / "state")
        self._workers = workers
        clean = {name: value for name, value in os.environ.items() if "CACHEFS" not in name}
        self.environment = {
            **clean,
            "CACHEFS_STATE": str(self.state.path),
            "CACHEFS_RUN": str(folder / "run"),
            "CACHEFS_CLUSTER__BLOCK_SIZE": str(BLOCK_SIZE),
            "CACHEFS_CLUSTER__LEASE_SECONDS": "2",
            "HOOK_URL": "",
        }

    def __enter__(self):
        self.up("--workers", str(self._workers))
        return self

    def __exit__(self, *_):
        self.run("down")

    def up(self, *flags):
        done = self.run("up", "--detach", "--disk", "256MiB", "--no-gateway", *flags)
        assert done.returncode == 0, done.stderr

    def run(self, *words, seconds=120):
        return subprocess.run(
            [sys.executable, "-m", "cachefs.cli", *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    @property
    def api(self):
        document = json.loads(self.state.cluster.read_text())
        return Api(document["coordinator"]["http"], read_token(self.state.token))

    def api_address(self):
        """Return where the API is, and its token."""
        document = json.loads(self.state.cluster.read_text())
        return document["coordinator"]["http"], self.state.token.read_text().strip()

    def add_dataset(self, name, files, *, folder=None):
        """Write files (path → bytes or their number) to a folder of their own, and declare it."""
        where = self.folder / (folder or name)
        where.mkdir(exist_ok=True)
        for path, content in files.items():
            data = content if isinstance(content, bytes) else random.Random(path).randbytes(content)
            (where / path).write_bytes(data)
        return self.api.post("/v1/datasets", {"name": name, "origin": {"url": f"file://{where}"}})

    def submit(self, document, params=None, *, key=""):
        headers = {"Idempotency-Key": key} if key else {}
        body = {"document": document, "params": params or {}}
        return self.api.post("/v1/runs", body, headers=headers)["id"]

    def status(self, run):
        return self.api.get(f"/v1/runs/{run}")

    def wait(self, run, *states, seconds=60.0):
        """Return a run once it is in one of some states; over, if none is named."""
        wanted = states or ("Succeeded", "Failed", "Cancelled", "RolledBack")
        return self.until(run, lambda status: status["run"]["state"] in wanted, seconds)

    def wait_for_step(self, run, step, *states, seconds=60.0):
        return self.until(run, lambda status: states_of(status).get(step) in states, seconds)

    def until(self, run, condition, seconds=60.0):
        """Return a run once a condition holds of it."""
        give_up = RUNTIME.monotonic() + seconds
        while True:
            try:
                status = self.status(run)
            except CacheFSError:  # its coordinator is being started again
                status = None
            if status is not None and condition(status):
                return status
            assert RUNTIME.monotonic() < give_up, (status, self.events(run))
            RUNTIME.sleep(0.02)

    def events(self, run):
        return self.api.get(f"/v1/runs/{run}/events")["events"]

    def members(self):
        return [one["worker"] for one in self.api.get("/v1/view")["members"]]

    def live_replicas(self):
        """Return the rooms of the replicas that live."""
        rooms = rooms_in(self.state.programs)
        return [room for room in rooms if notes_of(room) and look(room).active]

    def process(self, name):
        records = ProcessRecord.read(json.loads(self.state.processes.read_text()))
        return next(record for record in records if record.name == name)

    def kill(self, name):
        assert self.process(name).send(signal.SIGKILL)


def states_of(status):
    return {step["id"]: step["state"] for step in status["steps"]}


def step_of(status, name):
    return next(step for step in status["steps"] if step["id"] == name)
