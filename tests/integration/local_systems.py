"""``cachefs up`` for tests: one state folder, commands on it, and the processes that run there.

A command costs a third of a second as a process of its own, and next to nothing in this one. So most are
run here; those that are about the process itself are not.
"""

import io
import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from cachefs.cli import main
from cachefs.cli.session import Session
from cachefs.cli.system.statefolder import StateFolder
from cachefs.transport.processes import ProcessRecord

COMMAND_SECONDS = 60.0


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


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
        """Run a command in this process; not from several threads at once."""
        streams = {
            name: io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
            for name in ("stdout", "stderr")
        }
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() - self.environment.keys():
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["cachefs", *words])
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            code = main.run()
        return Done(code, *(stream.buffer.getvalue().decode() for stream in streams.values()))

    def do(self, *words):
        """Run a command that must succeed."""
        done = self.run(*words)
        assert done.returncode == 0, done.stderr
        return done

    def ask(self, *words):
        """Run a command that must succeed; return the JSON that it prints."""
        return json.loads(self.do(*words, "--json").stdout)

    def up(self, *words):
        """Start it in the background."""
        self.do("up", "--detach", "--disk", "64MiB", *words)

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

    def members(self):
        return {each["worker"] for each in self.api.get("/v1/view")["members"]}
